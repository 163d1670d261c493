"""Pipelines: other values, keys and classes at any node, damaged YAML, bases, overlays and options."""

from functools import cache
from pathlib import Path
from typing import Any

from caloman.specification import read_layers
from caloman.training.config import load_pipeline
from fuzz import Commands
from fuzz._plain import VALUES, Rng, damaged, places

DAMAGES = ("file", "overlay", "option")
MOST = 1
SHIPPED = (
    "1-photons/caloman",
    "1-photons/caloinn_small",
    "2/caloman",
    "1-photons/caloflow_student",
    "2/l2lflows_small",
)
BASES = ("pipeline", "2/caloman", "../..", "/etc/passwd", "7", "[a]", "/dev/zero")


@cache
def shipped(name: str) -> dict[str, Any]:
    return read_layers(name)


def fit(pipeline: str, *options: str) -> list[str]:
    """A command that reads a pipeline and trains nothing."""
    return ["fit", pipeline, "--output", "run", "--stage", "none", *options]


def warm(folder: Path) -> Commands:
    for name in SHIPPED:
        load_pipeline(name)
    return []


def write(folder: Path, rng: Rng, damages: list[str]) -> Commands:
    spec, (place,) = shipped(SHIPPED[rng.integers(len(SHIPPED))]), damages
    path = folder / "pipeline.yaml"
    if place == "option":
        ways = [".".join(map(str, way)).replace("init_args.", "") for way in places(spec)]
        key, value = ways[rng.integers(len(ways))], VALUES[rng.integers(len(VALUES))]
        return [fit(SHIPPED[0], f"--{key}={value}")]
    text = damaged(spec, rng)
    if place == "overlay":
        path.write_text(text, errors="surrogatepass")
        return [fit(SHIPPED[0], "--trainer", str(path))]
    if rng.random() < 0.2:
        text += f"\nbase: {BASES[rng.integers(len(BASES))]}\n"
    path.write_text(text, errors="surrogatepass")
    return [fit(str(path))]
