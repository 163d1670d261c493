"""Files and folders that appear whole, one writer at a time; fingerprints; and files that come with the package."""

import errno
import hashlib
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from importlib.resources import files
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from caloman.errors import CalomanError

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")  # what the name of a stage looks like, which becomes that of a folder

logger = logging.getLogger(__name__)

LARGEST_TEXT = 2**24  # bytes of the longest text file that is read: meshes, histograms and the like are far shorter
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def write(path: Path, content: str | bytes) -> None:
    """Writes a file that appears when it is complete.

    Raises:
        CalomanError: if the folder cannot be written to.
    """
    with appearing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def read_text(path: Path) -> str:
    """Reads a small text file.

    Raises:
        CalomanError: if it is missing, no regular file (such as a pipe, which would wait forever), too long or no text.
    """
    if not path.is_file():
        raise CalomanError(f"{path}: no such file" if not path.exists() else f"{path}: not a regular file")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_TEXT + 1)
        if len(content) <= LARGEST_TEXT:
            return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalomanError(f"{path}: not a readable text file ({error})") from None
    raise CalomanError(f"{path}: longer than {LARGEST_TEXT // 2**20} MiB, which is no text file of this kind")


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Gives an empty file under a temporary name to write to, which becomes `path` at the end.

    It is removed after an error. Of several writers the last one wins; `locked` excludes all but one.

    Raises:
        CalomanError: if the folder cannot be written to, or a folder has the name.
    """
    if path.is_dir():
        raise CalomanError(f"{path}: is a folder; give the name of a file")
    partial = _partial(path)
    with _removed(partial, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # some libraries write files for their owner only
        partial.replace(path)


@contextmanager
def appearing_folder(path: Path) -> Iterator[Path]:
    """Gives an empty folder under a temporary name to fill, which becomes `path` at the end, and excludes others.

    An older folder stays complete until the new one is: it is set aside, never deleted before. `restore` puts it back
    after a kill between the two.

    Raises:
        CalomanError: if the folder cannot be written, or another process is writing it.
    """
    if path.exists() and not path.is_dir():
        raise CalomanError(f"{path}: is a file; give the name of a folder")
    with _removed(partial := _partial(path), path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            restore(path)
            partial.mkdir()
            mode = partial.stat().st_mode & 0o666
            yield partial
            for file in partial.rglob("*"):
                if file.is_file():
                    file.chmod(mode)  # see `appearing`
            if path.exists():
                path.rename(_set_aside(path))
            partial.rename(path)
            shutil.rmtree(_set_aside(path), ignore_errors=True)


def restore(path: Path) -> None:
    """Puts back a folder that `appearing_folder` had set aside when its process was killed.

    Raises:
        CalomanError: if another process is writing it.
    """
    older = _set_aside(path)
    if older.is_dir():
        with locked(path), suppress(OSError):
            _remove(older) if path.exists() else older.rename(path)


@contextmanager
def locked(path: Path, wait: bool = False) -> Iterator[None]:
    """Holds the right to write a file or folder, and removes what killed processes left of it.

    The lock is a file beside it, ``.NAME.lock``; the system releases it when the process ends, however it ends. One
    thread may hold it several times.

    Args:
        path: the file or folder.
        wait: for another process to be done, instead of giving up.

    Raises:
        CalomanError: if another process or thread holds it, or the folder cannot be written to.
    """
    if not path.name:
        raise CalomanError(f"{path}: is a folder without a name; give the name of a file or folder in it")
    file = path.with_name(f".{path.name}.lock")
    lock = FileLock(file, timeout=-1 if wait else 0, is_singleton=True)
    busy = CalomanError(f"{path}: another process is writing it; wait for that one, or write elsewhere")
    first = not lock.is_locked
    try:
        path.parent.stat()  # a missing folder would be made
        lock.acquire()
        while wait and not file.exists():  # its last holder removed it meanwhile
            lock.release()
            lock.acquire()
    except Timeout:
        raise busy from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in WITHOUT_LOCKS:
            raise unwritable(path, error) from None
        logger.warning("%s: no locks here (%s), so let no other process write it", path, error)
        yield
        return
    try:
        if not file.exists():  # its last holder removed it meanwhile
            raise busy
        if first:
            for partial in path.parent.glob(f".{escape(path.name)}.*.partial"):
                _remove(partial)
        yield
    finally:
        if first:
            with suppress(OSError):
                file.unlink(missing_ok=True)
        lock.release()


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid4().hex[:12]}.partial")


def _set_aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.older")


@contextmanager
def _removed(partial: Path, path: Path) -> Iterator[None]:
    """Removes a partial file or folder in the end, and says why it could not be written."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> CalomanError:
    """Says that a file or folder cannot be written, and why."""
    return CalomanError(f"{path}: cannot be written, check folder and free space ({error.strerror})")


def shipped(path: Path) -> Path:
    """A file that comes with the package, inside it where it is installed and beside it in a checkout; or the path."""
    package = Path(str(files("caloman")))
    return next((file for file in (package / path, package.parent / path) if file.is_file()), path)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5(path: str | Path) -> str:
    """MD5 sum of a file's bytes, in hexadecimal, as Zenodo publishes it.

    Raises:
        CalomanError: if the file cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise CalomanError(f"{path}: cannot be read ({error.strerror})") from None


def check_name(name: object, kind: str) -> None:
    """Makes sure that a name can be that of a folder, and of none outside the run.

    Args:
        name: of a stage, for example.
        kind: what it is the name of, for the message.

    Raises:
        CalomanError: if it cannot.
    """
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise CalomanError(
            f"{kind} {name!r}: not a name; use at most 64 letters, digits, '-' and '_', and start with a letter"
        )
