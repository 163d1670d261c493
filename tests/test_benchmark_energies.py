"""The benchmark between energies selects by energy, and its columns exist."""

import runpy
from pathlib import Path

import numpy as np

from caloman.evaluation.measures import MEASURES
from caloman.showers.geometry import Geometry
from caloman.showers.showers import Showers

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "benchmark_energies.py"))


def test_columns_are_measures():
    assert set(SCRIPT["COLUMNS"].values()) <= set(MEASURES)


def test_showers_of_one_energy_are_selected_in_order(make_showers, tmp_path):
    geometry = Geometry.load("1-photons")
    voxels = make_showers(30, geometry).voxels
    energies = np.tile(np.array([256.0, 512.0, 1024.0], dtype=np.float32), 10)
    Showers(energies, voxels, geometry).save(tmp_path / "all.hdf5")
    path = SCRIPT["select"](str(tmp_path / "all.hdf5"), 512.0, tmp_path / "some.hdf5")
    selected = Showers.load(path, geometry)
    np.testing.assert_array_equal(selected.voxels, voxels[1::3])
    assert set(selected.incident_energies) == {512.0}
