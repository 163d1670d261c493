import os
import struct
import zlib

import h5py
import numpy as np
import pytest

from caloman.errors import CalomanError
from caloman.showers.attributes import read_attributes
from caloman.showers.chunks import read_rows
from caloman.showers.geometry import Geometry
from caloman.showers.hdf5 import check_space, find_table, open_hdf5
from caloman.showers.showers import ShowerFile

SHAPE = (50, 23)
LAYOUTS = {
    "official": {"chunks": (20, 6), "compression": "gzip"},
    "one chunk": {"chunks": SHAPE, "compression": "gzip"},
    "whole rows": {"chunks": (7, 23), "compression": "gzip"},
    "shuffled": {"chunks": (20, 6), "compression": "gzip", "shuffle": True},
    "checksums": {"chunks": (20, 6), "compression": "gzip", "shuffle": True, "fletcher32": True},
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


def table(file, **options):
    return file.create_dataset("showers", data=np.ones((40, 6)), chunks=(20, 6), **options)


def soft(file):
    table(file)
    file.move("showers", "other")
    file["showers"] = h5py.SoftLink("/other")


def dangling(file):
    file["showers"] = h5py.SoftLink("/nothing")


def external_link(file):
    file["showers"] = h5py.ExternalLink("/etc/passwd", "/showers")


def external_storage(file):
    file.create_dataset("showers", (40, 6), external=[("/etc/passwd", 0, 40 * 6 * 8)], dtype="f8")


def virtual(file):
    layout = h5py.VirtualLayout((40, 6), "f8")
    layout[:] = h5py.VirtualSource("missing.hdf5", "showers", (40, 6))
    file.create_virtual_dataset("showers", layout)


def itself(file):
    layout = h5py.VirtualLayout((40, 6), "f8")
    layout[:] = h5py.VirtualSource(".", "showers", (40, 6))
    file.create_virtual_dataset("showers", layout)


def group(file):
    file.create_group("showers")


def type_only(file):
    file["showers"] = np.dtype("f8")


def compound(file):
    file["showers"] = np.zeros(40, [("a", "f8"), ("b", "i4")])


def scalar(file):
    file["showers"] = 1.0


def null(file):
    file["showers"] = h5py.Empty("f8")


def text(file):
    file["showers"] = np.full((40, 6), b"x")


def complex_numbers(file):
    file["showers"] = np.ones((40, 6), np.complex64)


def four_axes(file):
    file["showers"] = np.ones((40, 1, 2, 3))


def many_rows(file):
    file.create_dataset("showers", (10**12, 6), "f8", chunks=(1000, 6), compression="gzip")


def no_storage(file):
    file.create_dataset("showers", (10**7, 368), "f8")


def missing_chunk(file):
    file.create_dataset("showers", (40, 6), "f8", chunks=(20, 6), compression="gzip")[:20] = 1


def huge_chunk(file):
    file.create_dataset("showers", (2**15, 2**12), "f8", chunks=(2**15, 2**12), compression="gzip")


def huge_row_of_chunks(file):
    file.create_dataset("showers", (10**7, 368), "f8", chunks=(10**7, 1), compression="gzip")


def other_filter(file):
    table(file, compression="lzf")


def long_chunk(file):
    table(file, compression="gzip").id.write_direct_chunk((0, 0), bytes(10**6))


REFUSED = {
    soft: "is a link to another place; make a plain file of it first",
    dangling: "is a link to another place",
    external_link: "is a link to another place",
    external_storage: "is stored in other files; make a plain file",
    virtual: "is stored in other files",
    itself: "is stored in other files",
    group: "is a group",
    type_only: "instead of a table",
    compound: "instead of a table of real numbers",
    scalar: "instead of a table of real numbers",
    null: "instead of a table of real numbers",
    text: "instead of a table of real numbers",
    complex_numbers: "instead of a table of real numbers",
    four_axes: "instead of a table of real numbers",
    many_rows: "split the file",
    no_storage: "damaged file",
    missing_chunk: "1 chunks of 'showers' are missing",
    huge_chunk: "too large to read one by one",
    huge_row_of_chunks: "too large to read one by one",
    other_filter: "is not stored with gzip; make a plain file",
    long_chunk: "the largest has 1000000 bytes",
}


@pytest.mark.parametrize("spoil", REFUSED, ids=lambda spoil: spoil.__name__)
def test_what_is_no_plain_table_is_refused(tmp_path, spoil):
    with h5py.File(tmp_path / "bad.hdf5", "w") as file:
        spoil(file)
    with open_hdf5(tmp_path / "bad.hdf5") as file, pytest.raises(CalomanError, match=REFUSED[spoil]) as error:
        find_table(file, "showers")
    assert str(error.value).startswith(f"{tmp_path / 'bad.hdf5'}: ")


def test_a_chunk_is_not_unzipped_beyond_its_size(tmp_path):
    content = zlib.compress(bytes(2**28))
    with h5py.File(tmp_path / "bomb.hdf5", "w") as file:
        file["incident_energies"] = np.ones((2000, 1))
        showers = file.create_dataset("showers", data=np.ones((2000, 368)), chunks=(200, 368), compression="gzip")
        assert len(content) < 2 * 200 * 368 * 8
        showers.id.write_direct_chunk((200, 0), content)
    with ShowerFile(tmp_path / "bomb.hdf5", Geometry.load("1-photons")) as file:
        with pytest.raises(CalomanError, match="a chunk cannot be unzipped"):
            file.read(0, 2000)
        assert len(file.read(5, 60)) == 55


def test_a_pipe_is_no_file_and_nothing_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.hdf5")
    with pytest.raises(CalomanError, match="not a regular file"):
        open_hdf5(tmp_path / "pipe.hdf5")


def test_attributes_are_words_and_numbers(tmp_path):
    with h5py.File(tmp_path / "file.hdf5", "w") as file:
        kept = {"text": "a", "bytes": np.bytes_("b"), "whole": 3, "real": np.float32(0.5), "yes": True}
        odd = {"list": [1, 2], "complex": 1j, "empty": h5py.Empty("f4"), "pair": np.array((1, 2), "i4,i4")}
        file.attrs.update({**kept, **odd, "reference": file.ref})
    with open_hdf5(tmp_path / "file.hdf5") as file:
        assert read_attributes(file) == {**kept, "bytes": "b"}


@pytest.mark.parametrize("number", [1, 20, 300])
@pytest.mark.parametrize("version", ["earliest", "v108", "latest"])
def test_texts_of_any_format_and_number_are_read(tmp_path, version, number):
    texts = {f"name {i}": "\u00e4" * i for i in range(number)}
    with h5py.File(tmp_path / "file.hdf5", "w", libver=(version, "latest"), userblock_size=512) as file:
        file.attrs.update(texts)
    with open_hdf5(tmp_path / "file.hdf5") as file:
        assert read_attributes(file) == texts


@pytest.mark.parametrize("address", [None, 5, 2**40])
@pytest.mark.parametrize("name", ["n0", "n19"])
def test_a_text_that_claims_to_be_long_takes_no_memory(tmp_path, address, name):
    path = tmp_path / "file.hdf5"
    with h5py.File(path, "w", libver=("earliest", "latest")) as file:
        file.attrs.update({f"n{i}": "text" for i in range(20)})
    content = bytearray(path.read_bytes())
    heap = struct.pack("<Q", content.index(b"GCOL"))
    place = content.index(heap, content.index(name.encode() + b"\0"))
    struct.pack_into("<I", content, place - 4, 3 * 10**9)
    if address is not None:
        struct.pack_into("<Q", content, place, address)
    path.write_bytes(content)
    with (
        open_hdf5(path) as file,
        pytest.raises(CalomanError, match=f"attribute '{name}' has no plausible"),
    ):
        read_attributes(file)


def test_a_heap_of_texts_that_hdf5_would_search_without_end_is_refused(tmp_path):
    path = tmp_path / "file.hdf5"
    with h5py.File(path, "w", libver=("earliest", "latest")) as file:
        file.attrs["name"] = "text"
    content = bytearray(path.read_bytes())
    first = content.index(b"GCOL") + 16
    content[first : first + 16] = bytes(16)  # free space of no size
    path.write_bytes(content)
    with open_hdf5(path) as file, pytest.raises(CalomanError, match="attribute 'name' has no plausible"):
        read_attributes(file)
