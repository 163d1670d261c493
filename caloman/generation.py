"""Showers on demand: generation chunk by chunk into a file."""

import sys
from pathlib import Path

from tqdm import tqdm

from caloman.bundle import load
from caloman.errors import CalomanError
from caloman.gates import generate_shapes
from caloman.models import EnsembleShowerModel
from caloman.showers import ShowerWriter
from caloman.spectra import CHUNK, read_request


def generate(
    run: str | Path,
    output: str | Path,
    energies: str | None = None,
    n: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    layer_energies: str | None = None,
    member: int | None = None,
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
        layer_energies: HDF5 file with showers whose incident and layer energies are used, with generated shapes.
        member: of an ensemble, to generate with this one only; all by default.

    Returns:
        A sentence that says what was written.

    Raises:
        CalomanError: if the run has no bundle, the energies cannot be read or lie outside the trained range, or the
            file cannot be written.
    """
    if layer_energies is not None:
        if energies is not None or n is not None:
            raise CalomanError("--layer-energies FILE brings energies and number; leave out --energies and --n")
        return generate_shapes(run, layer_energies, output, seed, device)
    spectrum, total = read_request(energies, n)
    model = load(run).to(device)
    attributes: dict[str, str | int] = {"generator": "caloman", "seed": seed, "chunk": CHUNK, "energies": str(energies)}
    if member is not None:
        if not isinstance(model, EnsembleShowerModel):
            raise CalomanError(f"{run}: not an ensemble, so it has no member {member}; leave out --member")
        model = model.member(member)
        attributes["member"] = member
    with (
        ShowerWriter(output, model.geometry, attributes) as writer,
        tqdm(total=total, unit="shower", desc="generate", disable=not sys.stderr.isatty()) as bar,
    ):
        for chunk in range(-(-total // CHUNK)):
            rows = min(CHUNK, total - chunk * CHUNK)
            writer.append(model.sample_chunk(spectrum.chunk(seed, chunk, rows), seed, chunk))
            bar.update(rows)
    return f"{total} showers written to {output}"
