"""Showers in NumPy archives (``.npz``), compressed or not, read in blocks.

An archive has the arrays of a shower file: ``incident_energies`` [MeV], further conditions ``incident_NAME``, each with
one number per shower, and ``showers`` [MeV], with V numbers per shower in the order of the voxels, on whatever axes.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from caloman.data.foreign import ForeignFile
from caloman.errors import CalomanError
from caloman.showers.conditions import ENERGY, Columns, Conditions, known, table_names
from caloman.showers.hdf5 import GZIP_RATIO, reading

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class _Rows:
    """Rows of `columns` numbers of one array of an archive, checked to claim no more than its bytes can hold."""

    def __init__(self, archive: zipfile.ZipFile, name: str, columns: int) -> None:
        info = archive.getinfo(f"{name}.npy")
        self._stream = archive.open(info)
        version = npy.read_magic(self._stream)
        where = f"{archive.filename}: {name!r}"
        if version not in HEADERS or info.compress_type not in COMPRESSIONS:
            raise CalomanError(f"{where} is stored in an unknown way; write it again with numpy.savez")
        shape, by_column, self._dtype = HEADERS[version](self._stream)
        if self._dtype.kind not in "fiu" or not shape or (by_column and len(shape) > 1):
            raise CalomanError(f"{where} has no rows of numbers; store some, with numpy.ascontiguousarray")
        if math.prod(shape[1:]) != columns:
            raise CalomanError(f"{where} has the shape {shape} instead of {columns} numbers per shower; name the mesh "
                               "of the file with --dataset")  # fmt: skip
        self._start, self._row_bytes, self._n_rows = self._stream.tell(), columns * self._dtype.itemsize, shape[0]
        n_bytes = self._start + self._n_rows * self._row_bytes
        if not self._n_rows or n_bytes != info.file_size or n_bytes > GZIP_RATIO * info.compress_size:
            raise CalomanError(f"{where} claims {self._n_rows} rows, but {info.compress_size} bytes are stored; write "
                               "it again with numpy.savez")  # fmt: skip

    def __len__(self) -> int:
        return self._n_rows

    def read(self, start: int, n: int) -> NDArray[np.float32]:
        """Rows from `start` on, which may only grow between calls, shape (n, columns)."""
        self._stream.seek(self._start + start * self._row_bytes)
        content = self._stream.read(n * self._row_bytes)
        return np.frombuffer(content, self._dtype).reshape(n, -1).astype(np.float32)


class NpzFile(ForeignFile):
    """An archive with the arrays of a shower file."""

    TABLES = (ENERGY.table, "showers")

    def _opened(self, path: Path) -> zipfile.ZipFile:
        with _unpacking(path):
            return zipfile.ZipFile(path)

    def _open(self) -> int:
        names = [name.removesuffix(".npy") for name in self._file.namelist()]
        for name in self.TABLES:
            if name not in names:
                raise CalomanError(f"{self.path}: no array {name!r}; name the arrays {' and '.join(self.TABLES)}")
        self.CONDITIONS = Conditions(map(known, (ENERGY.name, *table_names(names))))
        columns = {**dict.fromkeys((condition.table for condition in self.CONDITIONS), 1),
                   "showers": self.geometry.n_voxels}  # fmt: skip
        with _unpacking(self.path):
            self._arrays = {name: _Rows(self._file, name, width) for name, width in columns.items()}
        return self._n_rows(self._arrays)

    def _read(self, start: int, n: int) -> tuple[NDArray[np.float32], Columns]:
        with _unpacking(self.path):
            found = {name: rows.read(start, n) for name, rows in self._arrays.items()}
        return found["showers"], {c.name: found[c.table][:, 0] for c in self.CONDITIONS}


@contextmanager
def _unpacking(path: Path) -> Iterator[None]:
    try:
        with reading(path):
            yield
    except (zipfile.BadZipFile, zlib.error, EOFError, SyntaxError) as error:
        raise CalomanError(f"{path}: damaged file, write it again with numpy.savez ({error})") from None
