"""The one exception that a user is meant to read, and what it says."""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType


class CalomanError(Exception):
    """Something that the user can put right.

    The message is one sentence that names the file, the field and the fix. The command line prints it without a
    traceback and exits with status 1.
    """


def import_extra(package: str, extra: str) -> ModuleType:
    """A package that comes with an extra of this one.

    Raises:
        CalomanError: if it is not installed.
    """
    try:
        return import_module(package)
    except ImportError:
        raise CalomanError(f"{package} is not installed: pip install 'caloman[{extra}]'") from None


def first_line(error: BaseException) -> str:
    """The first line of what another library says, short enough for a sentence."""
    return str(error).partition("\n")[0][:200]


def first_of(items: Sequence[str], most: int) -> str:
    """The first items, joined by commas; three dots stand for more."""
    return ", ".join(items if len(items) <= most else [*items[:most], "..."])
