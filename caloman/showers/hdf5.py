"""The one place that opens HDF5 files for reading, with all checks of what a stranger's file may hold; and writing.

A file may not lead elsewhere (links, external storage, virtual data sets), and no table may claim more than its bytes
can hold, so that reading takes neither the contents of other files nor more memory than a file of that size deserves.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.files import appearing, locked
from caloman.showers.chunks import FILTERS, filters, read_rows, stored_chunks
from caloman.showers.lists import REFERENCE

MOST_ROWS = 10**8
LARGEST_BLOCK = 2**29  # bytes of the chunks that lie in the same rows, which have to be read together
GZIP_RATIO = 1100  # a little more than the most that gzip can shorten anything by


def open_hdf5(path: Path) -> h5py.File:
    """Opens an HDF5 file for reading; its content goes through `find_table` and `attributes.read_attributes`.

    Raises:
        CalomanError: if the file is missing, truncated or not HDF5.
    """
    if not path.is_file():
        what = "not a regular file" if path.exists() else "no such file"
        raise CalomanError(f"{path}: {what}; give the path of an HDF5 file with showers")
    if path.suffix == ".npz":
        raise CalomanError(f"{path}: an archive of NumPy; make a shower file of it with `caloman prepare {path} "
                           "FILE.hdf5 --format npz --dataset DATASET`")  # fmt: skip
    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise CalomanError(
            f"{path}: not a complete HDF5 file, download or generate it again ({_reason(error)})"
        ) from None


def names(file: h5py.File) -> list[str]:
    """Names of everything at the top of a file.

    Raises:
        CalomanError: if they are damaged.
    """
    with reading(Path(file.filename)):
        return list(file)


def find_table(
    file: h5py.File, name: str, axes: Sequence[int] = (1, 2), records: bool = False, lists: bool = False
) -> h5py.Dataset | None:
    """A table of numbers, checked to be what it says; None if the file has nothing of this name.

    Args:
        file: open for reading.
        name: of the table.
        axes: how many it may have.
        records: whether its entries are records of several numbers instead of one number each.
        lists: whether its entries are lists of numbers, for `lists.NumberLists`.

    Raises:
        CalomanError: if it is something else, or is stored elsewhere or in a way that could not be read safely.
    """
    path = Path(file.filename)
    with reading(path):
        link = file.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise _flatten(path, name, "is a link to another place")
        table = file[name]
        if not isinstance(table, h5py.Dataset):
            raise CalomanError(f"{path}: {name!r} is a group instead of a table of numbers; store the numbers there")
        if table.is_virtual or table.external:
            raise _flatten(path, name, "is stored in other files")
        entries = h5py.check_vlen_dtype(table.dtype) if lists else None
        dtype = entries if isinstance(entries, np.dtype) else table.dtype  # of texts it is `str`
        numbers = [dtype[field].base for field in dtype.names or ()] if records else [dtype]
        kinds = {number.kind for number in numbers}
        if not kinds or not kinds <= set("fiu") or table.shape is None or table.ndim not in axes:
            raise CalomanError(f"{path}: {name!r} is {table.dtype} {table.shape} instead of a table of real numbers; "
                               "store the numbers there")  # fmt: skip
        if lists and (dtype is table.dtype or file.id.get_create_plist().get_sizes()[0] != 8):
            raise CalomanError(f"{path}: {name!r} has no lists of numbers; store some, as h5py does")
        _check_storage(table, path, name, REFERENCE.itemsize if lists else table.dtype.itemsize)
        return table


def _check_storage(table: h5py.Dataset, path: Path, name: str, itemsize: int) -> None:
    """Makes sure that a table claims no more than the bytes of its file can hold, `itemsize` for each entry."""
    n_bytes, stored = table.size * itemsize, table.id.get_storage_size()
    largest = stored
    if len(table) > MOST_ROWS:
        raise CalomanError(f"{path}: {name!r} has {len(table)} rows; split the file, {MOST_ROWS} are the most")
    if table.chunks:
        if not set(filters(table)) <= set(FILTERS) or not _is_plain(table.id.get_type(), table.dtype):
            raise _flatten(path, name, "is not stored with gzip")
        row = itemsize * int(np.prod(table.shape[1:] or 1, dtype=object))
        chunk = itemsize * int(np.prod(table.chunks, dtype=object))
        if max(chunk, row * min(table.chunks[0], len(table))) > LARGEST_BLOCK:
            raise _flatten(path, name, f"has chunks of {table.chunks}, too large to read one by one")
        content, missing = stored_chunks(table)
        if missing or content > 2 * chunk + 2**16:
            raise CalomanError(f"{path}: damaged file, download or generate it again ({missing} chunks of {name!r} "
                               f"are missing, the largest has {content} bytes)")  # fmt: skip
        largest *= GZIP_RATIO
    else:
        offset = table.id.get_offset() or 0
        largest = min(stored, path.stat().st_size - offset)
    if n_bytes > largest:
        raise CalomanError(f"{path}: damaged file, download or generate it again ({name!r} claims {table.shape} "
                           f"numbers, but {stored} bytes are stored)")  # fmt: skip


def _is_plain(stored: h5py.h5t.TypeID, dtype: np.dtype) -> bool:
    """Whether the numbers of a type of HDF5 are stored as those of NumPy."""
    inner = h5py.check_vlen_dtype(dtype)
    stored, dtype = (stored, dtype) if inner is None else (stored.get_super(), inner)
    return bool(stored.equal(h5py.h5t.py_create(dtype)))


def _flatten(path: Path, name: str, what: str) -> CalomanError:
    return CalomanError(
        f"{path}: {name!r} {what}; make a plain file of it first, in Python or with "
        "`h5copy -f ext,soft` and `h5repack -f GZIP=1 -l CHUNK=1000x1`"
    )


def read_table(table: h5py.Dataset) -> NDArray[np.float32]:
    """Reads a whole table.

    Raises:
        CalomanError: if it is damaged.
    """
    with reading(Path(table.file.filename)):
        out = np.empty(table.shape, np.float32)
        read_rows(table, 0, out)
    return out


def check_space(path: Path, n_bytes: int) -> None:
    """Makes sure that the disk has room, before a long job finds out that it has not.

    Raises:
        CalomanError: if there is not enough space.
    """
    free = shutil.disk_usage(path.parent).free
    if free < n_bytes:
        raise CalomanError(f"{path}: only {free / 2**20:.1f} MiB are free there, but {n_bytes / 2**20:.1f} MiB are "
                           "needed; make space or write elsewhere")  # fmt: skip


class NewFile(h5py.File):
    """A new HDF5 file.

    Args:
        path: an empty file.
    """

    def __init__(self, path: Path) -> None:
        self._disk = _Disk(path)
        # since HDF5 1.8 attributes may be longer than 64 KiB, as a geometry's can be; tables are aligned to be mapped
        super().__init__(self._disk, "w", libver=("v108", "v108"), alignment_threshold=1, alignment_interval=8)

    def close(self) -> None:
        super().close()
        self._disk.close()

    def check(self) -> None:
        """Raises the first OSError that there was."""
        if self._disk.error:
            raise self._disk.error


class _Disk(FileIO):
    """A file that takes and gives back everything even when the disk is full: HDF5 crashes on what it cannot flush."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r+b")
        self.error: OSError | None = None
        self._lost: list[tuple[int, bytes]] = []  # place and content of what the disk did not take

    def write(self, content: Any, /) -> int:  # noqa: ANN401
        place, view = self.tell(), memoryview(content).cast("B")
        written = 0
        while written < len(view) and not self.error:
            try:
                written += super().write(view[written:])
            except OSError as error:
                self.error = error
        if written < len(view):
            self._lost.append((place + written, bytes(view[written:])))
        return len(view)

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401
        start, view = self.tell(), memoryview(buffer).cast("B")
        n_bytes = super().readinto(view) or 0
        for place, content in self._lost:
            low, high = max(place, start), min(place + len(content), start + len(view))
            if low < high:
                view[low - start : high - start] = content[low - place : high - place]
                n_bytes = max(n_bytes, high - start)
        return n_bytes

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = error
            return size or 0


