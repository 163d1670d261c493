"""The one exception that a user is meant to read."""


class CalomanError(Exception):
    """Something that the user can put right.

    The message is one sentence that names the file, the field and the fix. The command line prints it without a
    traceback and exits with status 1.
    """


def first_line(error: BaseException) -> str:
    """The first line of what another library says, short enough for a sentence."""
    return str(error).partition("\n")[0][:200]
