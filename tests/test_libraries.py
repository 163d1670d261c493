"""Libraries of showers, read step by step as the programs read them that they are made for."""

import filecmp
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5f

from caloman.cli import main
from caloman.data.showerdata import ShowerDataFile
from caloman.errors import CalomanError
from caloman.generation.generate import generate
from caloman.generation.shards import merge
from caloman.showers.geometry import BUILT_IN
from caloman.showers.libraries import WRITERS, find_writer
from caloman.showers.showers import Showers
from caloman.showers.slices import ShowerSlice

FORMATS = [name for name in WRITERS if name != "calochallenge"]
SPECIFICATION = Path(__file__).parents[1] / "docs" / "reference" / "formats.md"


@pytest.fixture
def inclined(make_showers, small, rng):
    """Showers with angles; one of them is empty, and one has a single hit."""
    showers = make_showers(1200, small)
    showers.voxels[3] = 0
    showers.voxels[4, 1:] = 0
    angles = {"theta": rng.uniform(0.5, 2.5, 1200), "phi": rng.uniform(-3, 3, 1200)}
    columns = {name: values.astype(np.float32) for name, values in angles.items()}
    return Showers(showers.incident_energies, showers.voxels, small, columns)


@pytest.fixture
def write(inclined, tmp_path):
    """Writes showers in a format, in two pieces, and returns the open file."""
    files = []

    def apply(form, showers=inclined):
        path = tmp_path / "library.h5"
        with find_writer(form)(path, showers.geometry, {"seed": 1}, conditions=showers.conditions) as writer:
            writer.append(showers[:1000])
            writer.append(showers[1000:])
        files.append(h5py.File(path))
        return files[-1]

    yield apply
    for file in files:
        file.close()


