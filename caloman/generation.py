"""Showers on demand: generation chunk by chunk into a file."""

import logging
import sys
from pathlib import Path

from tqdm import tqdm

from caloman.bundle import load
from caloman.errors import CalomanError
from caloman.showers import ShowerWriter
from caloman.spectra import CHUNK, SPECTRUM_HELP, parse_energies

logger = logging.getLogger(__name__)


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
