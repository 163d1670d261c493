"""HDF5 files, opened and written with errors that a user can read."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from caloman.errors import CalomanError

SPARE_BYTES = 8 * 2**20


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
def reading(path: Path) -> Iterator[None]:
    """Turns what goes wrong when an HDF5 file is read into a `CalomanError` that names `path`."""
    try:
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which the checks report
            yield
    except OSError as error:
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
