"""Bundles: damaged manifests, weights and meshes, with digests that are right, and odd files in their places."""

import copy
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import TINY_MODEL as MODEL
from safetensors.torch import load, save_file

from caloman import bundle
from caloman.files import sha256
from caloman.showers.conditions import ENERGY_ONLY, Conditions
from caloman.specification import read_layers, read_yaml, to_yaml
from fuzz import Commands
from fuzz._plain import Rng, damaged
from fuzz._plain import places as ways_to
from fuzz.meshes import DAMAGES as MESH_DAMAGES
from fuzz.meshes import SMALL as MESH
from fuzz.pipelines import SHIPPED

MOST = 1

Damage = Callable[[Path, Rng], None]


@cache
def whole(conditions: Conditions | None = None) -> dict[str, bytes]:
    """The files of a bundle of a random model."""
    with tempfile.TemporaryDirectory() as folder:
        model = bundle.build_model(MODEL, MESH, conditions or ENERGY_ONLY, Path(folder))
        model.conditions = conditions or Conditions.energies(1e2, 1e5)
        files = [{"name": f"{name}.hdf5[0:5]", "sha256": sha256(Path(__file__))} for name in "ab"]
        bundle.save(model, MODEL, {"files": files, "showers": 10, "seed": 1}, Path(folder) / "bundle")
        return {path.name: path.read_bytes() for path in (Path(folder) / "bundle").iterdir()}


def write_bundle(path: Path, conditions: Conditions | None = None) -> None:
    path.mkdir()
    for name, content in whole(conditions).items():
        (path / name).write_bytes(content)


def warm(folder: Path) -> Commands:
    return write(folder, np.random.default_rng(1), [])


def write(folder: Path, rng: Rng, damages: list[Damage]) -> Commands:
    path = folder / "bundle"
    write_bundle(path)
    for damage in damages:
        damage(path, rng)
    return [["generate", str(path), "out.hdf5", "--energies", "1GeV", "--n", "2"]]


def signed(path: Path) -> None:
    """Makes the digests right again, as an attacker would."""
    config = read_yaml(path / "config.yaml")
    config["files"] = {name: sha256(path / name) for name in bundle.HASHED}
    (path / "config.yaml").write_text(to_yaml(config))


def manifest(path: Path, rng: Rng) -> None:
    config = read_yaml(path / "config.yaml")
    (path / "config.yaml").write_text(damaged(config, rng), errors="surrogatepass")


def section(path: Path, rng: Rng, names: tuple[str, ...] = ("training", "conditions", "files")) -> None:
    config = copy.deepcopy(read_yaml(path / "config.yaml"))
    name = names[rng.integers(len(names))]
    text = "\n".join(f"  {line}" for line in damaged(config.pop(name), rng).splitlines())
    (path / "config.yaml").write_text(f"{to_yaml(config)}{name}:\n{text}\n", errors="surrogatepass")


def model(path: Path, rng: Rng) -> None:
    section(path, rng, ("model",))


@cache
def shipped(name: str) -> dict:
    return read_layers(name)["model"]


def another_model(path: Path, rng: Rng) -> None:
    """The classes of another generator, some with sizes as large as they may be."""
    config = read_yaml(path / "config.yaml")
    config["model"] = copy.deepcopy(shipped(SHIPPED[rng.integers(len(SHIPPED))]))
    sizes = [way for way in ways_to(config["model"]) if isinstance(_at(config["model"], way), int)]
    for _ in range(rng.integers(3) if sizes else 0):
        *way, key = sizes[rng.integers(len(sizes))]
        _at(config["model"], way)[key] = int(rng.choice([0, 1, 3, 10**3, 10**5, 10**6]))
    (path / "config.yaml").write_text(to_yaml(config))


def _at(value: Any, way: Sequence[Any]) -> Any:
    for key in way:
        value = value[key]
    return value


def older(path: Path, rng: Rng) -> None:
    """Trained energies as a tensor, as bundles from before other conditions have them, of any shape and type."""
    config = read_yaml(path / "config.yaml")
    config.pop("conditions")
    (path / "config.yaml").write_text(to_yaml(config))
    ranges = (
        3.0,
        [],
        [1.0],
        [[1e2, 1e5]],
        [1e5, 1e2],
        [1e2, 1e5],
        [float("nan")] * 2,
        [0, 100],
        [True, True],
        [0.0] * 9,
    )
    tensors = load((path / "model.safetensors").read_bytes())
    save_file(tensors | {"energy_range": torch.tensor(ranges[rng.integers(len(ranges))])}, path / "model.safetensors")
    signed(path)


def mesh(path: Path, rng: Rng) -> None:
    file = path / "geometry.xml"
    text = MESH_DAMAGES[rng.integers(len(MESH_DAMAGES))](file.read_text(), rng)
    file.write_text(text, errors="surrogatepass")
    signed(path)


def header(path: Path, rng: Rng) -> None:
    """Another header of the weights: shapes, offsets, types, and lengths that are not there."""
    file = path / "model.safetensors"
    content = file.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    entries = json.loads(content[8 : 8 + size])
    name = str(rng.choice(sorted(entries)))
    change = rng.integers(6)
    if change == 0:
        entries[name]["shape"] = rng.choice([0, 1, 2**31, 2**62], size=2).tolist()
    elif change == 1:
        entries[name]["data_offsets"] = rng.choice([0, 1, 2**40], size=2).tolist()
    elif change == 2:
        entries[name]["dtype"] = str(rng.choice(["F64", "BF16", "I64", "BOOL", "X"]))
    elif change == 3:
        entries["../other" if rng.random() < 0.5 else "x" * 10**5] = entries.pop(name)
    text = json.dumps(entries).encode()
    length = int(rng.choice([0, 2**20, 2**40, 2**63])) if change == 4 else len(text)
    file.write_bytes(struct.pack("<Q", length) + text + content[8 + size :])
    signed(path)


def weights(path: Path, rng: Rng) -> None:
    """Weights that are damaged, or not numbers."""
    file = path / "model.safetensors"
    content = bytearray(file.read_bytes())
    start = len(content) // 2
    if rng.random() < 0.5:
        content[start:] = np.full((len(content) - start) // 4 + 1, rng.choice([np.nan, np.inf, 1e38]), "<f4").tobytes()
    else:
        content[start:] = rng.bytes(len(content) - start)
    file.write_bytes(content[: len(file.read_bytes())])
    signed(path)


def file_bytes(path: Path, rng: Rng) -> None:
    file = path / str(rng.choice(sorted(whole())))
    content = bytearray(file.read_bytes())
    for place in rng.integers(len(content), size=3):
        content[place] = rng.integers(256)
    file.write_bytes(content[: rng.integers(len(content)) if rng.random() < 0.3 else None])


def places(path: Path, rng: Rng) -> None:
    """Something else in the place of a file."""
    file = path / str(rng.choice(sorted(whole())))
    file.unlink()
    target = rng.choice(["/dev/zero", "/etc/passwd", str(file), "missing"])
    makers = (os.mkfifo, Path.mkdir, lambda p: p.symlink_to(target), lambda p: None, lambda p: p.write_bytes(b""))
    makers[rng.integers(len(makers))](file)


def twice(path: Path, rng: Rng) -> None:
    """A bundle inside of a bundle."""
    shutil.copytree(path, path / "bundle")
    places(path / "bundle", rng)


DAMAGES = (
    *(manifest, manifest, section, section, model, model, model, another_model, another_model, older),
    *(mesh, header, header, weights, file_bytes, places, twice),
)
