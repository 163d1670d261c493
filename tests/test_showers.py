import h5py
import numpy as np
import pytest

from caloman.errors import CalomanError
from caloman.showers.geometry import Geometry
from caloman.showers.showers import ShowerFile, Showers, find_geometry
from caloman.showers.writer import ShowerWriter


def assert_equal(a, b):
    np.testing.assert_array_equal(a.incident_energies, b.incident_energies)
    np.testing.assert_array_equal(a.voxels, b.voxels)


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def showers(make_showers, photons):
    return make_showers(50, photons)


def as_datasets(showers):
    """The content of a challenge file: float64, energies as a column."""
    return {
        "incident_energies": showers.incident_energies.astype(np.float64)[:, None],
        "showers": showers.voxels.astype(np.float64),
    }


def test_save_and_load_return_the_same_float32_bits(showers, photons, tmp_path):
    showers.save(tmp_path / "out.hdf5")
    loaded = Showers.load(tmp_path / "out.hdf5", photons)
    assert_equal(loaded, showers)
    assert loaded.voxels.dtype == loaded.incident_energies.dtype == np.float32


def test_written_file_has_the_official_layout_and_names_its_dataset(showers, photons, tmp_path):
    showers.save(tmp_path / "out.hdf5")
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert {name: file[name].shape for name in file} == {"incident_energies": (50, 1), "showers": (50, 368)}
    assert find_geometry(tmp_path / "out.hdf5") is photons


def test_appending_in_pieces_equals_writing_the_whole(showers, photons, tmp_path):
    with ShowerWriter(tmp_path / "out.hdf5", photons) as writer:
        for start, stop in ((0, 1), (1, 1), (1, 33), (33, 50)):
            writer.append(showers[start:stop])
    assert_equal(Showers.load(tmp_path / "out.hdf5", photons), showers)


@pytest.mark.parametrize("block_bytes", [1, 4 * 368 * 20])
def test_blocks_joined_equal_the_whole(showers, photons, write_hdf5, monkeypatch, block_bytes):
    monkeypatch.setattr("caloman.showers.showers.BLOCK_BYTES", block_bytes)
    with ShowerFile(write_hdf5(as_datasets(showers)), photons) as file:
        blocks = list(file.blocks())
        assert len(file) == 50
    assert len(blocks) > 1
    np.testing.assert_array_equal(np.concatenate([block.voxels for block in blocks]), showers.voxels)
    np.testing.assert_array_equal(
        np.concatenate([block.incident_energies for block in blocks]), showers.incident_energies
    )


def test_float64_file_with_automatic_chunks_is_read_as_float32(showers, photons, write_hdf5):
    assert_equal(Showers.load(write_hdf5(as_datasets(showers)), photons), showers)


def test_uncompressed_integers_are_numbers_too(photons, tmp_path):
    with h5py.File(tmp_path / "int.hdf5", "w") as file:
        file["incident_energies"], file["showers"] = np.full((2, 1), 256), np.ones((2, 368), np.int32)
    assert Showers.load(tmp_path / "int.hdf5", photons).voxels.sum() == 2 * 368


def test_showers_can_be_selected_by_slice_and_mask(showers):
    mask = showers.incident_energies > np.median(showers.incident_energies)
    assert_equal(showers[mask], showers[np.flatnonzero(mask)])
    assert len(showers[10:20]) == 10


def test_showers_that_do_not_fit_the_geometry_are_refused(photons):
    with pytest.raises(CalomanError, match="1-photons"):
        Showers(np.ones(3, np.float32), np.ones((3, 367), np.float32), photons)


def test_file_appears_only_when_complete(showers, photons, tmp_path):
    with ShowerWriter(tmp_path / "out.hdf5", photons) as writer:
        writer.append(showers)
        assert not (tmp_path / "out.hdf5").exists()
    assert files_in(tmp_path) == ["out.hdf5"]


def interrupt(path, showers):
    def write():
        with ShowerWriter(path, showers.geometry) as writer:
            writer.append(showers)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()


def test_interrupted_writing_keeps_the_older_file(showers, photons, tmp_path):
    showers[:7].save(tmp_path / "out.hdf5")
    interrupt(tmp_path / "out.hdf5", showers)
    assert files_in(tmp_path) == ["out.hdf5"]
    assert_equal(Showers.load(tmp_path / "out.hdf5", photons), showers[:7])


def test_missing_folder_is_reported_when_writing(showers, tmp_path):
    with pytest.raises(CalomanError, match=r"nowhere/out\.hdf5.*folder"):
        showers.save(tmp_path / "nowhere" / "out.hdf5")


