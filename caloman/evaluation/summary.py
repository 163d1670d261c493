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
            for which the blocks before the one that holds it are read again.
    """
    total = np.zeros(sample.geometry.n_voxels)
    spectrum = _Spectrum(sample.geometry.threshold, spectrum_edges, min(len(sample), SPECTRUM_GROUPS))

    def watched() -> Iterator[Showers]:
        start = 0
        for block in sample.blocks():
            total[:] += block.voxels.sum(axis=0, dtype=np.float64)
            spectrum.add(start, block.voxels)
            start += len(block)
            yield block

    observables = compute_observables(watched(), threshold=0.0)  # the blocks have been cut
    start, blocks = 0, sample.blocks()
    while start < spectrum.first:
        block = next(blocks)
        spectrum.count(start, block.voxels)
        start += len(block)
    return Summary(sample, observables, total / len(sample), spectrum.edges, spectrum.counts, spectrum.occupied)


class _Spectrum:
    """Histogram of the voxel energies, in given bins or in the official ones, which reach up to their maximum.

    A larger maximum moves the bins, so that counting starts again with the block that holds it. Shower i is in group
    i modulo the number of groups.
    """

    def __init__(self, threshold: float, edges: Array | None, groups: int) -> None:
        self.threshold = threshold
        self.fixed = edges is not None
        self.edges = log_edges(threshold, 0.0, SPECTRUM_BINS) if edges is None else edges
        self.largest, self.occupied = 0.0, 0
        self.first = 0
        """Number of the shower that counting started with."""
        self.counts = np.zeros((groups, len(self.edges) - 1))

    def add(self, start: int, voxels: NDArray[np.float32]) -> None:
        """Takes note of a block, whose first shower is the `start`-th."""
        largest = float(voxels.max())
        if largest > self.largest and not self.fixed:
            self.largest, self.first = largest, start
            self.edges = log_edges(self.threshold, largest, SPECTRUM_BINS)
            self.counts[:] = 0
        self.occupied += self.count(start, voxels)

    def count(self, start: int, voxels: NDArray[np.float32]) -> int:
        """Fills the bins and returns the number of voxels with energy."""
        n_groups, n_bins = self.counts.shape
        occupied = 0
        for first in range(0, len(voxels), n_groups):
            part = voxels[first : first + n_groups]
            # two to three times faster than part[part > 0]
            places = np.flatnonzero(part > 0)
            energies = part.ravel().take(places)
            bins = np.searchsorted(self.edges, energies, side="right") - (energies == self.edges[-1])
            group = (start + first + places // part.shape[1]) % n_groups
            counts = np.bincount(group * (n_bins + 2) + bins, minlength=n_groups * (n_bins + 2))
            self.counts += counts.reshape(n_groups, n_bins + 2)[:, 1:-1]
            occupied += len(places)
        return occupied


def log_edges(lower: float, upper: float, bins: int) -> Array:
    """Edges of logarithmic bins; a range that is empty or has no lower end becomes a usable one."""
    lower = lower if lower > 0 else max(upper, 1.0) * 1e-6
    upper = upper if upper > lower else 10 * lower
    return np.logspace(np.log10(lower), np.log10(upper), bins + 1)
