"""Lists of numbers in HDF5 files, each of its own length.

HDF5 takes memory for any length that a file declares, so that these lists are found and read here, after the file
format specification (III.E, IV.B). A list is a length, the address of a heap, and a number in it; a heap has objects
one after the other, each with its number and size. No list may claim more than its object holds.
"""

import struct
from collections.abc import Iterator
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.showers.chunks import read_stored

REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
HEADER = 16  # bytes before a heap, and before each of its objects


class NumberLists:
    """The lists of a table, which `hdf5.find_table` has checked.

    Args:
        table: of shape (N,).

    Raises:
        CalomanError: if a list lies elsewhere than in a heap of the file, or is longer than there.
    """

    def __init__(self, table: h5py.Dataset) -> None:
        self._path = Path(table.file.filename)
        self._dtype = h5py.check_vlen_dtype(table.dtype)
        self._base = table.file.userblock_size
        self._references = read_stored(table, REFERENCE)
        self._places = self._find()

    def __len__(self) -> int:
        return len(self._references)

    @property
    def longest(self) -> int:
        """Bytes of the longest list."""
        return int(self._references["length"].max(initial=0)) * self._dtype.itemsize

    def read(self, start: int, n: int) -> list[NDArray[np.generic]]:
        """The lists of `n` rows from `start` on."""
        lists = []
        with self._path.open("rb") as file:
            for row in range(start, start + n):
                file.seek(self._places[row])
                lists.append(np.fromfile(file, self._dtype, self._references["length"][row]))
        return lists

    def _find(self) -> NDArray[np.int64]:
        """Where the numbers of each list begin, shape (N,)."""
        places = np.zeros(len(self), np.int64)
        wanted = np.flatnonzero(self._references["length"])
        heaps, inverse = np.unique(self._references["heap"][wanted], return_inverse=True)
        order = np.split(wanted[np.argsort(inverse, kind="stable")], np.bincount(inverse).cumsum()[:-1])
        with self._path.open("rb") as file:
            left = file.seek(0, SEEK_END)  # heaps that overlap would take long
            for heap, rows in zip(heaps.tolist(), order if len(heaps) else (), strict=True):
                objects = {}
                for index, place, size in _objects(file, self._base + heap):
                    objects[index] = (place, size)
                    left -= HEADER
                for row in rows.tolist():
                    length, _, index = self._references[row].item()
                    places[row], size = objects.get(index, (0, -1))
                    if length * self._dtype.itemsize > size or left < 0:
                        raise CalomanError(f"{self._path}: damaged file, download or generate it again (list {row} of "
                                           f"{length} numbers is not where it is said to be)")  # fmt: skip
        return places


def _objects(file: BinaryIO, heap: int) -> Iterator[tuple[int, int, int]]:
    """Number, place and size of the objects of a heap at this address, none of them beyond the end of the file."""
    end = file.seek(0, SEEK_END)
    if heap + HEADER > end:
        return
    file.seek(heap)
    signature, size = struct.unpack("<4s4xQ", file.read(HEADER))
    place, stop = heap + HEADER, min(heap + size, end)
    while signature == b"GCOL" and place + HEADER <= stop:
        file.seek(place)
        index, size = struct.unpack("<H6xQ", file.read(HEADER))
        if index == 0 or place + HEADER + size > stop:  # what is free comes last
            return
        yield index, place + HEADER, size
        place += HEADER + -(-size // 8) * 8
