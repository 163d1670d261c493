"""Results of evaluations: damaged metrics.json, and attributes that the judge reads in shower files."""

import json
import os
import tempfile
from functools import cache
from pathlib import Path

import h5py

from caloman.evaluation import plots
from caloman.evaluation.command import evaluate
from fuzz import Commands
from fuzz import showers as fuzz_showers
from fuzz._plain import Rng, damaged
from fuzz.options import generated

DAMAGES = (*["metrics"] * 8, "place", "showers")
MOST = 1
ATTRIBUTES = (
    "training_showers",
    "trained_on",
    "generator",
    "sources",
    "caloman",
    "model",
    "energies",
    "dataset",
    "geometry",
)
TEXTS = (
    "abc",
    "1e400",
    "-5",
    "9" * 30,
    "nan",
    "",
    "[1]",
    "{}",
    '[{"sha256": "x"}]',
    "\u202e",
    "a\nb",
    "<script>",
    "$x^$",
    "[" * 10**4,
)


@cache
def good() -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.hdf5"
        path.write_bytes(generated())
        other = Path(folder) / "b.hdf5"
        as_geant4(path, other)
        evaluate(path, other, output=Path(folder) / "report", modes=["hist", "prdc"])
        return (Path(folder) / "report" / "metrics.json").read_text()


def as_geant4(path: Path, other: Path) -> None:
    """The same showers without the record that they were generated, and a little larger."""
    other.write_bytes(path.read_bytes())
    with h5py.File(other, "r+") as file:
        for name in ATTRIBUTES[:3]:
            file.attrs.pop(name, None)
        file["showers"][:] *= 1.01


def warm(folder: Path) -> Commands:
    (folder / "good.json").write_text(good())
    return [["compare", str(folder / "good.json"), str(folder / "good.json")]]


def write(folder: Path, rng: Rng, damages: list[str]) -> Commands:
    if damages == ["showers"]:
        return showers(folder, rng, [None])
    path, other = folder / "bad.json", folder / "good.json"
    other.write_text(good())
    if damages == ["place"]:
        makers = (os.mkfifo, Path.mkdir, lambda p: p.symlink_to("/dev/zero"), lambda p: p.symlink_to(p), Path.touch,
                  lambda p: p.write_text("[" * 10**5), lambda p: p.write_bytes(rng.bytes(1000)))  # fmt: skip
        makers[rng.integers(len(makers))](path)
    else:
        path.write_text(damaged(json.loads(good()), rng, json.dumps), errors="surrogatepass")
    pair = [str(path), str(other)] if rng.random() < 0.5 else [str(other), f"{path}:{rng.choice(['a', '', 'x'])}"]
    return [["compare", *pair, "--json", "changes.json"]]


def showers(folder: Path, rng: Rng, damages: list) -> Commands:
    plots.pictures = lambda *_: []  # figures take ten seconds
    paths = folder / "a.hdf5", folder / "b.hdf5"
    paths[0].write_bytes(generated())
    as_geant4(*paths)
    for _ in damages:
        with h5py.File(paths[rng.integers(2)], "r+") as file:
            if rng.random() < 0.5:
                value = (
                    TEXTS[rng.integers(len(TEXTS))] if rng.random() < 0.7 else fuzz_showers.STRANGE[rng.integers(13)]
                )
                file.attrs[str(rng.choice(ATTRIBUTES))] = value
            else:
                fuzz_showers.attribute(file, "showers", rng)
    return [["evaluate", *map(str, paths), "--output", "report", "--modes", "hist"]]
