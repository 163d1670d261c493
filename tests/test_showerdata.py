import struct

import h5py
import numpy as np
import pytest

from caloman.cli import main
from caloman.errors import CalomanError
from caloman.showers.geometry import Geometry, Layer
from caloman.showers.hdf5 import find_table
from caloman.showers.lists import NumberLists
from caloman.showers.showers import Showers

MESH = Geometry("mesh", "photon", (Layer(0, (0, 10, 30), 4), Layer(1, (0, 5, 20, 40), 6), Layer(2, (0, 20))), 1e-3)


@pytest.fixture
def voxels(rng):
    return (rng.gamma(0.5, size=(30, MESH.n_voxels)) * (rng.random((30, MESH.n_voxels)) < 0.5)).astype(np.float32)


def as_points(shower, rng):
    """Two points at random places of each voxel with energy, in random order."""
    points = []
    for layer, columns in zip(MESH.layers, MESH.layer_slices, strict=True):
        for cell in np.flatnonzero(shower[columns]):
            turn, ring = divmod(cell, layer.n_r)
            radius = rng.uniform(*layer.r_edges[ring : ring + 2], 2)
            alpha = -np.pi + (turn + rng.uniform(0.01, 0.99, 2)) * 2 * np.pi / layer.n_alpha
            energies = shower[columns][cell] / 1e3 * np.array([0.3, 0.7])
            points += zip(radius * np.cos(alpha), radius * np.sin(alpha), [layer.id] * 2, energies, strict=True)
    return rng.permutation(np.array(points, np.float32).reshape(-1, 4))


@pytest.fixture
def write(tmp_path, voxels, rng):
    directions = rng.normal(size=(30, 3)) * [1, 1, 0.2] + [0, 0, 2]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    content = {
        "energies": rng.uniform(10, 90, (30, 1)).astype(np.float32),
        "directions": directions.astype(np.float32),
        "pdg": rng.choice([11, 22, -211], 30).astype(np.int32),
        "shape": np.array([30, 99, 4], np.int32),
    }
    MESH.to_xml(tmp_path / "mesh.xml")

    def write(times=False, extra=(), **changed):
        clouds = [np.concatenate([as_points(shower, rng), *extra]) for shower in voxels]
        if times:
            clouds = [np.concatenate([cloud, np.ones((len(cloud), 1))], axis=1) for cloud in clouds]
            changed["shape"] = np.array([30, 99, 5])
        with h5py.File(tmp_path / "in.h5", "w") as file:
            showers = file.create_dataset("showers", (30,), h5py.vlen_dtype(np.dtype("float32")))
            for i, cloud in enumerate(clouds):
                showers[i] = cloud.ravel()
            for name, values in (content | changed).items():
                if values is not None:
                    file[name] = values
        return content

    return write


def prepare(tmp_path, rows=""):
    files = [f"{tmp_path}/in.h5{rows}", str(tmp_path / "out.h5")]
    return main(["prepare", *files, "--format", "showerdata", "--dataset", str(tmp_path / "mesh.xml")])


@pytest.mark.parametrize("times", [False, True])
@pytest.mark.parametrize("rows", [slice(0, 30), slice(3, 25)])
def test_points_of_voxels_give_the_voxels(tmp_path, voxels, write, rows, times):
    content = write(times)
    assert prepare(tmp_path, f"[{rows.start}:{rows.stop}]") == 0
    showers = Showers.load(tmp_path / "out.h5", MESH)
    np.testing.assert_allclose(showers.voxels, voxels[rows], rtol=1e-5)
    np.testing.assert_allclose(showers.incident_energies, 1e3 * content["energies"][rows, 0], rtol=1e-6)
    theta, phi, pdg = (showers.conditions[name] for name in ("theta", "phi", "pdg"))
    directions = [np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)]
    np.testing.assert_allclose(np.transpose(directions), content["directions"][rows], atol=1e-6)
    np.testing.assert_array_equal(pdg, content["pdg"][rows])


def test_energy_outside_the_mesh_is_told(tmp_path, voxels, write, caplog):
    write(extra=[np.array([[50, 0, 1, 1e-3], [0, 0, 7, 1e-3]], np.float32)])
    assert prepare(tmp_path) == 0
    np.testing.assert_allclose(Showers.load(tmp_path / "out.h5", MESH).voxels, voxels, rtol=1e-5)
    assert f"{100 * 60 / (60 + voxels.sum()):.2g} % of the energy lies outside the mesh" in caplog.text


