"""Showers in the layout of the LEMURS data set, read as those of a shower file.

A file has ``showers`` (N, R, A, Z) [MeV] and ``incident_energy`` [MeV], ``incident_theta`` and ``incident_phi`` [rad],
each (N,); or one list ``events`` of N records with these fields.

References:
    LEMURS (arXiv:2509.05108).
"""

from collections.abc import Iterator
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.showers.chunks import read_rows
from caloman.showers.conditions import ENERGY, Conditions, known
from caloman.showers.geometry import Geometry
from caloman.showers.hdf5 import find_table, open_hdf5, reading
from caloman.showers.showers import BLOCK_BYTES, Showers, check_voxels
from caloman.showers.slices import ShowerSlice

CONDITIONS = Conditions(map(known, (ENERGY.name, "theta", "phi")))
FIELDS = ("showers", "incident_energy", "incident_theta", "incident_phi")


class LemursFile:
    """Rows of a file that is open for reading, in order, with voxels in the order of a shower file.

    Args:
        part: the rows.
        geometry: a mesh of Z layers with A angular and R radial bins each.

    Raises:
        CalomanError: if the file has another layout, or another mesh.
    """

    def __init__(self, part: ShowerSlice, geometry: Geometry) -> None:
        self.slices = [part]
        self.geometry = geometry
        self.condition_names = CONDITIONS.further
        self._file = open_hdf5(part.path)
        try:
            self._events = find_table(self._file, "events", axes=(1,), records=True)
            self._tables = {} if self._events else {name: self._table(name) for name in FIELDS}
            self._check_mesh()
            self._rows = part.within(self._n_showers())
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def _table(self, name: str) -> h5py.Dataset:
        table = find_table(self._file, name, axes=(4,) if name == "showers" else (1, 2))
        if table is None:
            raise CalomanError(f"{self.slices[0].path}: no {name!r}; a file of this layout has {', '.join(FIELDS)}")
        return table

    def _n_showers(self) -> int:
        tables = [*self._tables.values()] or [self._events]
        lengths = {len(table) for table in tables if table is not None}
        if len(lengths) > 1:
            sizes = ", ".join(f"{name} {len(table)}" for name, table in self._tables.items())
            raise CalomanError(f"{self.slices[0].path}: needs one row per shower in each table, not {sizes}")
        return lengths.pop()

    def _check_mesh(self) -> None:
        fields = self._events.dtype.fields if self._events else {}
        missing = next((name for name in FIELDS if self._events and name not in fields), None)
        if missing:
            raise CalomanError(f"{self.slices[0].path}: the records of 'events' have no {missing!r}; rename the fields")
        shape = fields["showers"][0].shape if self._events else self._tables["showers"].shape[1:]
        if self.geometry.grid != shape[::-1]:
            raise CalomanError(f"{self.slices[0].path}: 'showers' have the mesh (r, alpha, z) = {shape}, but "
                               f"{self.geometry.name!r} has {self.geometry.grid} (z, alpha, r); name the mesh of the "
                               "file")  # fmt: skip

    def blocks(self) -> Iterator[Showers]:
        """Iterates over the rows in blocks of about 64 MiB.

        Raises:
            CalomanError: if a condition makes no sense, or a voxel is negative or not finite.
        """
        step = max(1, BLOCK_BYTES // (4 * self.geometry.n_voxels))
        for start in range(self._rows.start, self._rows.stop, step):
            yield self._read(start, min(step, self._rows.stop - start))

    def _read(self, start: int, n: int) -> Showers:
        path = self.slices[0].path
        with reading(path):
            showers, *columns = self._fields(start, n)
        values = {name: column.reshape(n) for name, column in zip(CONDITIONS.names, columns, strict=True)}
        for condition in CONDITIONS:
            condition.check(values[condition.name], path, first_row=start)
        voxels = np.ascontiguousarray(showers.transpose(0, 3, 2, 1)).reshape(n, -1)
        check_voxels(voxels, path, first_row=start)
        return Showers(values.pop(ENERGY.name), voxels, self.geometry, values)

    def _fields(self, start: int, n: int) -> list[NDArray[np.float32]]:
        if self._events:
            records = np.empty(n, self._events.dtype)
            read_rows(self._events, start, records)
            return [records[name].astype(np.float32) for name in FIELDS]
        arrays = [np.empty((n, *table.shape[1:]), np.float32) for table in self._tables.values()]
        for table, array in zip(self._tables.values(), arrays, strict=True):
            read_rows(table, start, array)
        return arrays
