import h5py
import numpy as np
import pytest
import torch

from caloman import bundle
from caloman.errors import CalomanError
from caloman.generation import generate
from caloman.showers import Showers
from caloman.spectra import CHUNK


@pytest.fixture
def generated(run, small, tmp_path):
    def apply(name="out.hdf5", **options):
        generate(run, tmp_path / name, **options)
        return Showers.load(tmp_path / name, small)

    return apply


def test_a_file_equals_what_the_model_samples_in_python(run, generated):
    showers = generated(energies="log-uniform:1GeV:100GeV", n=CHUNK + 7, seed=5)
    sampled = bundle.load(run).sample(showers.incident_energies, seed=5)
    np.testing.assert_array_equal(showers.voxels, sampled.voxels)
    assert len(showers) == CHUNK + 7


def test_more_showers_begin_with_the_same_energies_and_seeds_differ(generated):
    few = generated(energies="uniform:1GeV:2GeV", n=500, seed=1)
    many = generated(energies="uniform:1GeV:2GeV", n=2 * CHUNK, seed=1)
    other = generated(energies="uniform:1GeV:2GeV", n=500, seed=2)
    np.testing.assert_array_equal(many.incident_energies[:500], few.incident_energies)
    assert not np.isin(other.incident_energies, few.incident_energies).any()


def test_energies_of_a_file_are_used_once_and_in_order(generated, write_hdf5):
    energies = np.linspace(1e3, 1e5, 1234)
    path = write_hdf5({"incident_energies": energies[:, None]}, "energies.hdf5")
    np.testing.assert_array_equal(generated(energies=str(path)).incident_energies, energies.astype(np.float32))


def test_a_file_says_how_it_was_made(generated, tmp_path):
    generated(energies="1GeV,2GeV", n=3, seed=4)
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert {key: file.attrs[key] for key in ("seed", "chunk", "energies", "dataset")} == {
            "seed": 4, "chunk": CHUNK, "energies": "1GeV,2GeV", "dataset": "small",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energies": "2TeV"}, "outside the range"),
        ({"energies": "log-uniform:1GeV:2TeV", "n": 2000}, "outside the range"),
        ({"energies": "log-uniform:1GeV:10GeV"}, "--n"),
        ({"energies": "1GeV", "n": 0}, "--n"),
        ({"energies": "10furlongs"}, "10furlongs"),
        ({}, "--energies"),
    ],
)
def test_a_bad_request_names_the_fault_and_leaves_what_was_there(generated, tmp_path, options, message):
    before = generated(energies="1GeV", n=5).voxels
    with pytest.raises(CalomanError, match=message):
        generated(**options)
    np.testing.assert_array_equal(generated(name="again.hdf5", energies="1GeV", n=5).voxels, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.hdf5", "out.hdf5", "run"]


def test_a_folder_that_does_not_exist_is_named(run, tmp_path):
    with pytest.raises(CalomanError, match="nowhere"):
        generate(run, tmp_path / "nowhere" / "out.hdf5", energies="1GeV")
