"""HDF5 files, opened and written with errors that a user can read."""

import math
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.files import appearing

SPARE_BYTES = 8 * 2**20
THREADS = min(8, os.cpu_count() or 1)


def open_hdf5(path: Path) -> h5py.File:
    """Opens an HDF5 file for reading.

    Raises:
        CalomanError: if the file is missing, truncated or not HDF5.
    """
    if not path.is_file():
        raise CalomanError(f"{path}: no such file; give the path of an HDF5 file with showers")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise CalomanError(
            f"{path}: not a complete HDF5 file, download or generate it again ({_reason(error)})"
        ) from None


def read_rows(dataset: h5py.Dataset, start: int, out: NDArray[np.float32]) -> None:
    """Reads rows of a table into `out`, shape (n, columns), from row `start` on.

    Whole rows of gzipped chunks, as in official files, are unzipped by several threads; HDF5 does it with one, and h5py
    holds Python's lock meanwhile.

    Raises:
        OSError: if the file is damaged.
    """
    stop = start + len(out)
    if not _is_plain_gzip(dataset) or start % dataset.chunks[0] or (stop % dataset.chunks[0] and stop < len(dataset)):
        dataset.read_direct(out, np.s_[start:stop])
        return
    rows, columns = dataset.chunks
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(start, stop, rows):
            pieces = []
            for column in range(0, dataset.shape[1], columns):
                target = out[first - start : first - start + rows, column : column + columns]
                skipped, content = dataset.id.read_direct_chunk((first, column))
                pieces.append(pool.submit(_unzip, content, bool(skipped), dataset.chunks, dataset.dtype, target))
            for piece in pieces:
                piece.result()


def _is_plain_gzip(dataset: h5py.Dataset) -> bool:
    """Whether each chunk is there and holds nothing but gzipped numbers."""
    if dataset.ndim != 2 or not dataset.chunks or dataset.dtype.kind != "f":
        return False
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    n_chunks = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    return filters == [h5py.h5z.FILTER_DEFLATE] and dataset.id.get_num_chunks() == n_chunks


def _unzip(
    content: bytes, unzipped: bool, chunk: tuple[int, int], dtype: np.dtype, target: NDArray[np.float32]
) -> None:
    try:
        content = content if unzipped else zlib.decompress(content, bufsize=math.prod(chunk) * dtype.itemsize)
        values = np.frombuffer(content, dtype).reshape(chunk)
    except (zlib.error, ValueError) as error:
        raise OSError(f"a chunk cannot be unzipped: {error}") from None
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which the readers report
        target[...] = values[: target.shape[0], : target.shape[1]]


def append_chunks(source: h5py.Dataset, target: h5py.Dataset, start: int, rows: int, path: Path) -> None:
    """Adds rows of a table to another one with the same chunks and compression, as they are stored.

    Args:
        source: the table to read; `start` is where one of its chunks begins.
        target: the table to write, of whole chunks so far.
        start: first row.
        rows: number of rows.
        path: the name that the file of the target will have.

    Raises:
        CalomanError: if the source is damaged or the target cannot be written.
    """
    end = len(target)
    with writing(path):
        target.resize(end + rows, axis=0)
    for row in range(0, rows, target.chunks[0]):
        with reading(Path(source.file.filename)):
            skipped_filters, content = source.id.read_direct_chunk((start + row, 0))
        with writing(path):
            target.id.write_direct_chunk((end + row, 0), content, skipped_filters)


def check_space(path: Path, n_bytes: int) -> None:
    """Makes sure, before HDF5 writes, that the disk has room; HDF5 cannot close a file that it could not flush.

    Raises:
        CalomanError: if there may not be enough space.
    """
    with writing(path):
        free = shutil.disk_usage(path.parent).free
    if free < n_bytes + SPARE_BYTES:
        raise CalomanError(
            f"{path}: only {free // 2**20} MiB are free there, but {(n_bytes + SPARE_BYTES) // 2**20} MiB are needed; "
            "make space or write elsewhere"
        )


@contextmanager
def new_tables(
    path: Path, columns: Mapping[str, int], rows: int, attributes: Mapping[str, str | int]
) -> Iterator[Mapping[str, h5py.Dataset]]:
    """Gives tables of float32 to fill, of a new file that takes its name when the block ends without an error.

    Args:
        path: the file.
        columns: name of each table -> number of its columns.
        rows: number of rows of all of them.
        attributes: attributes of the file.

    Raises:
        CalomanError: if the file cannot be written (no such folder, no space left).
    """
    check_space(path, 4 * rows * sum(columns.values()))
    with appearing(path) as partial, writing(path), h5py.File(partial, "w") as file:
        file.attrs.update(attributes)
        yield {name: file.create_dataset(name, (rows, width), np.float32) for name, width in columns.items()}


def read_tables(path: Path, names: Sequence[str], command: str) -> list[NDArray[np.float32]]:
    """Reads whole tables of a file that `new_tables` made, for the command that is named.

    Raises:
        CalomanError: if the file is missing or damaged, or lacks one of them.
    """
    with open_hdf5(path) as file, reading(path):
        missing = [name for name in names if name not in file]
        if missing:
            raise CalomanError(f"{path}: has no table {missing[0]!r}; make it with `caloman {command}`")
        return [file[name][:] for name in names]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what goes wrong when an HDF5 file is read into a `CalomanError` that names `path`."""
    try:
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which the checks report
            yield
    except (OSError, RuntimeError, ValueError) as error:  # what h5py raises depends on where the damage is
        raise CalomanError(f"{path}: damaged file, download or generate it again ({_reason(error)})") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what goes wrong when an HDF5 file is written into a `CalomanError` that names `path`."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py raises RuntimeError when it cannot flush to a full disk
        raise CalomanError(f"{path}: cannot be written, check folder and free space ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
