"""Showers on demand: energy spectra, and generation chunk by chunk into a file."""

import logging
import re
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from caloman.bundle import load
from caloman.errors import CalomanError
from caloman.models.noise import CHUNK, energy_generator
from caloman.showers import ShowerWriter, open_hdf5
from caloman.slices import ShowerSlice, parse_slices

logger = logging.getLogger(__name__)

UNITS = {"keV": 1e-3, "MeV": 1.0, "GeV": 1e3, "TeV": 1e6}
SPECTRUM_HELP = (
    "use a list such as 1GeV,10GeV, a spectrum uniform:LOW:HIGH or log-uniform:LOW:HIGH, or an HDF5 file with "
    "'incident_energies'; units are keV, MeV (also if none is given), GeV and TeV"
)


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


def generate(
    run: str | Path,
    output: str | Path,
    energies: str | None = None,
    n: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> str:
    """Generates showers into a CaloChallenge file.

    The same run, seed and energies give the same showers. The file appears when it is complete.

    Args:
        run: run folder of `caloman fit`, or a bundle.
        output: HDF5 file to write.
        energies: incident energies: a list (1GeV,10GeV), a spectrum (uniform:1GeV:10GeV, log-uniform:1GeV:1TeV), or
            HDF5 files with incident_energies, whole or some rows such as file.hdf5[0:1000]; MeV if no unit is given.
        n: number of showers; may be left out for a list or a file, which are then used once.
        seed: of energies and noise.
        device: torch device to run on, such as cuda.

    Returns:
        A sentence that says what was written.

    Raises:
        CalomanError: if the run has no bundle, the energies cannot be read or lie outside the trained range, or the
            file cannot be written.
    """
    if energies is None:
        raise CalomanError(f"say at which energies to generate with --energies: {SPECTRUM_HELP}")
    spectrum = parse_energies(energies)
    total = n if n is not None else spectrum.size
    if total is None or total < 1:
        raise CalomanError(f"energies {energies!r}: say how many showers to draw with --n, at least 1")
    model = load(run).to(device)
    attributes: dict[str, str | int] = {"generator": "caloman", "seed": seed, "chunk": CHUNK, "energies": energies}
    with (
        ShowerWriter(output, model.geometry, attributes) as writer,
        tqdm(total=total, unit="shower", desc="generate", disable=not sys.stderr.isatty()) as bar,
    ):
        for chunk in range(-(-total // CHUNK)):
            rows = min(CHUNK, total - chunk * CHUNK)
            writer.append(model.sample_chunk(spectrum.chunk(seed, chunk, rows), seed, chunk))
            bar.update(rows)
    return f"{total} showers written to {output}"
