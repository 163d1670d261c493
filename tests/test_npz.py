"""NumPy archives as sources of `caloman prepare`."""

import zipfile

import numpy as np
import pytest

from caloman.cli import main
from caloman.data.npz import NpzFile
from caloman.errors import CalomanError
from caloman.showers.geometry import Geometry, Layer
from caloman.showers.showers import Showers
from caloman.showers.slices import ShowerSlice

MESH = Geometry("mesh", "photon", tuple(Layer(i, (0, 1, 3), 4) for i in range(5)))


@pytest.fixture
def arrays(rng):
    voxels, energies = rng.gamma(0.5, size=(30, 5, 4, 2)), rng.uniform(1e3, 5e4, 30)
    return {"showers": voxels, "incident_energies": energies, "incident_theta": rng.uniform(0.9, 2.2, (30, 1))}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("rows", [slice(0, 30), slice(3, 25)])
def test_archives_become_shower_files(tmp_path, arrays, monkeypatch, save, rows):
    monkeypatch.setattr("caloman.data.foreign.BLOCK_BYTES", 7 * 4 * MESH.n_voxels)
    MESH.to_xml(tmp_path / "mesh.xml")
    save(tmp_path / "in.npz", **arrays)
    source, target = f"{tmp_path}/in.npz[{rows.start}:{rows.stop}]", tmp_path / "out.hdf5"
    assert main(["prepare", source, str(target), "--format", "npz", "--dataset", str(tmp_path / "mesh.xml")]) == 0
    showers = Showers.load(target, MESH)
    np.testing.assert_array_equal(showers.voxels, arrays["showers"][rows].reshape(-1, 40).astype(np.float32))
    np.testing.assert_array_equal(showers.incident_energies, arrays["incident_energies"][rows].astype(np.float32))
    np.testing.assert_array_equal(showers.conditions["theta"], arrays["incident_theta"][rows, 0].astype(np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"showers": np.ones((30, 39))}, "instead of 40 numbers per shower"),
        ({"showers": np.array([{}] * 30, dtype=object)}, "has no rows of numbers"),
        ({"showers": np.ones((40, 30)).T}, "ascontiguousarray"),
        ({"showers": np.ones((29, 40))}, "one row per shower"),
        ({"showers": -np.ones((30, 40))}, "not negative"),
        ({"incident_energies": np.zeros(30)}, "energies must be positive"),
        ({"incident_energies": np.ones((0,)), "showers": np.ones((0, 40))}, "claims 0 rows"),
        ({"showers": None}, "no array 'showers'"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, arrays, change, message):
    content = {name: values for name, values in {**arrays, **change}.items() if values is not None}
    np.savez(tmp_path / "in.npz", **content)
    with pytest.raises(CalomanError, match=message), NpzFile(ShowerSlice(tmp_path / "in.npz"), MESH) as file:
        list(file.blocks())


def test_what_an_archive_claims_must_be_there(tmp_path, arrays):
    """A header of a million showers in front of a few bytes, and zeros that unpack to far more than was stored."""
    path = tmp_path / "in.npz"
    np.savez(path, **arrays)
    with zipfile.ZipFile(path, "a") as archive, archive.open("incident_phi.npy", "w") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 1)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(100))
    with pytest.raises(CalomanError, match="'incident_phi' claims 1000000 rows"):
        NpzFile(ShowerSlice(path), MESH)


def test_damaged_archives_are_refused_in_a_sentence(tmp_path, arrays, rng):
    path = tmp_path / "in.npz"
    np.savez_compressed(path, **arrays)
    content = path.read_bytes()
    refused = []
    for _ in range(60):
        damaged = bytearray(content)
        for place in rng.integers(len(content), size=5):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged if rng.random() < 0.7 else damaged[: rng.integers(len(content))])
        try:
            with NpzFile(ShowerSlice(path), MESH) as file:
                list(file.blocks())
        except CalomanError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert all(message.startswith(str(path)) for message in refused)


def test_other_commands_say_what_to_do_with_an_archive(tmp_path, arrays, capsys):
    np.savez(tmp_path / "in.npz", **arrays)
    assert main(["check", str(tmp_path / "in.npz"), "--dataset", "2"]) == 1
    assert "caloman prepare" in capsys.readouterr().err
