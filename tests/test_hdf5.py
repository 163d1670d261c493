import h5py
import numpy as np
import pytest

from caloman.errors import CalomanError
from caloman.showers.geometry import Geometry
from caloman.showers.hdf5 import check_space, read_rows
from caloman.showers.showers import ShowerFile

SHAPE = (50, 23)
LAYOUTS = {
    "official": {"chunks": (20, 6), "compression": "gzip"},
    "one chunk": {"chunks": SHAPE, "compression": "gzip"},
    "whole rows": {"chunks": (7, 23), "compression": "gzip"},
    "shuffled": {"chunks": (20, 6), "compression": "gzip", "shuffle": True},
    "not compressed": {"chunks": (20, 6)},
    "contiguous": {},
}


@pytest.fixture
def write(rng, tmp_path):
    def write(layout, dtype="<f8", rows=SHAPE[0]):
        values = (rng.gamma(0.2, size=SHAPE) * 100).astype(dtype)
        with h5py.File(tmp_path / "table.h5", "w") as file:
            table = file.create_dataset("table", SHAPE, dtype, **layout)
            table[:rows] = values[:rows]
        values[rows:] = 0
        return values, tmp_path / "table.h5"

    return write


@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">f8", "<f2", "<i4"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_rows_are_those_that_h5py_reads_in_float32(write, layout, dtype):
    values, path = write(layout, dtype)
    with h5py.File(path) as file:
        for start, stop in ((0, 50), (0, 20), (20, 40), (20, 50), (40, 50), (3, 27), (0, 1), (49, 50)):
            out = np.full((stop - start, 23), np.nan, np.float32)
            read_rows(file["table"], start, out)
            np.testing.assert_array_equal(out, values[start:stop].astype(np.float32))


@pytest.mark.parametrize("rows", [0, 20, 21])
def test_chunks_that_were_never_written_are_zero(write, rows):
    values, path = write(LAYOUTS["official"], rows=rows)
    with h5py.File(path) as file:
        out = np.full(SHAPE, np.nan, np.float32)
        read_rows(file["table"], 0, out)
    np.testing.assert_array_equal(out, values.astype(np.float32))


def test_chunks_that_skipped_the_filter_are_read(write):
    values, path = write(LAYOUTS["official"])
    with h5py.File(path, "r+") as file:
        piece = np.zeros((20, 6))
        piece[:] = values[:20, :6] = 5
        file["table"].id.write_direct_chunk((0, 0), piece.tobytes(), filter_mask=1)
        out = np.empty(SHAPE, np.float32)
        read_rows(file["table"], 0, out)
    np.testing.assert_array_equal(out, values.astype(np.float32))


@pytest.mark.parametrize("content", [b"", b"not gzip", b"\x78\x9c\x03\x00\x00\x00\x00\x01"])
def test_damaged_chunk_of_the_official_layout_is_reported(tmp_path, content):
    path, photons = tmp_path / "damaged.hdf5", Geometry.load("1-photons")
    with h5py.File(path, "w") as file:
        file["incident_energies"] = np.ones((50, 1))
        table = file.create_dataset("showers", data=np.ones((50, 368)), chunks=(20, 60), compression="gzip")
        table.id.write_direct_chunk((20, 60), content or b"\x00")
    with ShowerFile(path, photons) as file, pytest.raises(CalomanError, match=r"damaged\.hdf5: damaged file, download"):
        file.read(0, 50)


def test_space_that_no_disk_has_is_asked_for_in_one_sentence(tmp_path):
    with pytest.raises(CalomanError, match="MiB are needed; make space or write elsewhere"):
        check_space(tmp_path / "out.h5", 2**60)
