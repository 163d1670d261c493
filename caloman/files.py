"""Small files that appear whole, fingerprints of large ones, and files that come with the package."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path

from caloman.errors import CalomanError


def write(path: Path, content: str | bytes) -> None:
    """Writes a file that appears when it is complete.

    Raises:
        CalomanError: if the folder cannot be written to.
    """
    with appearing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Gives a temporary name to write to, which becomes `path` at the end and is removed after an error.

    Raises:
        CalomanError: if the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise CalomanError(f"{path}: cannot be written, check folder and free space ({error.strerror})") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


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
