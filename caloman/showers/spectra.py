"""Spectra: values of a condition chunk by chunk, the same for any number of jobs."""

import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.files import read_text
from caloman.showers.conditions import ENERGY, Condition
from caloman.showers.hdf5 import find_table, open_hdf5, read_table
from caloman.showers.showers import CHUNK
from caloman.showers.slices import ShowerSlice, parse_slices

UNITS = {
    "MeV": {"keV": 1e-3, "MeV": 1.0, "GeV": 1e3, "TeV": 1e6},
    "rad": {"rad": 1.0, "deg": math.pi / 180},
}
"""Units of the values of a condition by its own unit, and their factors."""
SPECTRUM_HELP = (
    "use a list such as 1GeV,10GeV, a spectrum uniform:LOW:HIGH, log-uniform:LOW:HIGH, discrete:1GeV=3,10GeV=1 or "
    "histogram:FILE (lines of LOW HIGH WEIGHT), or an HDF5 file with 'incident_energies'; units are keV, MeV (also if "
    "none is given), GeV and TeV"
)
SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
SPELLED_OUT = 20  # most listed values that are named one by one
MOST_SHOWERS = 10**10  # of one request: 10 million chunks
MOST_SEED = 2**63 - 1  # the largest number that a file keeps


def check_seed(seed: int) -> None:
    """Refuses seeds that a generator of random numbers or a file does not take.

    Raises:
        CalomanError: if the seed is negative or above 2^63 - 1.
    """
    if not 0 <= seed <= MOST_SEED:
        raise CalomanError(f"--seed {seed}: must lie between 0 and {MOST_SEED}")


def value_generator(seed: int, chunk: int, stream: tuple[int, ...]) -> np.random.Generator:
    """Random numbers for the values of a condition in a chunk; energies have the stream ()."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(chunk, 0, *stream)))


class Spectrum(ABC):
    """Values by chunk, the same whichever chunks are asked for; as text, what tells it from all others."""

    size: int | None = None
    """How many values there are, if they are counted."""

    @property
    @abstractmethod
    def bounds(self) -> NDArray[np.float64]:
        """Lowest and highest value, shape (2,)."""

    @property
    def samples(self) -> NDArray[np.floating]:
        """Values from everywhere in the spectrum, shape (n,)."""
        low, high = self.bounds.tolist()
        return np.linspace(low, high, 257)

    @abstractmethod
    def chunk(self, seed: int, chunk: int, rows: int, stream: tuple[int, ...] = ()) -> NDArray[np.float32]:
        """Values of the first `rows` showers of a chunk, shape (rows,); a stream has random numbers of its own."""


@dataclass(frozen=True)
class Listed(Spectrum):
    """Given values in turn, from the start again when they are used up.

    Args:
        values: shape (n,).
    """

    values: NDArray[np.float32]

    @property
    def size(self) -> int:  # type: ignore[override]
        return len(self.values)

    @property
    def bounds(self) -> NDArray[np.float64]:
        return np.array([self.values.min(), self.values.max()], dtype=np.float64)

    @property
    def samples(self) -> NDArray[np.floating]:
        return np.unique(self.values)

    def __str__(self) -> str:
        if len(self.values) <= SPELLED_OUT:
            return ",".join(map(str, self.values.tolist()))
        digest = hashlib.sha256(np.ascontiguousarray(self.values).data).hexdigest()
        return f"{len(self.values)} values with SHA-256 {digest}"

    def chunk(self, seed: int, chunk: int, rows: int, stream: tuple[int, ...] = ()) -> NDArray[np.float32]:
        return self.values[(chunk * CHUNK + np.arange(rows)) % len(self.values)]


@dataclass(frozen=True)
class Uniform(Spectrum):
    """Values drawn uniformly, or uniformly in their logarithm, between two ends.

    Args:
        low: lower end.
        high: upper end.
        log: draw the logarithm.
    """

    low: float
    high: float
    log: bool

    @property
    def bounds(self) -> NDArray[np.float64]:
        return np.array([self.low, self.high])

    def __str__(self) -> str:
        return f"{'log-' * self.log}uniform:{self.low}:{self.high}"

    def chunk(self, seed: int, chunk: int, rows: int, stream: tuple[int, ...] = ()) -> NDArray[np.float32]:
        u = value_generator(seed, chunk, stream).random(rows)
        if self.log:
            return (self.low * (self.high / self.low) ** u).astype(np.float32)
        return (self.low + (self.high - self.low) * u).astype(np.float32)


@dataclass(frozen=True)
class Binned(Spectrum):
    """A histogram: bins are drawn by weight, and values uniformly within a bin; lines are bins without width.

    Args:
        low: lower ends of the bins, shape (B,).
        high: their upper ends, shape (B,).
        weights: what is drawn in each bin, up to a factor, shape (B,).
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def bounds(self) -> NDArray[np.float64]:
        return np.array([self.low[self.weights > 0].min(), self.high[self.weights > 0].max()])

    @property
    def samples(self) -> NDArray[np.floating]:
        bins = self.weights > 0
        return np.unique([self.low[bins], (self.low[bins] + self.high[bins]) / 2, self.high[bins]])

    def __str__(self) -> str:
        bins = zip(self.low.tolist(), self.high.tolist(), self.weights.tolist(), strict=True)
        return "bins:" + ",".join(f"{low}..{high}={weight}" for low, high, weight in bins)

    def chunk(self, seed: int, chunk: int, rows: int, stream: tuple[int, ...] = ()) -> NDArray[np.float32]:
        u = value_generator(seed, chunk, stream).random((rows, 2))
        cumulative = self.weights.cumsum()
        index = np.searchsorted(cumulative / cumulative[-1], u[:, 0], side="right")
        return (self.low[index] + (self.high - self.low)[index] * u[:, 1]).astype(np.float32)


