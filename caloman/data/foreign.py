"""Showers in layouts of others, read as those of a shower file."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sized
from pathlib import Path
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.showers.conditions import ENERGY, Columns, Conditions
from caloman.showers.geometry import Geometry
from caloman.showers.hdf5 import find_table, open_hdf5, reading
from caloman.showers.showers import BLOCK_BYTES, Showers, check_voxels
from caloman.showers.slices import ShowerSlice


class ForeignFile(ABC):
    """Rows of a file that is open for reading, in order, with voxels in the order of a shower file.

    Args:
        part: the rows.
        geometry: the mesh of the voxels.

    Raises:
        CalomanError: if the file has another layout, or does not fit the mesh.
    """

    CONDITIONS: Conditions
    TABLES: tuple[str, ...]
    """Names of all its tables."""

    def __init__(self, part: ShowerSlice, geometry: Geometry) -> None:
        self.slices = [part]
        self.path = part.path
        self.geometry = geometry
        self._file = self._opened(part.path)
        try:
            self._rows = part.within(self._open())
            self.condition_names = self.CONDITIONS.further
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def blocks(self) -> Iterator[Showers]:
        """Iterates over the rows in blocks of about 64 MiB.

        Raises:
            CalomanError: if a condition makes no sense, or a voxel is negative or not finite.
        """
        step = max(1, BLOCK_BYTES // self._row_bytes)
        for start in range(self._rows.start, self._rows.stop, step):
            n = min(step, self._rows.stop - start)
            with reading(self.path):
                voxels, columns = self._read(start, n)
            for condition in self.CONDITIONS:
                condition.check(columns[condition.name], self.path, first_row=start)
            check_voxels(voxels, self.path, first_row=start)
            others = {name: columns[name] for name in self.condition_names}
            yield Showers(columns[ENERGY.name], voxels, self.geometry, others)

    def _opened(self, path: Path) -> h5py.File:
        return open_hdf5(path)

    @property
    def _row_bytes(self) -> int:
        """Bytes of memory that a shower takes."""
        return 4 * self.geometry.n_voxels

    @abstractmethod
    def _open(self) -> int:
        """Finds the tables and returns the number of showers."""

    @abstractmethod
    def _read(self, start: int, n: int) -> tuple[NDArray[np.float32], Columns]:
        """Voxels (n, V) [MeV] and conditions of `n` rows from `start` on."""

    def _table(self, name: str, axes: tuple[int, ...]) -> h5py.Dataset:
        """A table with one of these numbers of axes."""
        table = find_table(self._file, name, axes=axes)
        if table is None:
            raise CalomanError(f"{self.path}: no {name!r}; a file of this layout has {', '.join(self.TABLES)}")
        return table

    def _n_rows(self, tables: Mapping[str, Sized]) -> int:
        """Number of rows that all tables have."""
        lengths = {len(table) for table in tables.values()}
        if len(lengths) > 1:
            sizes = ", ".join(f"{name} {len(table)}" for name, table in tables.items())
            raise CalomanError(f"{self.path}: needs one row per shower in each table, not {sizes}")
        return lengths.pop()
