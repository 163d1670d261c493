"""Energy spectra: incident energies chunk by chunk, the same for any number of jobs."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.hdf5 import open_hdf5
from caloman.slices import ShowerSlice, parse_slices

CHUNK = 1000
"""Showers per chunk, the unit of random numbers and the compute batch."""

UNITS = {"keV": 1e-3, "MeV": 1.0, "GeV": 1e3, "TeV": 1e6}
SPECTRUM_HELP = (
    "use a list such as 1GeV,10GeV, a spectrum uniform:LOW:HIGH or log-uniform:LOW:HIGH, or an HDF5 file with "
    "'incident_energies'; units are keV, MeV (also if none is given), GeV and TeV"
)


def energy_generator(seed: int, chunk: int) -> np.random.Generator:
    """Random numbers for the incident energies of a chunk."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(chunk, 0)))


class Spectrum(ABC):
    """Incident energies by chunk, the same whichever chunks are asked for."""

    size: int | None = None
    """How many energies there are, if they are counted."""

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

    def chunk(self, seed: int, chunk: int, rows: int) -> NDArray[np.float32]:
        u = energy_generator(seed, chunk).random(rows)
        if self.log:
            return (self.low * (self.high / self.low) ** u).astype(np.float32)
        return (self.low + (self.high - self.low) * u).astype(np.float32)


def read_request(energies: str | None, n: int | None) -> tuple[Spectrum, int]:
    """The spectrum that was asked for and the number of showers, by default that of the energies listed.

    Raises:
        CalomanError: if the energies are missing or cannot be read, or the number is missing or not positive.
    """
    if energies is None:
        raise CalomanError(f"say at which energies with --energies: {SPECTRUM_HELP}")
    spectrum = parse_energies(energies)
    total = n if n is not None else spectrum.size
    if total is None or total < 1:
        raise CalomanError(f"energies {energies!r}: say how many showers with --n, at least 1")
    return spectrum, total


def parse_energies(spec: str) -> Spectrum:
    """Reads an energy specification: a file, a list, or a spectrum.

    Raises:
        CalomanError: if it cannot be read; the message lists the forms.
    """
    if re.search(r"\.(hdf5|h5)(\[|,|$)", spec):
        return Listed(np.concatenate([_energies_from_file(part) for part in parse_slices(spec)]))
    kind, *ends = spec.split(":")
    if kind in {"uniform", "log-uniform"} and len(ends) == 2:
        low, high = (_parse_energy(end, spec) for end in ends)
        if low > high:
            raise CalomanError(f"energies {spec!r}: the lower end is above the upper end; {SPECTRUM_HELP}")
        return Uniform(low, high, log=kind == "log-uniform")
    return Listed(np.array([_parse_energy(item, spec) for item in spec.split(",")], dtype=np.float32))


def _parse_energy(text: str, spec: str) -> float:
    match = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?\d+)?)\s*(keV|MeV|GeV|TeV)?\s*", text)
    try:
        energy = float(match[1]) * UNITS[match[2] or "MeV"] if match else 0.0
    except ValueError:
        energy = 0.0
    if not 0 < energy < float("inf"):
        raise CalomanError(f"energies {spec!r}: {text!r} is not a positive energy; {SPECTRUM_HELP}")
    return energy


def _energies_from_file(part: ShowerSlice) -> NDArray[np.float32]:
    path = part.path
    with open_hdf5(path) as file:
        if "incident_energies" not in file or file["incident_energies"].size == 0:
            raise CalomanError(f"{path}: no 'incident_energies' in this file; give a file that has some [MeV]")
        energies = file["incident_energies"][:].reshape(-1).astype(np.float32)
    if not (np.isfinite(energies) & (energies > 0)).all():
        raise CalomanError(f"{path}: 'incident_energies' holds values that are not positive; correct them")
    rows = part.within(len(energies))
    return energies[rows.start : rows.stop]
