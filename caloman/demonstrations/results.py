"""Results that a page of the manual shows, kept as data beside it."""

import json
import platform
import re
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

from caloman import __version__
from caloman.errors import CalomanError, first_line
from caloman.files import read_text, write

Row = dict[str, Any]


def run(main: Callable[[], None]) -> None:
    """Runs a script, whose errors that a user can cause are one sentence and an exit code.

    Raises:
        SystemExit: with that sentence.
    """
    try:
        main()
    except CalomanError as error:
        raise SystemExit(str(error)) from None


class ResultFile:
    """Rows of a JSON file, each written as it comes, so that an interrupted run goes on where it stopped.

    Args:
        path: the file, which may not exist yet.

    Raises:
        CalomanError: if it is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        if path.exists():
            self.rows = _rows(path)

    def find(self, key: Mapping[str, Any]) -> list[Row]:
        """The rows with all values of a key."""
        return [row for row in self.rows if key.items() <= row.items()]

    def complete(self, keys: Sequence[Row], measure: Callable[[Row], Row]) -> list[Row]:
        """Measures what is missing, one key after the other, and returns the rows of all keys."""
        for key in keys:
            if not self.find(key):
                self.add({**key, **measure(key)})
        return [row for key in keys for row in self.find(key)]

    def show(
        self,
        name: str,
        settings: Row,
        table: Callable[[list[Row]], str],
        figure: Callable[[list[Row]], bytes] | None = None,
    ) -> None:
        """Puts table and figure of all rows with some settings into the page beside the file, if there are both."""
        page, rows = self.path.with_suffix(".md"), self.find({"settings": settings})
        if page.is_file() and rows:
            if figure:
                write(page.with_suffix(".png"), figure(rows))
            show(page, name, table(rows))

    def add(self, row: Row) -> None:
        """Writes one more row, with the date and the versions that made it; six digits of a number are kept."""
        text = json.dumps({**row, "date": date.today().isoformat(), "versions": versions()})
        self.rows.append(json.loads(text, parse_float=lambda digits: float(f"{float(digits):.6g}")))
        lines = ",\n".join(map(json.dumps, self.rows))
        write(self.path, f"[\n{lines}\n]\n")


def _rows(path: Path) -> list[Row]:
    try:
        rows = json.loads(read_text(path))
    except ValueError as error:
        raise CalomanError(f"{path} is no file of results ({first_line(error)}); name another") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CalomanError(f"{path} is no file of results (it has no list of rows); name another")
    return rows


def defaults(parser: ArgumentParser, names: Iterable[str]) -> Row:
    """Values of some options of a command where nothing else is asked for."""
    return {name: parser.get_default(name) for name in names}


def versions() -> dict[str, str]:
    """Versions of what results depend on."""
    packages = {"caloman": __version__, "torch": torch.__version__, "numpy": np.__version__, "scipy": scipy.__version__}
    return {"python": platform.python_version(), **{name: str(version) for name, version in packages.items()}}


def show(page: Path, name: str, table: str) -> None:
    """Puts a table into a page in the place of the one before, between the comments ``NAME`` and ``end of NAME``.

    Raises:
        CalomanError: if the page has no such place.
    """
    text = read_text(page)
    place = re.compile(f"(<!-- {re.escape(name)} -->\n).*?(\n<!-- end of {re.escape(name)} -->)", re.DOTALL)
    if not place.search(text):
        raise CalomanError(f"{page} has no place for a table between <!-- {name} --> and <!-- end of {name} -->")
    write(page, place.sub(lambda match: f"{match[1]}\n{table}\n{match[2]}", text))


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Mean and standard deviation of what several seeds gave; of one seed, the value alone."""
    numbers = list(values)
    mean = f"{np.mean(numbers):.{digits}g}"
    return mean if len(numbers) < 2 else f"{mean} ± {np.std(numbers, ddof=1):.1g}"


def markdown(lines: list[list[str]]) -> str:
    """A table in Markdown; the first line is that of the names."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], ["-"] * len(lines[0]), *lines[1:]])