@contextmanager
def new_tables(
    path: Path, columns: Mapping[str, int], rows: int, attributes: Mapping[str, str | int]
) -> Iterator[Callable[[Iterable[NDArray]], None]]:
    """Makes a file of tables of float32, which takes its name when the block ends without an error.

    Gives what appends rows to each of the tables, in their order.

    Args:
        path: the file.
        columns: name of each table -> number of its columns.
        rows: number of rows of all of them.
        attributes: attributes of the file.

    Raises:
        CalomanError: if the file cannot be written (no such folder, no space left), or another process is writing it.
    """
    with locked(path), appearing(path) as partial:
        check_space(path, 4 * rows * sum(columns.values()))
        with NewFile(partial) as file:
            file.attrs.update(attributes)
            tables = [file.create_dataset(name, (rows, width), np.float32) for name, width in columns.items()]
            end = 0

            def append(parts: Iterable[NDArray]) -> None:
                nonlocal end
                for table, part in zip(tables, parts, strict=True):
                    table[end : end + len(part)] = part
                end += len(part)
                file.check()

            yield append
        file.check()


def read_tables(path: Path, names: Sequence[str], command: str) -> list[NDArray[np.float32]]:
    """Reads whole tables of a file that `new_tables` made, for the command that is named.

    Raises:
        CalomanError: if the file is missing or damaged, or lacks one of them.
    """
    with open_hdf5(path) as file:
        tables = {name: find_table(file, name) for name in names}
        for name, table in tables.items():
            if table is None or table.ndim != 2:
                raise CalomanError(f"{path}: has no table {name!r}; make it with `caloman {command}`")
        return [read_table(table) for table in tables.values()]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what goes wrong when an HDF5 file is read into a `CalomanError` that names `path`."""
    try:
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which the checks report
            yield
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
        # what h5py raises depends on where the damage is
        raise CalomanError(f"{path}: damaged file, download or generate it again ({_reason(error)})") from None


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
