"""Conditions in shower files: tables that are missing, too short or of another kind, degrees, unknown categories."""

from pathlib import Path

import h5py
import numpy as np

from caloman.showers.conditions import Conditions, known
from fuzz import Commands
from fuzz import showers as fuzz_showers
from fuzz._plain import Rng
from fuzz.bundles import write_bundle
from fuzz.showers import write_damaged

MOST = 2
NAMES = ("incident_theta", "incident_phi", "incident_detector", "incident_energies")
SEEN = np.array([[1e2, 0.8, 0.0, 3], *([1e4, 1.0, phi, 7] for phi in np.linspace(-3.1, 3.1, 60)), [1e5, 2.2, 0.0, 7]])
TRAINED = Conditions(map(known, ("incident_energy", "theta", "phi", "detector"))).trained(SEEN)
VALUES = (np.nan, np.inf, -np.inf, -1, 0, 5, 3.5, 90, 359, 2**24 + 2, 2**31, 1e30, 1e300, -1e-300)
ODD_NAMES = ("incident_", "incident_Theta", "incident_incident_energy", "incident_energy", "incident_ theta",
             "incident_" + "a" * 31, "incident_x\u202e", "incident_incident_theta", "Incident_theta")  # fmt: skip


def warm(folder: Path) -> Commands:
    return write(folder, np.random.default_rng(1), [])


def write(folder: Path, rng: Rng, damages: list) -> Commands:
    run, path = folder / "run", folder / "showers.hdf5"
    run.mkdir()
    write_bundle(run / "bundle", TRAINED)
    write_damaged(path, fill, NAMES[rng.integers(len(NAMES))], rng, damages)
    commands = [
        ["check", str(path)],
        ["prepare", str(path), "prepared.h5"],
        ["encode", str(run), str(path), "latents.hdf5"],
        ["generate", str(run), "generated.hdf5", "--energies", str(path)],
    ]
    return [command for command in commands if not damages or rng.random() < 0.5]


def fill(file: h5py.File, rng: Rng) -> None:
    fuzz_showers.fill(file, rng)
    values = (rng.uniform(0.8, 2.2, 50), rng.uniform(-3, 3, 50), rng.choice([3, 7], 50))
    for name, column in zip(NAMES, values, strict=False):
        file[name] = column[:, None].astype("f4")


def odd_value(file: h5py.File, name: str, rng: Rng) -> None:
    file[name][rng.integers(50)] = VALUES[rng.integers(len(VALUES))]


def degrees(file: h5py.File, name: str, rng: Rng) -> None:
    file[name][:] = np.rad2deg(file[name][:])


def another_length(file: h5py.File, name: str, rng: Rng) -> None:
    shapes = [(49, 1), (51, 1), (0, 1), (50,), (50, 2), (1, 50), (25, 2), (1, 1)]
    del file[name]
    file[name] = np.ones(shapes[rng.integers(len(shapes))], "f4")


def another_name(file: h5py.File, name: str, rng: Rng) -> None:
    file[ODD_NAMES[rng.integers(len(ODD_NAMES))]] = np.ones((50, 1), "f4")


def many(file: h5py.File, name: str, rng: Rng) -> None:
    for index in range(int(rng.choice([30, 1000]))):
        file[f"incident_x{index}"] = np.ones((50, 1), "f4")


DAMAGES = (*(odd_value, odd_value, odd_value, degrees, another_length, another_length, another_name, another_name),
           many, *fuzz_showers.DAMAGES)  # fmt: skip