def test_fastcalosim_reads_fractions_layer_by_layer(write, inclined):
    file = write("fastcalosim")
    for layer, columns in zip(inclined.geometry.layers, inclined.geometry.layer_slices, strict=True):
        table = file[f"energy_layer_{layer.id}"]
        flat, width = table[...].ravel(), table.shape[1]  # the reader knows a voxel by its place in the flat table
        rows, voxels = np.divmod(np.flatnonzero(flat), width)
        energies = flat[flat != 0] * file["incident_energy"][...][rows]
        np.testing.assert_allclose(energies, inclined.voxels[:, columns][rows, voxels], rtol=1e-6)
        assert len(rows) == np.count_nonzero(inclined.voxels[:, columns])
        for name in ("radius", "alpha"):
            start, size = (file[f"bin{part}_{name}_layer_{layer.id}"][...] for part in ("start", "size"))
            center = layer.r if name == "radius" else layer.alpha
            np.testing.assert_allclose(start + size / 2, center, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(file["incident_energy"][...], inclined.incident_energies)
    np.testing.assert_allclose(np.sinh(file["center_eta"][...]), 1 / np.tan(inclined.conditions["theta"]), atol=1e-5)
    assert not file["phi_mod"][...].any()


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("n_bytes", [0, 2**14, 2**18])
def test_a_full_disk_is_one_sentence_and_leaves_nothing_open(form, n_bytes, make_showers, small, tmp_path, full_disk):
    """HDF5 crashes when the process ends with a file in it that it could not close."""

    def write():
        with find_writer(form)(tmp_path / "library.h5", small) as writer:
            for _ in range(20):
                writer.append(showers)

    n_open = h5f.get_obj_count()
    showers = make_showers(1000, small)
    with full_disk(n_bytes), pytest.raises(CalomanError, match="cannot be written, check folder and free space"):
        write()
    assert list(tmp_path.iterdir()) == []
    assert h5f.get_obj_count() == n_open


@pytest.mark.parametrize("mesh", ["small", "2"])
def test_ddml_reads_four_axes_one_shower_after_another(write, make_showers, inclined, mesh):
    showers = inclined if mesh == "small" else make_showers(20, BUILT_IN["2"])
    table = write("ddml", showers)["layers"]
    assert table.ndim == 4
    assert table.shape[1:] == ((1, 1, 16) if mesh == "small" else (45, 16, 9))
    flat, size = table[...].ravel(), showers.geometry.n_voxels
    for count in (0, 7, len(showers) - 1):
        expected = showers.voxels[count] * (1 if mesh == "small" else 0.033)
        np.testing.assert_allclose(flat[count * size : (count + 1) * size], expected, rtol=1e-6)
    np.testing.assert_array_equal(table.file["incident_energies"][:, 0], showers.incident_energies)


def test_points_are_the_hits_at_the_centers_of_their_voxels(write, inclined):
    file = write("showerdata")
    assert file["shape"][...].tolist() == [1200, file["num_points"][...].max(), 4]
    assert file["showers"].dtype == h5py.vlen_dtype(np.float32)
    for row, cloud in zip(inclined.voxels, file["showers"][...], strict=True):
        x, y, layer, energy = cloud.reshape(-1, 4).T
        assert len(energy) == np.count_nonzero(row)
        np.testing.assert_allclose(1000 * energy, row[row > 0], rtol=1e-6)
        assert set(layer) <= {0, 1, 3}
        assert (np.hypot(x, y) < 10).all()
    np.testing.assert_array_equal(file["num_points"][...], np.count_nonzero(inclined.voxels, axis=1))
    np.testing.assert_allclose(np.linalg.norm(file["directions"][...], axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(file["shower_ids"][...], np.arange(1200))
    with ShowerDataFile(ShowerSlice(Path(file.filename)), inclined.geometry) as reader:
        (found,) = reader.blocks()
    np.testing.assert_allclose(found.voxels, inclined.voxels, rtol=1e-6)
    np.testing.assert_allclose(found.incident_energies, inclined.incident_energies, rtol=1e-6)
    for name, values in inclined.conditions.items():
        np.testing.assert_allclose(found.conditions[name], values, atol=1e-5)
    assert set(found.conditions["pdg"]) == {22}


@pytest.mark.parametrize("n", [1, 2])
def test_clouds_of_equally_many_points_stay_clouds(write, make_showers, small, n):
    showers = make_showers(n, small)
    showers.voxels[:] = 1
    file = write("showerdata", showers)
    assert [cloud.shape for cloud in file["showers"][...]] == n * [(64,)]
    np.testing.assert_array_equal(file["directions"][...], np.tile([0, 0, 1], (n, 1)))


@pytest.mark.parametrize("form", FORMATS)
def test_libraries_of_shards_equal_that_of_a_whole_generation(run, tmp_path, form):
    request = {"energies": "log-uniform:1GeV:100GeV", "n": 2300, "seed": 4}
    generate(run, tmp_path / "whole.h5", **request, format=form)
    for shard in range(2):
        generate(run, tmp_path / f"{shard}.hdf5", **request, shard=f"{shard}/2")
    merge(str(tmp_path / "merged.h5"), [str(tmp_path / f"{shard}.hdf5") for shard in range(2)], form)
    assert filecmp.cmp(tmp_path / "whole.h5", tmp_path / "merged.h5", shallow=False)
    assert not list(tmp_path.glob(".*"))


def test_a_generated_file_becomes_a_library(run, tmp_path, capsys):
    generate(run, tmp_path / "showers.hdf5", energies="10GeV", n=20)
    assert main(["merge", str(tmp_path / "out.h5"), str(tmp_path / "showers.hdf5"), "--format", "showerdata"]) == 0
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["energies"].shape == (20, 1)
        assert file.attrs["dataset"] == "small"


def test_what_no_format_or_shard_can_be_is_refused(run, tmp_path):
    with pytest.raises(CalomanError, match="unknown format 'root': use one of calochallenge, fastcalosim"):
        generate(run, tmp_path / "out.h5", energies="10GeV", n=5, format="root")
    with pytest.raises(CalomanError, match=r"--shard 0/2: .* --format ddml to `caloman merge`"):
        generate(run, tmp_path / "out.h5", energies="10GeV", n=5, format="ddml", shard="0/2")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("form", FORMATS)
def test_the_manual_names_every_table(write, form):
    for name in write(form):
        key = name.rpartition("_")[0] + "_N" if "_layer_" in name else name
        assert f"`{key}`" in SPECIFICATION.read_text() or name.startswith("incident_")
