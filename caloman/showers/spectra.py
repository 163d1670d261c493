"""Energy spectra: incident energies chunk by chunk, the same for any number of jobs."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.files import read_text
from caloman.showers.hdf5 import find_table, open_hdf5, read_table
from caloman.showers.showers import CHUNK, checked_energies
from caloman.showers.slices import ShowerSlice, parse_slices

UNITS = {"keV": 1e-3, "MeV": 1.0, "GeV": 1e3, "TeV": 1e6}
SPECTRUM_HELP = (
    "use a list such as 1GeV,10GeV, a spectrum uniform:LOW:HIGH, log-uniform:LOW:HIGH, discrete:1GeV=3,10GeV=1 or "
    "histogram:FILE (lines of LOW HIGH WEIGHT), or an HDF5 file with 'incident_energies'; units are keV, MeV (also if "
    "none is given), GeV and TeV"
)
SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
SPELLED_OUT = 20
"""Most listed energies that are named one by one."""
MOST_SHOWERS = 10**10
"""Of one request: 10 million chunks."""
MOST_SEED = 2**63 - 1
"""The largest number that a file keeps."""


def check_seed(seed: int) -> None:
    """Refuses seeds that a generator of random numbers or a file does not take.

    Raises:
        CalomanError: if the seed is negative or above 2^63 - 1.
    """
    if not 0 <= seed <= MOST_SEED:
        raise CalomanError(f"--seed {seed}: must lie between 0 and {MOST_SEED}")


def energy_generator(seed: int, chunk: int) -> np.random.Generator:
    """Random numbers for the incident energies of a chunk."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(chunk, 0)))


class Spectrum(ABC):
    """Incident energies by chunk, the same whichever chunks are asked for; as text, what tells it from all others."""

    size: int | None = None
    """How many energies there are, if they are counted."""

    @property
    @abstractmethod
    def bounds(self) -> NDArray[np.float64]:
        """Lowest and highest energy [MeV], shape (2,)."""

    @abstractmethod
    def chunk(self, seed: int, chunk: int, rows: int) -> NDArray[np.float32]:
        """Energies of the first `rows` showers of a chunk [MeV], shape (rows,)."""


@dataclass(frozen=True)
class Listed(Spectrum):
    """Given energies in turn, from the start again when they are used up.

    Args:
        energies: [MeV], shape (n,).
    """

    energies: NDArray[np.float32]

    @property
    def size(self) -> int:  # type: ignore[override]
        """How many energies are listed."""
        return len(self.energies)

    @property
    def bounds(self) -> NDArray[np.float64]:
        return np.array([self.energies.min(), self.energies.max()], dtype=np.float64)

    def __str__(self) -> str:
        if len(self.energies) <= SPELLED_OUT:
            return ",".join(map(str, self.energies.tolist()))
        digest = hashlib.sha256(np.ascontiguousarray(self.energies).data).hexdigest()
        return f"{len(self.energies)} energies with SHA-256 {digest}"

    def chunk(self, seed: int, chunk: int, rows: int) -> NDArray[np.float32]:
        return self.energies[(chunk * CHUNK + np.arange(rows)) % len(self.energies)]


@dataclass(frozen=True)
class Uniform(Spectrum):
    """Energies drawn uniformly, or uniformly in their logarithm, between two ends.

    Args:
        low: lower end [MeV].
        high: upper end [MeV].
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

    def chunk(self, seed: int, chunk: int, rows: int) -> NDArray[np.float32]:
        u = energy_generator(seed, chunk).random(rows)
        if self.log:
            return (self.low * (self.high / self.low) ** u).astype(np.float32)
        return (self.low + (self.high - self.low) * u).astype(np.float32)


@dataclass(frozen=True)
class Binned(Spectrum):
    """A histogram: bins are drawn by weight, and energies uniformly within a bin; lines are bins without width.

    Args:
        low: lower ends of the bins [MeV], shape (B,).
        high: their upper ends [MeV], shape (B,).
        weights: what is drawn in each bin, up to a factor, shape (B,).
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def bounds(self) -> NDArray[np.float64]:
        return np.array([self.low[self.weights > 0].min(), self.high[self.weights > 0].max()])

    def __str__(self) -> str:
        bins = zip(self.low.tolist(), self.high.tolist(), self.weights.tolist(), strict=True)
        return "bins:" + ",".join(f"{low}..{high}={weight}" for low, high, weight in bins)

    def chunk(self, seed: int, chunk: int, rows: int) -> NDArray[np.float32]:
        u = energy_generator(seed, chunk).random((rows, 2))
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
    if re.search(r"\.(hdf5|h5)(\[|,|$)", spec):
        return Listed(np.concatenate([_energies_from_file(part) for part in parse_slices(spec)]))
    kind, *ends = spec.split(":")
    if kind == "discrete" and len(ends) == 1:
        pairs = (item.partition("=") for item in ends[0].split(","))
        return _binned(((energy, energy, weight) for energy, _, weight in pairs), spec)
    if kind == "histogram":
        lines = read_text(Path(spec.partition(":")[2])).splitlines()
        return _binned((line.split() for line in lines if line.strip() and not line.startswith("#")), spec)
    if kind in {"uniform", "log-uniform"} and len(ends) == 2:
        low, high = (_parse_energy(end, spec) for end in ends)
        if low > high:
            raise CalomanError(f"energies {spec!r}: the lower end is above the upper end; {SPECTRUM_HELP}")
        return Uniform(low, high, log=kind == "log-uniform")
    return Listed(np.array([_parse_energy(item, spec) for item in spec.split(",")], dtype=np.float32))


def _binned(rows: Iterable[Sequence[str]], spec: str) -> Binned:
    """A histogram of lower end, upper end and weight of each bin."""
    try:
        bins = [(_parse_energy(low, spec), _parse_energy(high, spec), float(weight)) for low, high, weight in rows]
    except ValueError:
        raise CalomanError(f"energies {spec!r}: each energy or bin needs a weight; {SPECTRUM_HELP}") from None
    low, high, weights = np.array(bins).reshape(-1, 3).T
    with np.errstate(over="ignore", invalid="ignore"):
        valid = (low <= high).all() and (weights >= 0).all() and 0 < weights.sum() < np.inf
    if not valid:
        raise CalomanError(f"energies {spec!r}: needs LOW <= HIGH, and weights that are not negative nor all 0")
    return Binned(low, high, weights)


def _parse_energy(text: str, spec: str) -> float:
    match = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?\d+)?)\s*(keV|MeV|GeV|TeV)?\s*", text)
    try:
        energy = float(match[1]) * UNITS[match[2] or "MeV"] if match else 0.0
    except ValueError:
        energy = 0.0
    if not SMALLEST <= energy <= LARGEST:
        raise CalomanError(f"energies {spec!r}: {text!r} is not a positive energy of float32; {SPECTRUM_HELP}")
    return energy


def _energies_from_file(part: ShowerSlice) -> NDArray[np.float32]:
    path = part.path
    with open_hdf5(path) as file:
        table = find_table(file, "incident_energies")
        if table is None or table.size != len(table) or not table.size:
            raise CalomanError(f"{path}: no 'incident_energies' in this file; give a file that has some [MeV]")
        energies = checked_energies(read_table(table).reshape(-1), path, first_row=0)
    rows = part.within(len(energies))
    return energies[rows.start : rows.stop]
