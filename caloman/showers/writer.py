"""Shower files in the CaloChallenge format, written in blocks."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.files import appearing, locked
from caloman.showers.conditions import ENERGY, check_equal_names, known
from caloman.showers.geometry import BUILT_IN, Geometry
from caloman.showers.hdf5 import NewFile, check_space, reading
from caloman.showers.showers import CHUNK, ShowerFile, Showers

CHUNK_BYTES = 2**20
Compression = Literal["gzip", "none"]
Layout = Mapping[str, tuple[tuple[int, ...], np.dtype]]  # name of each table -> shape of its rows, and what they hold
Tables = Mapping[str, NDArray]


class ShowerWriter:
    """Writes a new file of showers, which takes its name only when it is complete, and excludes other writers of it.

    HDF5 chunks divide `CHUNK`, so that whole chunks of showers can be copied between files as they are. Other formats
    are subclasses with another layout; see `caloman.showers.libraries`.

    Args:
        path: the file to make; an older one is replaced when the new one is complete.
        geometry: the mesh of the showers.
        attributes: attributes to store with the file.
        compression: of the file.
        n_showers: number of showers, if it is known. Without compression they lie row after row then, ready to be
            mapped, and there has to be space for all of them at the start.
        conditions: names of the conditions beside the energy.

    Raises:
        CalomanError: if the file cannot be written (no such folder, no space left), or another process is writing it.
    """

    def __init__(
        self,
        path: str | Path,
        geometry: Geometry,
        attributes: Mapping[str, str | int | float] | None = None,
        compression: Compression = "gzip",
        n_showers: int | None = None,
        conditions: Iterable[str] = (),
    ) -> None:
        self.path = Path(path)
        self.geometry = geometry
        self._attributes = attributes or {}
        self._compression = compression
        self._rows = n_showers if compression == "none" else None
        self._end = 0
        self._conditions = sorted(conditions)

    def _layout(self) -> Layout:
        """The tables with one row per shower, in the order in which they are made."""
        columns = dict.fromkeys([ENERGY.table, *(known(name).table for name in self._conditions)], 1)
        columns["showers"] = self.geometry.n_voxels
        return {name: ((width,), np.dtype(np.float32)) for name, width in columns.items()}

    def _to_rows(self, showers: Showers) -> Tables:
        """The rows of showers in each table."""
        columns = {ENERGY.table: showers.incident_energies}
        columns |= {known(name).table: values for name, values in showers.conditions.items()}
        return {**{name: values[:, None] for name, values in columns.items()}, "showers": showers.voxels}

    def _further(self) -> Tables:
        """Tables of the whole file, written when all showers are in it."""
        return {}

    def __enter__(self) -> Self:
        self._opened = self._open()
        self._opened.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:  # noqa: ANN401 - as contextlib takes it
        self._opened.__exit__(*exception)

    @contextmanager
    def _open(self) -> Iterator[None]:
        """The file, from its beginning until it has its name."""
        layout = self._layout()
        mesh = {} if BUILT_IN.get(self.geometry.name) == self.geometry else {"geometry": self.geometry.to_text()}
        # in order, for the order in which attributes are made shows in the bytes of the file
        attributes = sorted({"dataset": self.geometry.name, **mesh, **self._attributes}.items())
        with locked(self.path), appearing(self.path) as partial:
            widths = (math.prod(shape) * dtype.itemsize for shape, dtype in layout.values())
            check_space(self.path, (self._rows or 0) * sum(widths))
            with NewFile(partial) as self._file:
                self._tables = {name: self._create(name, *row) for name, row in layout.items()}
                self._file.attrs.update(attributes)
                yield
                for name, values in self._further().items():
                    self._file[name] = values
            self._file.check()
            self._complete(partial)

    def _create(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> h5py.Dataset:
        if self._rows is not None:
            return self._file.create_dataset(name, (self._rows, *shape), dtype)
        most = max(1, CHUNK_BYTES // (dtype.itemsize * math.prod(shape)))
        rows = max(rows for rows in range(1, CHUNK + 1) if CHUNK % rows == 0 and rows <= most)
        storage: dict[str, object] = {"chunks": (rows, *shape), "maxshape": (None, *shape)}
        if self._compression == "gzip" and dtype.kind != "O":  # rows of any length lie elsewhere in the file
            storage |= {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        return self._file.create_dataset(name, (0, *shape), dtype, **storage)

    def append(self, showers: Showers) -> None:
        """Adds showers at the end of the file.

        Raises:
            CalomanError: if the showers have other conditions than the file.
            OSError: if they cannot be written.
        """
        check_equal_names(showers.conditions, self._conditions, self.path)
        rows = self._extend(len(showers))
        for name, values in self._to_rows(showers).items():
            if values.dtype.kind != "O":
                self._tables[name][rows] = values
                continue
            for row, value in enumerate(values, start=rows.start):  # h5py takes equally long ones for a matrix
                self._tables[name][row] = value
        self._file.check()

    def _extend(self, n_showers: int) -> slice:
        """Makes room for showers at the end of the tables."""
        rows = slice(self._end, self._end + n_showers)
        self._end = rows.stop
        if self._rows is None:
            for table in self._tables.values():
                table.resize(rows.stop, axis=0)
        return rows

    def copy(self, path: Path) -> None:
        """Adds the showers of another file of this class, compressed as they are, after whole chunks of showers.

        Raises:
            CalomanError: if that file is damaged, has other conditions or is stored in another way.
            OSError: if they cannot be written.
        """
        with ShowerFile(path, self.geometry) as source:
            check_equal_names(source.condition_names, self._conditions, path)
            pairs = [(source.tables[name], table) for name, table in self._tables.items()]
            for theirs, own in pairs:
                if (theirs.chunks, theirs.compression, theirs.dtype) != (own.chunks, own.compression, own.dtype):
                    raise CalomanError(f"{path}: was stored anew by another program; take the file as it was generated")
            end = self._extend(len(source)).start
            # chunk by chunk of showers: the file is the same however its showers were spread over sources
            for start in range(0, len(source), CHUNK):
                for theirs, own in pairs:
                    for row in range(start, min(start + CHUNK, len(source)), own.chunks[0]):
                        with reading(path):
                            mask, content = theirs.id.read_direct_chunk((row, 0))
                        own.id.write_direct_chunk((end + row, 0), content, mask)
                self._file.check()

    def _complete(self, partial: Path) -> None:
        """What has to happen between the last byte and the name of the file."""
