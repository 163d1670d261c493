"""``caloman simulate``: showers of any mesh and energies from parametrizations, a stand-in for Geant4 in tests."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from caloman.data.simulation.detector import find_detector
from caloman.data.simulation.sampler import ShowerSampler
from caloman.errors import CalomanError
from caloman.showers.geometry import Geometry
from caloman.showers.showers import CHUNK, Showers
from caloman.showers.spectra import Spectrum, check_seed, read_request
from caloman.showers.writer import ShowerWriter

GENERATOR = "caloman parametric sampler, not Geant4"
BLOCK_VOXELS = 2**22  # most voxels that are computed at once (32 MiB each for a handful of arrays)


def simulate(
    output: str | Path,
    dataset: str | None = None,
    n: int | None = None,
    energies: str | None = None,
    seed: int = 0,
    depth: float | None = None,
) -> str:
    """Simulates showers with a parametric sampler into a CaloChallenge file.

    The same dataset, seed and energies give the same showers, and more showers begin with the fewer. The file appears
    when it is complete.

    Args:
        output: HDF5 file to write.
        dataset: dataset id (1-photons, 1-pions, 2, 3) or a binning .xml file.
        n: number of showers; may be left out for a list or a file of energies, which are then used once.
        energies: incident energies: a list (1GeV,10GeV), a spectrum (uniform:1GeV:10GeV, log-uniform:1GeV:1TeV), or an
            HDF5 file with incident_energies; MeV if no unit is given.
        seed: of energies and showers.
        depth: depth of all layers together in radiation lengths, then equally deep; by default that of the dataset's
            calorimeter, and 25 (80 for pions) for a binning file.

    Returns:
        A sentence that says what was written.

    Raises:
        CalomanError: if the dataset is unknown, the energies cannot be read, or the file cannot be written.
    """
    if dataset is None:
        raise CalomanError("say which mesh to fill with --dataset: a dataset id such as 2, or a binning .xml file")
    geometry = Geometry.load(dataset)
    spectrum, total = read_request(energies, n)
    check_seed(seed)
    sampler = ShowerSampler(geometry, find_detector(geometry, depth))
    attributes: dict[str, str | int] = {"generator": GENERATOR, "seed": seed, "chunk": CHUNK, "energies": str(energies)}
    with (
        ShowerWriter(output, geometry, attributes) as writer,
        tqdm(total=total, unit="shower", desc="simulate", disable=None) as bar,
    ):
        for block in simulate_blocks(sampler, spectrum, total, seed):
            writer.append(block)
            bar.update(len(block))
    return f"{total} parametric showers, not Geant4, written to {output}"


def simulate_blocks(sampler: ShowerSampler, spectrum: Spectrum, n: int, seed: int) -> Iterator[Showers]:
    """Simulates showers in blocks, the last one shortened to `n` showers in all.

    Blocks divide the chunks, have random numbers of their own and are always computed whole, so that the showers do
    not depend on how many are asked for.
    """
    size = block_size(sampler.geometry)
    for start in range(0, n, size):
        chunk, offset = divmod(start, CHUNK)
        energies = spectrum.chunk(seed, chunk, CHUNK)[offset : offset + size]
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(chunk, 2, offset)))
        rows = min(size, n - start)
        yield Showers(energies, sampler.sample(energies, generator), sampler.geometry)[:rows]


def block_size(geometry: Geometry) -> int:
    """Showers that are computed at once: a divisor of `CHUNK`, so that memory does not depend on the mesh."""
    most = max(1, BLOCK_VOXELS // geometry.n_voxels)
    return max(size for size in range(1, 101) if CHUNK % size == 0 and size <= most)
