"""Showers in the layout of the LEMURS data set.

A file has ``showers`` (N, R, A, Z) [MeV] and ``incident_energy`` [MeV], ``incident_theta`` and ``incident_phi`` [rad],
each (N,); or one list ``events`` of N records with these fields.

References:
    LEMURS (arXiv:2509.05108).
"""

import numpy as np
from numpy.typing import NDArray

from caloman.data.foreign import ForeignFile
from caloman.errors import CalomanError
from caloman.showers.chunks import read_rows
from caloman.showers.conditions import ENERGY, Columns, Conditions, known
from caloman.showers.hdf5 import find_table

FIELDS = {"showers": (4,), "incident_energy": (1, 2), "incident_theta": (1, 2), "incident_phi": (1, 2)}
"""Name -> possible numbers of axes."""


class LemursFile(ForeignFile):
    """Its mesh has Z layers with A angular and R radial bins each."""

    CONDITIONS = Conditions(map(known, (ENERGY.name, "theta", "phi")))
    TABLES = tuple(FIELDS)

    def _open(self) -> int:
        self._events = find_table(self._file, "events", axes=(1,), records=True)
        self._tables = {} if self._events else {name: self._table(name, axes) for name, axes in FIELDS.items()}
        self._check_mesh()
        return self._n_rows({"events": self._events} if self._events else self._tables)

    def _check_mesh(self) -> None:
        fields = self._events.dtype.fields if self._events else {}
        missing = next((name for name in FIELDS if self._events and name not in fields), None)
        if missing:
            raise CalomanError(f"{self.path}: the records of 'events' have no {missing!r}; rename the fields")
        shapes = {name: fields[name][0].shape if self._events else self._tables[name].shape[1:] for name in FIELDS}
        shape = shapes.pop("showers")
        if self.geometry.grid != shape[::-1]:
            raise CalomanError(f"{self.path}: 'showers' have the mesh (r, alpha, z) = {shape}, but "
                               f"{self.geometry.name!r} has {self.geometry.grid} (z, alpha, r); name the mesh of the "
                               "file")  # fmt: skip
        for name, columns in shapes.items():
            if columns not in ((), (1,)):
                raise CalomanError(f"{self.path}: {name!r} has {columns} numbers per shower; store one")

    @property
    def _row_bytes(self) -> int:
        return self._events.dtype.itemsize if self._events else super()._row_bytes

    def _read(self, start: int, n: int) -> tuple[NDArray[np.float32], Columns]:
        showers, *columns = self._fields(start, n)
        voxels = np.ascontiguousarray(showers.transpose(0, 3, 2, 1)).reshape(n, -1)
        return voxels, {name: c.reshape(n) for name, c in zip(self.CONDITIONS.names, columns, strict=True)}

    def _fields(self, start: int, n: int) -> list[NDArray[np.float32]]:
        if self._events:
            records = np.empty(n, self._events.dtype)
            read_rows(self._events, start, records)
            return [records[name].astype(np.float32) for name in FIELDS]
        arrays = [np.empty((n, *table.shape[1:]), np.float32) for table in self._tables.values()]
        for table, array in zip(self._tables.values(), arrays, strict=True):
            read_rows(table, start, array)
        return arrays
