"""Showers in memory, and shower files in the CaloChallenge format, read in blocks.

A file holds ``incident_energies`` (N, 1) and ``showers`` (N, V), both in MeV, and further conditions ``incident_NAME``
(N, 1), such as ``incident_theta``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.showers.attributes import read_attributes
from caloman.showers.chunks import read_rows
from caloman.showers.conditions import ENERGY, Condition, known, table_names
from caloman.showers.geometry import BUILT_IN, Geometry
from caloman.showers.hdf5 import find_table, names, open_hdf5, read_table, reading

BLOCK_BYTES = 64 * 2**20
CHUNK = 1000  # showers per chunk of generation: the unit of random numbers, of compute and of sharding


@dataclass(frozen=True)
class Showers:
    """A set of showers in memory.

    Args:
        incident_energies: energy of each incident particle [MeV], shape (N,).
        voxels: energy in each voxel [MeV], shape (N, V).
        geometry: the voxel mesh.
        conditions: what else is known of each incident particle, by name (``theta``), each of shape (N,).
    """

    incident_energies: NDArray[np.float32]
    voxels: NDArray[np.float32]
    geometry: Geometry
    conditions: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = (len(self.incident_energies), self.geometry.n_voxels)
        if self.voxels.shape != expected:
            raise CalomanError(
                f"showers of shape {self.voxels.shape} do not fit dataset {self.geometry.name!r}: expected {expected}"
            )
        for name, values in self.conditions.items():
            if values.shape != (len(self),):
                raise CalomanError(f"condition {name!r} of shape {values.shape} does not fit {len(self)} showers: "
                                   "give one number per shower")  # fmt: skip

    def __len__(self) -> int:
        return len(self.incident_energies)

    def __getitem__(self, rows: slice | NDArray[np.generic]) -> "Showers":
        conditions = {name: values[rows] for name, values in self.conditions.items()}
        return Showers(self.incident_energies[rows], self.voxels[rows], self.geometry, conditions)

    @classmethod
    def join(cls, parts: Sequence["Showers"]) -> "Showers":
        """Showers of one mesh with the same conditions, one after the other."""
        energies, voxels = (
            np.concatenate([getattr(p, name) for p in parts]) for name in ("incident_energies", "voxels")
        )
        conditions = {name: np.concatenate([p.conditions[name] for p in parts]) for name in parts[0].conditions}
        return cls(energies, voxels, parts[0].geometry, conditions)

    @classmethod
    def load(cls, path: str | Path, geometry: Geometry) -> "Showers":
        """Reads a whole file into memory; see `ShowerFile` for files that are larger than that."""
        with ShowerFile(path, geometry) as file:
            return file.read(0, len(file))

    def save(self, path: str | Path) -> None:
        """Writes the showers as a CaloChallenge file, which appears under `path` only when it is complete."""
        from caloman.showers.writer import ShowerWriter

        with ShowerWriter(path, self.geometry, conditions=self.conditions) as writer:
            writer.append(self)


class ShowerFile:
    """A shower file that is open for reading; showers are read, converted to float32 and checked block by block.

    Args:
        path: the HDF5 file.
        geometry: the mesh that the voxels belong to.

    Raises:
        CalomanError: if the file is missing, truncated, empty or does not fit the geometry.
    """

    def __init__(self, path: str | Path, geometry: Geometry) -> None:
        self.path = Path(path)
        self.geometry = geometry
        self._file = open_hdf5(self.path)
        try:
            self._conditions = tuple(map(known, (ENERGY.name, *table_names(names(self._file)))))
            columns = dict.fromkeys((condition.table for condition in self._conditions), 1)
            columns["showers"] = geometry.n_voxels
            self.tables = {name: self._dataset(name, width) for name, width in columns.items()}
            """The tables by name, in the order in which they are written."""
            for name, table in self.tables.items():
                if len(table) != len(self):
                    raise CalomanError(
                        f"{self.path}: 'showers' has {len(self)} rows but {name!r} has {len(table)}; both need one row "
                        "per shower"
                    )
        except BaseException:
            self._file.close()
            raise

    def _dataset(self, name: str, columns: int) -> h5py.Dataset:
        table = find_table(self._file, name)
        if table is None:
            raise CalomanError(f"{self.path}: no dataset {name!r}; a CaloChallenge file has 'incident_energies' "
                               "and 'showers', and `caloman prepare --format` reads other layouts")  # fmt: skip
        if table.shape[1:] != (columns,):
            fix = "choose the dataset that the file was made for" if columns > 1 else "store one number per row"
            raise CalomanError(
                f"{self.path}: {name!r} is {table.dtype} {table.shape}, but dataset {self.geometry.name!r} needs "
                f"numbers of shape (N, {columns}); {fix}"
            )
        if len(table) == 0:
            raise CalomanError(f"{self.path}: {name!r} is empty; the file must hold at least one shower")
        return table

    def __len__(self) -> int:
        return len(self.tables["showers"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    @property
    def attributes(self) -> dict[str, str | int | float]:
        """Attributes of the file that are single words or numbers."""
        return read_attributes(self._file)

    @property
    def chunk_rows(self) -> int:
        """Showers per HDF5 chunk: what has to be decoded for one of them; 1 if the file is contiguous."""
        return self.tables["showers"].chunks[0] if self.tables["showers"].chunks else 1

    @property
    def offset(self) -> int | None:
        """Byte at which all voxels follow one another as float32, ready to be mapped; None if they do not."""
        return self.tables["showers"].id.get_offset() if self.tables["showers"].dtype == np.float32 else None

    def validation_rows(self) -> NDArray[np.int64] | None:
        """Rows that the file records as held out for validation, ascending, shape (n,); None if it records none."""
        table = find_table(self._file, "validation_rows")
        if table is None:
            return None
        rows = np.empty(table.shape, np.int64)
        with reading(self.path):
            read_rows(table, 0, rows)
        if rows.ndim != 1 or not (np.diff(rows, prepend=-1, append=len(self)) > 0).all():
            raise CalomanError(
                f"{self.path}: 'validation_rows' must ascend from 0 to at most {len(self) - 1}; prepare the file again"
            )
        return rows

    @property
    def condition_names(self) -> list[str]:
        """Names of the conditions beside the energy."""
        return [condition.name for condition in self._conditions[1:]]

    def incident_energies(self) -> NDArray[np.float32]:
        """Incident energies of all showers [MeV], shape (N,)."""
        return self._column(ENERGY)

    def conditions(self) -> dict[str, NDArray[np.float32]]:
        """Conditions of all showers beside the energy, by name, each of shape (N,)."""
        return {condition.name: self._column(condition) for condition in self._conditions[1:]}

    def _column(self, condition: Condition) -> NDArray[np.float32]:
        values = read_table(self.tables[condition.table])[:, 0]
        condition.check(values, self.path)
        return values

    def read(self, start: int, stop: int) -> Showers:
        """Reads the showers of rows ``start`` to ``stop``.

        Raises:
            CalomanError: if an energy is not positive, a condition makes no sense, or a voxel is negative or infinite.
        """
        rows = max(min(stop, len(self)) - start, 0)
        # a float64 file is converted on the way, which spares a copy of twice the size
        arrays = {name: np.empty((rows, table.shape[1]), np.float32) for name, table in self.tables.items()}
        if rows:
            with reading(self.path):
                for name, table in self.tables.items():
                    read_rows(table, start, arrays[name])
        columns = {condition.name: arrays[condition.table][:, 0] for condition in self._conditions}
        for condition in self._conditions:
            condition.check(columns[condition.name], self.path, first_row=start)
        check_voxels(arrays["showers"], self.path, first_row=start)
        return Showers(columns.pop(ENERGY.name), arrays["showers"], self.geometry, columns)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Showers]:
        """Iterates over rows ``start`` to ``stop`` in blocks of whole HDF5 chunk rows, each at most about 64 MiB."""
        row_bytes = self.geometry.n_voxels * self.tables["showers"].dtype.itemsize
        rows = max(1, BLOCK_BYTES // (row_bytes * self.chunk_rows)) * self.chunk_rows
        stop = len(self) if stop is None else stop
        while start < stop:
            end = min(stop, start - start % self.chunk_rows + rows)
            yield self.read(start, end)
            start = end


def find_geometry(path: str | Path, dataset: str | None = None) -> Geometry:
    """Geometry of a shower file: of the dataset that is named, or else the one that the file holds or names.

    Raises:
        CalomanError: if neither tells the dataset.
    """
    if dataset is not None:
        return Geometry.load(dataset)
    with open_hdf5(Path(path)) as file:
        attributes = read_attributes(file)
    if "geometry" in attributes:
        return Geometry.from_text(str(attributes["geometry"]), str(path))
    if attributes.get("dataset") not in BUILT_IN:
        raise CalomanError(f"{path}: does not say which dataset it belongs to; add --dataset, such as --dataset 2")
    return BUILT_IN[str(attributes["dataset"])]


def check_voxels(voxels: NDArray[np.float32], path: Path, first_row: int) -> None:
    """Refuses voxels (N, V) that are negative or not finite.

    Raises:
        CalomanError: with the first of them.
    """
    # a minimum is NaN if any entry is, so two passes without temporaries find every fault
    if voxels.min(initial=0.0) >= 0 and np.isfinite(voxels.max(initial=0.0)):
        return
    row, voxel = np.argwhere(~(np.isfinite(voxels) & (voxels >= 0)))[0].tolist()
    raise CalomanError(
        f"{path}: 'showers' holds {voxels[row, voxel]:g} MeV in voxel {voxel} of shower {first_row + row}; "
        "voxels must be finite and not negative, remove or correct that shower"
    )
