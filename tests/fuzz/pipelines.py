"""Pipelines: other values, keys and classes at any node, damaged YAML, bases, overlays and options."""

from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from caloman.specification import read_layers
from fuzz import Case
from fuzz._plain import VALUES, Rng, damaged, places

COMMANDS = ("fit",)
SHIPPED = (
    "1-photons/caloman",
    "1-photons/caloinn_small",
    "2/caloman",
    "1-photons/caloflow_student",
    "2/l2lflows_small",
)


@cache
def shipped(name: str) -> dict[str, Any]:
    return read_layers(name)


def cases(seed: int) -> Iterator[Case]:
    for number in count():
        rng = np.random.default_rng([seed, number])
        yield Case("pipeline", lambda folder, rng=rng: write(folder, rng))


def write(folder: Path, rng: Rng) -> list[list[str]]:
    spec = shipped(SHIPPED[rng.integers(len(SHIPPED))])
    path = folder / "pipeline.yaml"
    text = damaged(spec, rng)
    if rng.random() < 0.1:
        text += f"\nbase: {rng.choice(['pipeline', '2/caloman', '../..', '/etc/passwd', '7', '[a]', '/dev/zero'])}\n"
    path.write_text(text, errors="surrogatepass")
    (folder / "overlay.yaml").write_text(damaged(spec, rng), errors="surrogatepass")
    ways = [".".join(map(str, way)).replace("init_args.", "") for way in places(spec)]
    key, value = ways[rng.integers(len(ways))], VALUES[rng.integers(len(VALUES))]
    start = ["fit", str(path), "--output", "run", "--stage", "none"]
    return [start, ["fit", SHIPPED[0], *start[2:], "--trainer", str(folder / "overlay.yaml")],
            ["fit", SHIPPED[0], *start[2:], f"--{key}={value}"]]  # fmt: skip
