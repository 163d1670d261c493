"""One pass over the showers of a sample: what histograms and distances need of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloman.evaluation.samples import Sample
from caloman.showers.observables import Observables, compute_observables
from caloman.showers.showers import Showers

Array = NDArray[np.float64]

SPECTRUM_BINS = 49
SPECTRUM_GROUPS = 200
"""Groups of showers that the error of the voxel spectrum is taken from: voxels of one shower are not independent."""


@dataclass(frozen=True)
class Summary:
    """What one pass over a sample keeps.

    Args:
        sample: the showers.
        observables: observables of every shower.
        mean_shower: mean energy of each voxel [MeV], shape (V,).
        spectrum_edges: edges of the voxel energy bins [MeV], shape (B + 1,).
        spectrum: number of voxels in each bin, for each of the groups that the showers are dealt to, shape (G, B).
        occupied: number of voxels with energy.
    """

    sample: Sample
    observables: Observables
    mean_shower: Array
    spectrum_edges: Array
    spectrum: Array
    occupied: int


def summarize(sample: Sample, spectrum_edges: Array | None = None) -> Summary:
    """Passes over a sample block by block.

    Args:
        sample: the showers.
        spectrum_edges: bins of the voxel energies [MeV]; by default the official ones, up to the sample's own maximum,
            for which it is read twice.
    """
    if spectrum_edges is None:
        largest = max(float(block.voxels.max()) for block in sample.blocks())
        spectrum_edges = log_edges(sample.geometry.threshold, largest, SPECTRUM_BINS)
    total, occupied = np.zeros(sample.geometry.n_voxels), 0
    spectrum = np.zeros((min(len(sample), SPECTRUM_GROUPS), len(spectrum_edges) - 1))

    def watched() -> Iterator[Showers]:
        nonlocal occupied
        start = 0
        for block in sample.blocks():
            total[:] += block.voxels.sum(axis=0, dtype=np.float64)
            occupied += _count(block.voxels, start, spectrum_edges, spectrum)
            start += len(block)
            yield block

    observables = compute_observables(watched(), threshold=0.0)  # the blocks have been cut
    return Summary(sample, observables, total / len(sample), spectrum_edges, spectrum, occupied)


def _count(voxels: NDArray[np.float32], start: int, edges: Array, counts: Array) -> int:
    """Adds a block, whose first shower is the `start`-th, to counts (G, B), and returns its voxels with energy.

    Shower i is in group i modulo the number of groups.
    """
    n_groups, n_bins = counts.shape
    occupied = 0
    for first in range(0, len(voxels), n_groups):
        part = voxels[first : first + n_groups]
        # two to three times faster than part[part > 0]
        places = np.flatnonzero(part > 0)
        energies = part.ravel().take(places)
        bins = np.searchsorted(edges, energies, side="right") - (energies == edges[-1])
        group = (start + first + places // part.shape[1]) % n_groups
        found = np.bincount(group * (n_bins + 2) + bins, minlength=n_groups * (n_bins + 2))
        counts += found.reshape(n_groups, n_bins + 2)[:, 1:-1]
        occupied += len(places)
    return occupied


def log_edges(lower: float, upper: float, bins: int) -> Array:
    """Edges of logarithmic bins; a range that is empty or has no lower end becomes a usable one."""
    lower = lower if lower > 0 else max(upper, 1.0) * 1e-6
    upper = upper if upper > lower else 10 * lower
    return np.logspace(np.log10(lower), np.log10(upper), bins + 1)