def read_request(energies: str | None, n: int | None) -> tuple[Spectrum, int]:
    """The spectrum that was asked for and the number of showers, by default that of the energies listed.

    Raises:
        CalomanError: if the energies are missing or cannot be read, or the number is missing, not positive or above
            10^10.
    """
    if energies is None:
        raise CalomanError(f"say at which energies with --energies: {SPECTRUM_HELP}")
    spectrum = parse_energies(energies)
    total = n if n is not None else spectrum.size
    if total is None or total < 1:
        raise CalomanError(f"energies {energies!r}: say how many showers with --n, at least 1")
    if total > MOST_SHOWERS:
        raise CalomanError(f"--n {total}: is more than {MOST_SHOWERS} showers; share them out to several seeds")
    return spectrum, total


def parse_energies(spec: str) -> Spectrum:
    """Reads an energy specification: a file, a list, or a spectrum.

    Raises:
        CalomanError: if it cannot be read; the message lists the forms.
    """
    return Listed(values_from_files(spec, ENERGY)) if is_file(spec) else parse_values(spec, ENERGY)


def is_file(spec: str) -> bool:
    """Whether a specification names HDF5 files."""
    return re.search(r"\.(hdf5|h5)(\[|,|$)", spec) is not None


def parse_values(spec: str, condition: Condition) -> Spectrum:
    """Reads a list of values of a condition, or a spectrum.

    Raises:
        CalomanError: if it cannot be read; the message lists the forms.
    """
    number = _Number(condition, spec)
    kind, *ends = spec.split(":")
    if kind == "discrete" and len(ends) == 1:
        pairs = (item.partition("=") for item in ends[0].split(","))
        return _binned(((value, value, weight) for value, _, weight in pairs), number)
    if kind == "histogram":
        lines = read_text(Path(spec.partition(":")[2])).splitlines()
        return _binned((line.split() for line in lines if line.strip() and not line.startswith("#")), number)
    if (kind == "uniform" or (kind == "log-uniform" and condition.name == ENERGY.name)) and len(ends) == 2:
        low, high = map(number, ends)
        if low > high:
            raise CalomanError(f"{number.what}: the lower end is above the upper end; {number.forms}")
        return Uniform(low, high, log=kind == "log-uniform")
    return Listed(np.array([number(item) for item in spec.split(",")], dtype=np.float32))


def values_from_files(specification: str, condition: Condition) -> NDArray[np.float32]:
    """Values of a condition in some rows of HDF5 files, shape (N,).

    Raises:
        CalomanError: if a file lacks them.
    """
    return np.concatenate([_values_from_file(part, condition) for part in parse_slices(specification)])


@dataclass(frozen=True)
class _Number:
    """Reads numbers with a unit, such as 50deg: values of a condition, in the text `spec`."""

    condition: Condition
    spec: str

    @property
    def what(self) -> str:
        return f"{self.condition.plural} {self.spec!r}"

    @property
    def forms(self) -> str:
        if self.condition.name == ENERGY.name:
            return SPECTRUM_HELP
        units = f"; units are {' and '.join(self._units)}" if self._units else ""
        return f"use a list such as 1,2, or a spectrum uniform:LOW:HIGH, discrete:1=3,2=1 or histogram:FILE{units}"

    @property
    def _units(self) -> Mapping[str, float]:
        return UNITS.get(self.condition.unit, {})

    def __call__(self, text: str) -> float:
        match = re.fullmatch(r"\s*([+-]?[0-9.]+(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*", text)
        value = float("nan")
        with suppress(ValueError, KeyError, TypeError):
            value = float(match[1]) * (self._units[match[2]] if match[2] else 1.0)  # type: ignore[index]
        if self.condition.name == ENERGY.name and not SMALLEST <= value <= LARGEST:
            raise CalomanError(f"{self.what}: {text!r} is not a positive energy of float32; {self.forms}")
        if not abs(value) <= LARGEST:
            raise CalomanError(f"{self.what}: {text!r} is not a number; {self.forms}")
        self.condition.check(np.array([value]), self.what)
        return value


def _binned(rows: Iterable[Sequence[str]], number: _Number) -> Binned:
    """A histogram of lower end, upper end and weight of each bin."""
    try:
        bins = [(number(low), number(high), float(weight)) for low, high, weight in rows]
    except ValueError:
        raise CalomanError(f"{number.what}: each value or bin needs a weight; {number.forms}") from None
    low, high, weights = np.array(bins).reshape(-1, 3).T
    with np.errstate(over="ignore", invalid="ignore"):
        valid = (low <= high).all() and (weights >= 0).all() and 0 < weights.sum() < np.inf
    if not valid:
        raise CalomanError(f"{number.what}: needs LOW <= HIGH, and weights that are not negative nor all 0")
    return Binned(low, high, weights)


def _values_from_file(part: ShowerSlice, condition: Condition) -> NDArray[np.float32]:
    path = part.path
    with open_hdf5(path) as file:
        table = find_table(file, condition.table)
        if table is None or table.size != len(table) or not table.size:
            unit = f" [{condition.unit}]" if condition.unit else ""
            raise CalomanError(f"{path}: no {condition.table!r} in this file; give a file that has some{unit}")
        values = read_table(table).reshape(-1)
    condition.check(values, path)
    rows = part.within(len(values))
    return values[rows.start : rows.stop]
