"""Transfers over the network through pooch, and what went wrong in one, in a sentence."""

from collections.abc import Callable
from types import ModuleType
from typing import TypeVar

from caloman.errors import CalomanError, first_line, import_extra

Result = TypeVar("Result")


def import_pooch() -> ModuleType:
    """The package that downloads, without its own messages."""
    pooch = import_extra("pooch", "data")
    pooch.get_logger().setLevel("WARNING")
    return pooch


def explained(transfer: Callable[[], Result], what: object, url: str, checksum: str) -> Result:
    """Runs a transfer, and says what went wrong.

    Args:
        transfer: the transfer.
        what: what is fetched, for the message.
        url: where from.
        checksum: what the file is known by, such as ``MD5 sum``.

    Raises:
        CalomanError: if it failed, or something else arrived.
    """
    from requests import exceptions

    again = "run the same command again, which starts this file anew"
    try:
        return transfer()
    except exceptions.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        reason = f"{url} answers with status {status}; try later, or download it by hand"
    except (exceptions.ChunkedEncodingError, exceptions.ContentDecodingError):
        reason = f"the transfer broke off; {again}"
    except exceptions.ConnectionError as error:
        host = "/".join(url.split("/")[:3])
        reason = (f"{host} cannot be reached, or the transfer broke off; check the network or the proxy, or download "
                  f"{url} elsewhere and put it there ({_cause(error)})")  # fmt: skip
    except exceptions.RequestException as error:
        reason = f"cannot be downloaded from {url} ({_cause(error)})"
    except OSError as error:
        reason = f"cannot be written, check folder and free space ({error.strerror})"
    except (ValueError, LookupError, TypeError) as error:  # whatever a repository answers, pooch takes it as it comes
        arrived = "does not match" in str(error)  # else an archive without this file, or one that pooch does not know
        reason = (f"what arrived has another {checksum}, so it was deleted; {again}" if arrived else
                  f"cannot be found; check the address ({first_line(error)})")  # fmt: skip
    raise CalomanError(f"{what}: {reason}")


def _cause(error: BaseException) -> str:
    """The innermost reason: requests wraps several layers around it."""
    inner = getattr(error, "reason", error.args[0] if error.args else None)
    return _cause(inner) if isinstance(inner, BaseException) else str(error).rsplit(": ", 1)[-1][:120]