def test_showers_without_points_are_empty(tmp_path, voxels, write):
    voxels[:] = 0
    write()
    assert prepare(tmp_path) == 0
    assert not Showers.load(tmp_path / "out.h5", MESH).voxels.any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pdg": None}, "no 'pdg'; a file of this layout has showers, shape, energies, directions, pdg"),
        ({"shape": np.array([30, 99, 3])}, "needs lists of points 'showers' and their 'shape' (N, points, 4 or 5)"),
        ({"shape": np.array([30, 99, 5])}, "points of 'showers' do not have 5 numbers, as 'shape' says"),
        ({"directions": np.ones((30, 2))}, "needs 'energies' (N, 1) and 'directions' (N, 3)"),
        ({"energies": np.ones((29, 1))}, "needs one row per shower in each table, not showers 30, energies 29"),
        ({"energies": np.zeros((30, 1))}, "'incident_energies' of shower 0 is 0 MeV; energies must be positive"),
        (
            {"directions": np.full((30, 3), np.nan)},
            "'incident_theta' of shower 0 is nan rad; conditions must be finite",
        ),
    ],
)
def test_other_content_is_one_sentence(tmp_path, write, capsys, changed, message):
    write(**changed)
    assert prepare(tmp_path) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"caloman prepare: error: {tmp_path}/in.h5: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("value", [-1e-3, np.nan])
def test_points_with_impossible_energies_are_refused(tmp_path, write, capsys, value):
    write(extra=[np.array([[50, 0, 1, 0], [3, 0, 0, value]], np.float32)] * 40)
    assert prepare(tmp_path) == 1
    assert "'showers' holds" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{}, {"chunks": (7,)}, {"chunks": (7,), "compression": "gzip", "shuffle": True}])
@pytest.mark.parametrize("kind", ["<f4", ">f8", "<i2"])
def test_lists_are_those_that_hdf5_reads(tmp_path, rng, options, kind):
    lists = [rng.integers(-99, 99, n).astype(kind) for n in rng.integers(0, 2000, 20)]
    with h5py.File(tmp_path / "lists.h5", "w", userblock_size=512) as file:
        table = file.create_dataset("lists", (20,), h5py.vlen_dtype(np.dtype(kind)), **options)
        for row, numbers in enumerate(lists):
            table[row] = numbers
    with h5py.File(tmp_path / "lists.h5") as file:
        found = NumberLists(find_table(file, "lists", axes=(1,), lists=True))
        for numbers, expected in zip(found.read(3, 17), lists[3:], strict=True):
            np.testing.assert_array_equal(numbers, expected)


@pytest.mark.parametrize("reference", [(2**31, None, None), (None, 2**40, None), (None, 0, None), (None, None, 999)])
def test_lists_that_are_not_where_they_are_said_to_be_are_refused(tmp_path, write, capsys, reference):
    write()
    with h5py.File(tmp_path / "in.h5") as file:
        place = file["showers"].id.get_offset()
    content = bytearray((tmp_path / "in.h5").read_bytes())
    true = struct.unpack_from("<IQI", content, place)
    struct.pack_into("<IQI", content, place, *(a if b is None else b for a, b in zip(true, reference, strict=True)))
    (tmp_path / "in.h5").write_bytes(content)
    assert prepare(tmp_path) == 1
    assert "in.h5: damaged file, download or generate it again (list 0 of" in capsys.readouterr().err


def test_texts_instead_of_lists_are_refused(tmp_path):
    with h5py.File(tmp_path / "texts.hdf5", "w") as file:
        file.create_dataset("lists", (20,), h5py.string_dtype())
        with pytest.raises(CalomanError, match=r"'lists' is object .* instead of a table of real numbers"):
            find_table(file, "lists", axes=(1,), lists=True)


def test_long_lists_are_read_few_at_a_time(tmp_path, voxels, write, monkeypatch):
    write()
    read, rows = NumberLists.read, []
    monkeypatch.setattr(NumberLists, "read", lambda lists, start, n: rows.append(n) or read(lists, start, n))
    monkeypatch.setattr("caloman.data.foreign.BLOCK_BYTES", 2**14)
    assert prepare(tmp_path) == 0
    assert sum(rows) == 30
    assert max(rows) < 10
    np.testing.assert_allclose(Showers.load(tmp_path / "out.h5", MESH).voxels, voxels, rtol=1e-5)
