"""Attributes of HDF5 files: single words and numbers, read without trust in the lengths that a file declares."""

import os
import struct
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from caloman.errors import CalomanError
from caloman.showers.hdf5 import reading

MOST_BYTES = 2**24
TYPES = (h5py.h5t.TypeStringID, h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID, h5py.h5t.TypeEnumID)
TEXT = 9  # class of types of variable length

Attributes = dict[str, str | int | float]


def read_attributes(file: h5py.File) -> Attributes:
    """Attributes of a file that are single words or numbers; others are left out.

    Raises:
        CalomanError: if they are damaged.
    """
    path, found = Path(file.filename), {}
    with reading(path):
        ids = {name: file.attrs.get_id(name) for name in file.attrs}
        # lists of any length would be read where their bytes say, which has no bounds in a damaged file
        ids = {name: i for name, i in ids.items() if i.shape == () and isinstance(i.get_type(), TYPES)}
        texts = [name for name, i in ids.items() if h5py.check_string_dtype(i.dtype) and i.get_type().is_variable_str()]
        _check_texts(path, texts)
        for name in ids:
            if ids[name].get_storage_size() <= MOST_BYTES:
                value = file.attrs[name]
                value = value.item() if isinstance(value, np.generic) else value
                value = value.decode(errors="replace") if isinstance(value, bytes) else value
                if isinstance(value, str | int | float):
                    found[name] = value
    return found


def _check_texts(path: Path, names: list[str]) -> None:
    """Refuses texts of variable length for which HDF5 would take any memory, or search without end.

    HDF5 does not tell where such a text lies and what length is declared, so the metadata that it reads to find the
    attributes are searched for that.
    """
    if not names:
        return
    with _Recorder(path) as recorder, h5py.File(recorder, "r") as file:
        for name in file.attrs:
            file.attrs.get_id(name)
        content, base = bytes(recorder.content), file.userblock_size
    with path.open("rb") as raw:
        for name in names:
            texts = list(_texts(content, name.encode(errors="surrogateescape")))
            if not texts or any(n > MOST_BYTES or not _is_searchable(raw, base + place) for n, place in texts):
                raise CalomanError(f"{path}: damaged file, download or generate it again (attribute {name[:40]!r} has "
                                   f"no plausible length or place)")  # fmt: skip


def _texts(content: bytes, name: bytes) -> Iterator[tuple[int, int]]:
    """Length and address in the attribute messages of this name (HDF5 file format specification, IV.A.2.m).

    A message is a version, a flag, the sizes of name, type and shape, in version 3 an encoding, and then name, type
    and shape themselves, in version 1 padded to 8 bytes; of a text, length and address follow.
    """
    start = -1
    while (start := content.find(name + b"\0", start + 1)) >= 0:
        for header in (8, 9):
            if start < header or (content[start - header] == 3) != (header == 9):
                continue
            shared, *sizes = struct.unpack_from("<B3H", content, start - header + 1)
            padding = 8 if content[start - header] == 1 else 1
            kind, _, value = (start + int(n) for n in np.cumsum([-(-size // padding) * padding for size in sizes]))
            # what is left of a deleted attribute may have been of another type than text
            if sizes[0] == len(name) + 1 and value + 12 <= len(content) and (shared & 1 or content[kind] & 15 == TEXT):
                yield struct.unpack_from("<IQ", content, value)


def _is_searchable(raw: BinaryIO, address: int) -> bool:
    """Whether HDF5 comes to the end of the heap of texts at this address (III.E); other content it refuses itself."""
    if address >= raw.seek(0, os.SEEK_END):
        return True
    raw.seek(address)
    signature, n_bytes = struct.unpack("<8sQ", raw.read(16).ljust(16, b"\0"))
    if not signature.startswith(b"GCOL"):
        return True
    heap, place = raw.read(min(n_bytes, MOST_BYTES)), 0
    while place + 16 <= n_bytes - 16:
        if place + 16 > len(heap):
            return False
        index, size = struct.unpack_from("<H6xQ", heap, place)
        step = 16 + -(-size // 8) * 8 if index else size
        place += step
        if step == 0 or place > n_bytes - 16:
            return False
    return True


class _Recorder(FileIO):
    """A file that keeps what is read from it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.content = bytearray()

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401
        n_bytes = super().readinto(buffer) or 0
        self.content += memoryview(buffer)[:n_bytes]
        return n_bytes
