"""Showers in memory, and shower files in the CaloChallenge format, read in blocks.

A file holds ``incident_energies`` (N, 1) and ``showers`` (N, V), both in MeV, and further conditions ``incident_NAME``
(N, 1), such as ``incident_theta``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.showers.attributes import read_attributes
from caloman.showers.chunks import read_rows
from caloman.showers.conditions import ENERGY, known, table_names
from caloman.showers.geometry import BUILT_IN, Geometry
from caloman.showers.hdf5 import find_table, open_hdf5, read_table, reading

BLOCK_BYTES = 64 * 2**20
CHUNK = 1000
"""Showers per chunk of generation: the unit of random numbers, of compute and of sharding."""


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
            names = table_names(self._file)
            self._energies = self._dataset(ENERGY.table, columns=1)
            self._voxels = self._dataset("showers", columns=geometry.n_voxels)
            self._conditions = {name: self._dataset(known(name).table, columns=1) for name in names}
            for name, table in self.tables.items():
                if len(table) != len(self._voxels):
                    raise CalomanError(
                        f"{self.path}: 'showers' has {len(self._voxels)} rows but {name!r} has {len(table)}; both need "
                        "one row per shower"
                    )
        except BaseException:
            self._file.close()
            raise

    def _dataset(self, name: str, columns: int) -> h5py.Dataset:
        table = find_table(self._file, name)
        if table is None:
            raise CalomanError(f"{self.path}: no dataset {name!r}; a CaloChallenge file has 'incident_energies' "
                               "and 'showers'")  # fmt: skip
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
        return len(self._energies)

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
        return self._voxels.chunks[0] if self._voxels.chunks else 1

    @property
    def offset(self) -> int | None:
        """Byte at which all voxels follow one another as float32, ready to be mapped; None if they do not."""
        return self._voxels.id.get_offset() if self._voxels.dtype == np.float32 else None

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
    def tables(self) -> dict[str, h5py.Dataset]:
        """The tables by name, in the order in which they are written."""
        conditions = {known(name).table: table for name, table in self._conditions.items()}
        return {ENERGY.table: self._energies, **conditions, "showers": self._voxels}

    @property
    def condition_names(self) -> list[str]:
        """Names of the conditions beside the energy."""
        return list(self._conditions)

    def incident_energies(self) -> NDArray[np.float32]:
        """Incident energies of all showers [MeV], shape (N,)."""
        return checked_energies(read_table(self._energies)[:, 0], self.path, first_row=0)

    def conditions(self) -> dict[str, NDArray[np.float32]]:
        """Conditions of all showers beside the energy, by name, each of shape (N,)."""
        columns = {name: read_table(table)[:, 0] for name, table in self._conditions.items()}
        for name, values in columns.items():
            known(name).check(values, self.path)
        return columns

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
        energies, voxels = arrays[ENERGY.table][:, 0], arrays["showers"]
        conditions = {name: arrays[known(name).table][:, 0] for name in self._conditions}
        checked_energies(energies, self.path, first_row=start)
        for name, values in conditions.items():
            known(name).check(values, self.path, first_row=start)
        _check_voxels(voxels, self.path, first_row=start)
        return Showers(energies, voxels, self.geometry, conditions)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Showers]:
        """Iterates over rows ``start`` to ``stop`` in blocks of whole HDF5 chunk rows, each at most about 64 MiB."""
        row_bytes = self.geometry.n_voxels * self._voxels.dtype.itemsize
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


def checked_energies(energies: NDArray[np.float32], path: Path, first_row: int) -> NDArray[np.float32]:
    """The same incident energies [MeV], shape (N,).

    Raises:
        CalomanError: with the first shower whose energy is not positive and finite.
    """
    bad = ~(np.isfinite(energies) & (energies > 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise CalomanError(
            f"{path}: 'incident_energies' of shower {first_row + row} is {energies[row]:g} MeV; "
            "energies must be positive, remove or correct that shower"
        )
    return energies


def _check_voxels(voxels: NDArray[np.float32], path: Path, first_row: int) -> None:
    # a minimum is NaN if any entry is, so two passes without temporaries find every fault
    if voxels.min(initial=0.0) >= 0 and np.isfinite(voxels.max(initial=0.0)):
        return
    row, voxel = np.argwhere(~(np.isfinite(voxels) & (voxels >= 0)))[0].tolist()
    raise CalomanError(
        f"{path}: 'showers' holds {voxels[row, voxel]:g} MeV in voxel {voxel} of shower {first_row + row}; "
        "voxels must be finite and not negative, remove or correct that shower"
    )
