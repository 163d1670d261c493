"""Shower files in the CaloChallenge format, read and written in blocks.

A file holds ``incident_energies`` (N, 1) and ``showers`` (N, V), both in MeV.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.showers.geometry import BUILT_IN, Geometry
from caloman.showers.hdf5 import append_chunks, check_space, open_hdf5, read_rows, reading, writing

BLOCK_BYTES = 64 * 2**20
CHUNK_BYTES = 2**20
CHUNK = 1000
"""Showers per chunk of generation: the unit of random numbers, of compute and of sharding."""

Compression = Literal["gzip", "none"]


@dataclass(frozen=True)
class Showers:
    """A set of showers in memory.

    Args:
        incident_energies: energy of each incident particle [MeV], shape (N,).
        voxels: energy in each voxel [MeV], shape (N, V).
        geometry: the voxel mesh.
    """

    incident_energies: NDArray[np.float32]
    voxels: NDArray[np.float32]
    geometry: Geometry

    def __post_init__(self) -> None:
        expected = (len(self.incident_energies), self.geometry.n_voxels)
        if self.voxels.shape != expected:
            raise CalomanError(
                f"showers of shape {self.voxels.shape} do not fit dataset {self.geometry.name!r}: expected {expected}"
            )

    def __len__(self) -> int:
        return len(self.incident_energies)

    def __getitem__(self, rows: slice | NDArray[np.generic]) -> "Showers":
        return Showers(self.incident_energies[rows], self.voxels[rows], self.geometry)

    @classmethod
    def load(cls, path: str | Path, geometry: Geometry) -> "Showers":
        """Reads a whole file into memory; see `ShowerFile` for files that are larger than that."""
        with ShowerFile(path, geometry) as file:
            return file.read(0, len(file))

    def save(self, path: str | Path) -> None:
        """Writes the showers as a CaloChallenge file, which appears under `path` only when it is complete."""
        with ShowerWriter(path, self.geometry) as writer:
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
            self._energies = self._dataset("incident_energies", columns=1)
            self._voxels = self._dataset("showers", columns=geometry.n_voxels)
            if len(self._energies) != len(self._voxels):
                raise CalomanError(
                    f"{self.path}: 'showers' has {len(self._voxels)} rows but 'incident_energies' has "
                    f"{len(self._energies)}; both need one row per shower"
                )
        except BaseException:
            self._file.close()
            raise

    def _dataset(self, name: str, columns: int) -> h5py.Dataset:
        dataset = self._file.get(name)
        if not isinstance(dataset, h5py.Dataset):
            raise CalomanError(f"{self.path}: no dataset {name!r}; a CaloChallenge file has 'incident_energies' "
                               "and 'showers'")  # fmt: skip
        if dataset.ndim != 2 or dataset.shape[1] != columns or dataset.dtype.kind not in "fiu":
            fix = "choose the dataset that the file was made for" if columns > 1 else "store one energy per row"
            raise CalomanError(
                f"{self.path}: {name!r} is {dataset.dtype} {dataset.shape}, but dataset {self.geometry.name!r} needs "
                f"numbers of shape (N, {columns}); {fix}"
            )
        if len(dataset) == 0:
            raise CalomanError(f"{self.path}: {name!r} is empty; the file must hold at least one shower")
        return dataset

    def __len__(self) -> int:
        return len(self._energies)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    @property
    def attributes(self) -> dict[str, object]:
        """Attributes of the file."""
        return dict(self._file.attrs)

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
        rows = self._file.get("validation_rows")
        return None if rows is None else rows[:].astype(np.int64)

    def incident_energies(self) -> NDArray[np.float32]:
        """Incident energies of all showers [MeV], shape (N,)."""
        with reading(self.path):
            energies = self._energies[:, 0].astype(np.float32)
        return _checked_energies(energies, self.path, first_row=0)

    def read(self, start: int, stop: int) -> Showers:
        """Reads the showers of rows ``start`` to ``stop``.

        Raises:
            CalomanError: if an energy is not positive, or a voxel is negative or not finite.
        """
        stop = min(stop, len(self))
        energies = np.empty((max(stop - start, 0), 1), np.float32)
        voxels = np.empty((len(energies), self.geometry.n_voxels), np.float32)
        if len(energies):
            with reading(self.path):
                # a float64 file is converted on the way, which spares a copy of twice the size
                read_rows(self._energies, start, energies)
                read_rows(self._voxels, start, voxels)
        energies = energies[:, 0]
        _checked_energies(energies, self.path, first_row=start)
        _check_voxels(voxels, self.path, first_row=start)
        return Showers(energies, voxels, self.geometry)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[Showers]:
        """Iterates over rows ``start`` to ``stop`` in blocks of whole HDF5 chunk rows, each at most about 64 MiB."""
        row_bytes = self.geometry.n_voxels * self._voxels.dtype.itemsize
        rows = max(1, BLOCK_BYTES // (row_bytes * self.chunk_rows)) * self.chunk_rows
        stop = len(self) if stop is None else stop
        while start < stop:
            end = min(stop, start - start % self.chunk_rows + rows)
            yield self.read(start, end)
            start = end


class ShowerWriter:
    """Appends showers to a new file, which takes its final name only when it is complete.

    HDF5 chunks divide `CHUNK`, so that whole chunks of showers can be copied between files as they are.

    Args:
        path: the file to make; an older one is replaced when the new one is complete.
        geometry: the mesh of the showers.
        attributes: attributes to store with the file.
        compression: of the file.

    Raises:
        CalomanError: if the file cannot be written (no such folder, no space left).
    """

    def __init__(
        self,
        path: str | Path,
        geometry: Geometry,
        attributes: Mapping[str, str | int | float] | None = None,
        compression: Compression = "gzip",
    ) -> None:
        self.path = Path(path)
        self.geometry = geometry
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        mesh = {} if BUILT_IN.get(geometry.name) == geometry else {"geometry": geometry.to_text()}
        with writing(self.path):
            # since HDF5 1.8 attributes may be longer than 64 KiB, as the geometry's can be
            self._file = h5py.File(self._partial, "w", libver=("v108", "v108"))
            self._energies = self._create("incident_energies", 1, compression)
            self._voxels = self._create("showers", geometry.n_voxels, compression)
            # in order, for the order in which attributes are made shows in the bytes of the file
            self._file.attrs.update(sorted({"dataset": geometry.name, **mesh, **(attributes or {})}.items()))

    def _create(self, name: str, columns: int, compression: Compression) -> h5py.Dataset:
        most = max(1, CHUNK_BYTES // (4 * columns))
        rows = max(rows for rows in range(1, CHUNK + 1) if CHUNK % rows == 0 and rows <= most)
        gzip = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if compression == "gzip" else {}
        return self._file.create_dataset(
            name, (0, columns), np.float32, chunks=(rows, columns), maxshape=(None, columns), **gzip
        )

    def append(self, showers: Showers) -> None:
        """Adds showers at the end of the file.

        Raises:
            CalomanError: if there may not be enough space; found out before, for HDF5 cannot close a file that it
                could not flush.
        """
        check_space(self.path, showers.voxels.nbytes)
        start, stop = len(self._energies), len(self._energies) + len(showers)
        with writing(self.path):
            self._energies.resize(stop, axis=0)
            self._voxels.resize(stop, axis=0)
            self._energies[start:stop, 0] = showers.incident_energies
            self._voxels[start:stop] = showers.voxels

    def copy(self, path: Path) -> None:
        """Adds the showers of another file of this class, compressed as they are, after whole chunks of showers.

        Raises:
            CalomanError: if that file is damaged or stored in another way, or there may not be enough space.
        """
        check_space(self.path, path.stat().st_size)
        with ShowerFile(path, self.geometry) as source:
            pairs = ((source._energies, self._energies), (source._voxels, self._voxels))
            for theirs, own in pairs:
                if (theirs.chunks, theirs.compression, theirs.dtype) != (own.chunks, own.compression, own.dtype):
                    raise CalomanError(f"{path}: was stored anew by another program; take the file as it was generated")
            # chunk by chunk of showers: the file is the same however its showers were spread over sources
            for start in range(0, len(source), CHUNK):
                for theirs, own in pairs:
                    append_chunks(theirs, own, start, min(CHUNK, len(source) - start), self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with writing(self.path):
                self._file.close()
                if kind is None:
                    self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)


def find_geometry(path: str | Path, dataset: str | None = None) -> Geometry:
    """Geometry of a shower file: of the dataset that is named, or else the one that the file holds or names.

    Raises:
        CalomanError: if neither tells the dataset.
    """
    if dataset is not None:
        return Geometry.load(dataset)
    with open_hdf5(Path(path)) as file:
        name, xml = file.attrs.get("dataset"), file.attrs.get("geometry")
    if xml is not None:
        return Geometry.from_text(str(xml), str(path))
    if name is None:
        raise CalomanError(f"{path}: does not say which dataset it belongs to; add --dataset, such as --dataset 2")
    return Geometry.load(str(name))


def _checked_energies(energies: NDArray[np.float32], path: Path, first_row: int) -> NDArray[np.float32]:
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
