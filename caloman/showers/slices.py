"""Rows of one or several shower files, read as if they were one file.

A specification is a file, ``showers.hdf5``, or some of its rows, ``showers.hdf5[0:50000]``; where a command takes one
argument, several are joined by commas.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.showers.attributes import read_attributes
from caloman.showers.conditions import check_equal_names
from caloman.showers.geometry import Geometry
from caloman.showers.hdf5 import open_hdf5
from caloman.showers.showers import ShowerFile, Showers

Specification = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class ShowerSlice:
    """Consecutive rows of a file.

    Args:
        path: the HDF5 file.
        start: first row.
        stop: row after the last one; None is the end of the file.
    """

    path: Path
    start: int = 0
    stop: int | None = None

    def __str__(self) -> str:
        return f"{self.path}{self.rows}"

    @property
    def rows(self) -> str:
        """The rows as they are written in a specification; empty for the whole file."""
        whole = self.start == 0 and self.stop is None
        return "" if whole else f"[{self.start}:{'' if self.stop is None else self.stop}]"

    @property
    def end(self) -> float:
        """Row after the last one; infinite if it is not known."""
        return float("inf") if self.stop is None else self.stop

    def within(self, n_file: int) -> range:
        """The rows, in a file of `n_file` showers.

        Raises:
            CalomanError: if the file does not have them.
        """
        stop = n_file if self.stop is None else self.stop
        if not self.start < stop <= n_file:
            raise CalomanError(
                f"{self}: no such rows, the file has {n_file} showers; use [start:stop] with start < stop <= {n_file}"
            )
        return range(self.start, stop)


def parse_slices(specification: Specification) -> list[ShowerSlice]:
    """Reads a specification: one string, with commas between several slices, or a list with one slice each.

    Raises:
        CalomanError: if it names no file, or its brackets do not hold ``start:stop``.
    """
    if isinstance(specification, str) and not _exists(specification):
        specification = specification.split(",")
    elif isinstance(specification, str | Path):
        specification = [specification]
    slices = [_parse_slice(str(item).strip()) for item in specification]
    if not slices:
        raise CalomanError("the list of shower files is empty; name at least one file")
    return slices


def _parse_slice(text: str) -> ShowerSlice:
    match = re.fullmatch(r"(.+)\[(.*)\]", text)
    if match is None or _exists(text):
        return ShowerSlice(Path(text))
    ends = re.fullmatch(r"(\d{0,18}):(\d{0,18})", match[2])
    if ends is None:
        raise CalomanError(f"{text}: [{match[2]}] is not a slice; use [start:stop], such as {match[1]}[0:50000]")
    return ShowerSlice(Path(match[1]), int(ends[1] or 0), int(ends[2]) if ends[2] else None)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except OSError:  # too long for the name of one file
        return False


class ShowerFiles:
    """Slices of shower files that are open for reading, with the interface of a single `ShowerFile`.

    Args:
        specification: see `parse_slices`.
        geometry: the mesh that the voxels belong to.

    Raises:
        CalomanError: if a file is unusable, see `ShowerFile`, does not have the rows, or has other conditions.
    """

    def __init__(self, specification: Specification, geometry: Geometry) -> None:
        self.geometry = geometry
        self.slices = parse_slices(specification)
        self.files: list[ShowerFile] = []
        self.rows: list[range] = []
        """Rows of each file that are used."""
        with ExitStack() as stack:
            for part in self.slices:
                self.files.append(stack.enter_context(ShowerFile(part.path, geometry)))
                self.rows.append(part.within(len(self.files[-1])))
                check_equal_names(self.files[-1].condition_names, self.condition_names, part.path)
            self._stack = stack.pop_all()
        self.starts = np.cumsum([0, *map(len, self.rows)])
        """First row of each slice among all of them, and the number of all rows, shape (number of slices + 1,)."""

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def condition_names(self) -> list[str]:
        """Names of the conditions beside the energy."""
        return self.files[0].condition_names

    def conditions(self) -> dict[str, NDArray[np.float32]]:
        """Conditions of all showers beside the energy, by name, each of shape (N,)."""
        columns = [file.conditions() for file in self.files]
        return {name: self._chosen([own[name] for own in columns]) for name in self.condition_names}

    def incident_energies(self) -> NDArray[np.float32]:
        """Incident energies of all showers [MeV], shape (N,)."""
        return self._chosen([file.incident_energies() for file in self.files])

    def _chosen(self, columns: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The rows that are used of a column of each file."""
        parts = zip(columns, self.rows, strict=True)
        return np.concatenate([column[rows.start : rows.stop] for column, rows in parts])

    def validation_rows(self) -> NDArray[np.int64] | None:
        """Rows that the files record as validation rows, ascending, shape (n,); None if not all of them do."""
        parts = []
        for file, rows, first in zip(self.files, self.rows, self.starts[:-1], strict=True):
            recorded = file.validation_rows()
            if recorded is None:
                return None
            parts.append(recorded[(recorded >= rows.start) & (recorded < rows.stop)] - rows.start + first)
        return np.concatenate(parts)

    def read(self, start: int, stop: int) -> Showers:
        """Reads the showers of rows ``start`` to ``stop``; see `ShowerFile.read`."""
        parts = []
        for file, rows, first in zip(self.files, self.rows, self.starts[:-1].tolist(), strict=True):
            wanted = rows[max(start - first, 0) : max(stop - first, 0)]
            if wanted:
                parts.append(file.read(wanted.start, wanted.stop))
        return parts[0] if len(parts) == 1 else Showers.join(parts)

    def blocks(self) -> Iterator[Showers]:
        """Iterates over the slices in blocks of whole HDF5 chunk rows; see `ShowerFile.blocks`."""
        for file, rows in zip(self.files, self.rows, strict=True):
            yield from file.blocks(rows.start, rows.stop)


def recorded_sources(path: Path) -> list[str]:
    """SHA-256 of the files that a prepared file was made from, as it records them."""
    with open_hdf5(path) as file:
        sources = read_attributes(file).get("sources")
    try:
        return [str(source["sha256"]) for source in json.loads(str(sources))] if sources else []
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CalomanError(f"{path}: attribute 'sources' is not what `caloman prepare` writes; remove it") from None