def test_missing_file_is_reported(photons, tmp_path):
    with pytest.raises(CalomanError, match=r"nothing\.hdf5.*no such file"):
        Showers.load(tmp_path / "nothing.hdf5", photons)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_truncated_file_is_reported(showers, photons, tmp_path, kept):
    path = tmp_path / "cut.hdf5"
    showers.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CalomanError, match=r"cut\.hdf5"):
        Showers.load(path, photons)


def test_damaged_chunk_is_reported(make_showers, photons, tmp_path):
    path = tmp_path / "damaged.hdf5"
    make_showers(500, photons).save(path)
    with h5py.File(path) as file:
        chunk = file["showers"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    middle = chunk.byte_offset + chunk.size // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    with pytest.raises(CalomanError, match=r"damaged\.hdf5.*damaged"):
        Showers.load(path, photons)


def test_text_file_is_reported(photons, tmp_path):
    (tmp_path / "text.hdf5").write_text("not HDF5" * 1000)
    with pytest.raises(CalomanError, match=r"text\.hdf5.*HDF5"):
        Showers.load(tmp_path / "text.hdf5", photons)


def without(name):
    return lambda datasets: datasets.pop(name)


def resized(name, rows, columns):
    return lambda datasets: datasets.update({name: np.ones((rows, columns))})


def with_value(name, value):
    return lambda datasets: datasets[name].__setitem__((17, 0), value)


BAD_CONTENT = {
    "energies missing": (without("incident_energies"), "incident_energies"),
    "transposed energies": (lambda d: d.update(incident_energies=d["incident_energies"].T), "incident_energies"),
    "flat energies": (lambda d: d.update(incident_energies=d["incident_energies"].ravel()), "incident_energies"),
    "showers missing": (without("showers"), "showers"),
    "voxels of another dataset": (resized("showers", 50, 533), "showers"),
    "two energies per shower": (resized("incident_energies", 50, 2), "incident_energies"),
    "unequal rows": (resized("incident_energies", 49, 1), "incident_energies"),
    "text": (lambda d: d.update(showers=np.full((50, 368), b"x")), "showers"),
    "NaN voxel": (with_value("showers", np.nan), "showers"),
    "infinite voxel": (with_value("showers", np.inf), "showers"),
    "negative voxel": (with_value("showers", -1e-3), "showers"),
    "zero energy": (with_value("incident_energies", 0), "incident_energies"),
    "negative energy": (with_value("incident_energies", -256), "incident_energies"),
    "NaN energy": (with_value("incident_energies", np.nan), "incident_energies"),
    "infinite energy": (with_value("incident_energies", np.inf), "incident_energies"),
}


@pytest.mark.parametrize(("spoil", "field"), BAD_CONTENT.values(), ids=BAD_CONTENT)
def test_bad_content_is_reported_with_file_and_field(showers, photons, write_hdf5, spoil, field):
    datasets = as_datasets(showers)
    spoil(datasets)
    with pytest.raises(CalomanError, match=rf"bad\.hdf5.*'{field}'"):
        Showers.load(write_hdf5(datasets, "bad.hdf5"), photons)


@pytest.mark.parametrize("name", ["showers", "incident_energies"])
def test_bad_value_is_reported_with_its_shower(showers, photons, write_hdf5, monkeypatch, name):
    monkeypatch.setattr("caloman.showers.showers.BLOCK_BYTES", 1)
    datasets = as_datasets(showers)
    datasets[name][17, 0] = np.nan
    with (
        ShowerFile(write_hdf5(datasets), photons) as file,
        pytest.raises(CalomanError, match="shower 17"),
    ):
        list(file.blocks())


def test_value_beyond_float32_is_reported_as_infinite(showers, photons, write_hdf5):
    datasets = as_datasets(showers)
    datasets["showers"][3, 5] = 1e300
    with pytest.raises(CalomanError, match="'showers' holds inf"):
        Showers.load(write_hdf5(datasets), photons)


def test_file_without_showers_is_reported(photons, write_hdf5):
    path = write_hdf5({"incident_energies": np.zeros((0, 1)), "showers": np.zeros((0, 368))}, "empty.hdf5")
    with pytest.raises(CalomanError, match=r"empty\.hdf5.*empty.*at least one"):
        Showers.load(path, photons)


def test_unnamed_dataset_is_asked_for(showers, write_hdf5):
    path = write_hdf5(as_datasets(showers))
    with pytest.raises(CalomanError, match="--dataset"):
        find_geometry(path)
    assert find_geometry(path, "2") == Geometry.load("2")
