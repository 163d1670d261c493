"""Compares the parametric sampler with Geant4 at the same incident energies.

Usage: python scripts/benchmark_simulation.py GEANT4_FILE [--dataset ID] [--bins 5] [--max 2000] [--seed 0]
"""

import argparse
import time
from collections.abc import Iterable

import numpy as np

from caloman.data.simulation.sampler import ShowerSampler
from caloman.data.simulation.simulate import simulate_blocks
from caloman.showers.observables import compute_observables
from caloman.showers.showers import ShowerFile, Showers, find_geometry
from caloman.showers.spectra import Listed

COLUMNS = ("E/E_inc", "rms", "peak layer", "zero voxels", "radius [mm]", "rms peak")


def summaries(showers: Showers) -> np.ndarray:
    """Response, layer of the maximum, fraction of zero voxels and mean radius [mm] of each shower, shape (N, 4)."""
    observables = compute_observables([showers], threshold=0.0)
    energies = observables.layer_energies
    total = observables.total_energy
    radius = (energies * observables.center_r).sum(axis=1) / np.maximum(total, 1e-9)
    response = total / observables.incident_energies
    return np.stack([response, energies.argmax(axis=1), (showers.voxels == 0).mean(axis=1), radius], axis=1)


def collect(blocks: Iterable[Showers], limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Incident energies [MeV] and summaries of at most `limit` showers."""
    energies, rows, n = [], [], 0
    for block in blocks:
        for start in range(0, len(block), 500):
            part = block[start : min(start + 500, start + limit - n)]
            if len(part):
                energies.append(part.incident_energies)
                rows.append(summaries(part))
                n += len(part)
        if n >= limit:
            break
    return np.concatenate(energies), np.concatenate(rows)


def table_row(values: np.ndarray) -> list[float]:
    """The columns of the table for the showers of one bin."""
    mean, rms = values.mean(axis=0), values.std(axis=0)
    return [mean[0], rms[0], mean[1], mean[2], mean[3], rms[1]]


def energy_bins(energies: np.ndarray, n: int) -> list[np.ndarray]:
    """Showers of each energy if there are few energies, else of equal steps of its logarithm."""
    distinct = np.unique(energies)
    if len(distinct) <= 20:
        return [energies == energy for energy in distinct]
    edges = np.geomspace(energies.min(), energies.max(), n + 1)[1:-1]
    position = np.digitize(energies, edges)
    return [position == i for i in range(n)]


def main() -> None:
    """Prints Geant4 and the parametric sampler side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("geant4", help="shower file to compare with")
    parser.add_argument("--dataset", help="dataset id if the file does not name it")
    parser.add_argument("--bins", type=int, default=5)
    parser.add_argument("--max", type=int, default=2000, help="showers to compare")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    geometry = find_geometry(options.geant4, options.dataset)
    with ShowerFile(options.geant4, geometry) as file:
        energies, reference = collect(file.blocks(), options.max)
    start = time.perf_counter()
    spectrum = Listed(energies)
    parametric = collect(simulate_blocks(ShowerSampler(geometry), spectrum, len(energies), options.seed), options.max)[
        1
    ]
    seconds = time.perf_counter() - start
    print(f"{options.geant4}: {len(energies)} showers of dataset {geometry.name}; each column: Geant4 | parametric")
    print(f"{'E [GeV]':>9} {'n':>6}  " + "  ".join(f"{name:^17}" for name in COLUMNS))
    for rows in energy_bins(energies, options.bins):
        pairs = zip(table_row(reference[rows]), table_row(parametric[rows]), strict=True)
        cells = "  ".join(f"{a:8.4g}|{b:8.4g}" for a, b in pairs)
        print(f"{np.exp(np.log(energies[rows]).mean()) / 1e3:9.3g} {rows.sum():6d}  {cells}")
    print(f"parametric sampler: {1e3 * seconds / len(energies):.2f} ms per shower, observables included")


if __name__ == "__main__":
    main()
