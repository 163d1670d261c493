"""Is the flat voxel index layer slowest, then alpha, then r fastest? The mean shower tells.

It is even in alpha, and the density of its energy falls with the radius. The limits were found with Geant4 photons,
pions and electrons of 256 MeV to 1 TeV, in samples of 10 showers and more.
"""

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from caloman.showers.geometry import BUILT_IN, Geometry

Array = NDArray[np.float64]

AXES = ("layer", "alpha", "r")
MUCH = 2.0
"""How much more even another order must make the mean shower: noise of 50 showers stays well below (measured)."""
UNEVEN = 0.005  # most energy that exceeds the mean of its ring by half of it and three standard errors, relative to all
RISING = 0.002
"""Most energy by which the density exceeds one and a half times that of a smaller radius, relative to all."""
OUTWARD = 0.5  # largest mean number of a radial bin, in units of the last one, in the meshes of the challenge


class _MeanShower:
    """Energies of a mean shower and squares of their standard errors, of each layer with energy: (n_alpha, n_r)."""

    def __init__(self, mean: Array, variance: Array, geometry: Geometry) -> None:
        self.total = float(mean.sum())
        self.layers = [
            (layer, mean[part].reshape(layer.n_alpha, -1), variance[part].reshape(layer.n_alpha, -1))
            for layer, part in zip(geometry.layers, geometry.layer_slices, strict=True)
            if mean[part].any()
        ]

    def unevenness(self) -> float:
        """Energy that exceeds the mean of its ring by half of it and three standard errors, relative to all."""
        beyond = 0.0
        for _, mean, variance in self.layers:
            # a voxel without a hit has no error of its own, one with a single hit a larger one than its ring
            error = np.sqrt(np.maximum(variance, variance.mean(axis=0)))
            beyond += np.maximum(mean - 1.5 * mean.mean(axis=0) - 3 * error, 0).sum()
        return beyond / self.total

    def rising(self) -> float:
        """Energy by which the density exceeds 1.5 times that further in and two standard errors, relative to all."""
        beyond = 0.0
        for layer, mean, variance in self.layers:
            areas = np.diff(np.square(layer.r_edges))
            energy, error = mean.sum(axis=0), 2 * np.sqrt(variance.sum(axis=0))
            # a ring without a hit has no error of its own, so it gets the largest
            inside = np.minimum.accumulate((energy + error.max()) / areas)[:-1]
            beyond += float(np.maximum((energy - error)[1:] - 1.5 * inside * areas[1:], 0).sum())
        return beyond / self.total

    def outwardness(self) -> float:
        """Mean number of the radial bin of the energy, in units of the last one, less three standard errors."""
        rings = [(np.linspace(0, 1, layer.n_r), m.sum(axis=0), v.sum(axis=0)) for layer, m, v in self.layers]
        number, energy, variance = (np.concatenate(part) for part in zip(*rings, strict=True))
        mean = energy @ number / self.total
        return float(mean - 3 * np.sqrt(variance @ np.square(number - mean)) / self.total)


def order_fault(mean: Array, variance: Array, geometry: Geometry) -> str | None:
    """Says in which other order the voxels seem to be stored; None if the right order is plausible.

    Args:
        mean: mean of each voxel's energy over the incident energy, shape (V,).
        variance: square of its standard error, shape (V,).
        geometry: the voxel mesh.
    """
    shower = _MeanShower(mean, variance, geometry)
    if not shower.total > 0:
        return None
    assumed, others = _orders(mean, geometry)
    best = min(others, key=others.__getitem__, default="")
    if best and assumed > MUCH * others[best]:
        return (
            f"voxels seem to be ordered ({best}) instead of ({', '.join(AXES)}), slowest first: the mean shower "
            f"varies by {100 * assumed:.0f} % with alpha, in the other order by {100 * others[best]:.0f} %"
        )
    if (uneven := shower.unevenness()) > UNEVEN:
        return (
            f"voxels seem to be in another order than ({', '.join(AXES)}), slowest first: the mean shower is not even "
            f"in alpha, {100 * uneven:.1f} % of its energy is too much for its place"
        )
    if (rising := shower.rising()) > RISING:
        return (
            "voxels seem to be shifted, or to run from large r to small: the density of energy rises with the radius, "
            f"by {100 * rising:.1f} % of the energy"
        )
    known = any(geometry.layers == other.layers for other in BUILT_IN.values())
    if known and (outward := shower.outwardness()) > OUTWARD:
        return (
            f"voxels seem to run from large r to small: the mean energy lies at {100 * outward:.0f} % of the radial "
            f"bins, where less than {100 * OUTWARD:.0f} % is expected"
        )
    return None


def _orders(mean: Array, geometry: Geometry) -> tuple[float, dict[str, float]]:
    """Mean relative deviation from evenness in alpha: in the right order, and in each other order."""
    slices = zip(geometry.layers, geometry.layer_slices, strict=True)
    parts = [((layer.n_alpha, layer.n_r), mean[part]) for layer, part in slices if layer.n_alpha > 1 and layer.n_r > 1]
    total = sum(values.sum() for _, values in parts)
    if not total > 0:
        return 0.0, {}

    def score(*meshes: Array) -> float:
        return float(sum(np.abs(mesh - mesh.mean(axis=-2, keepdims=True)).sum() for mesh in meshes) / total)

    assumed = score(*(values.reshape(shape) for shape, values in parts))
    if geometry.grid is None or geometry.n_layers == 1:
        return assumed, {"layer, r, alpha": score(*(values.reshape(shape[::-1]).T for shape, values in parts))}
    others = {}
    for order in list(permutations(range(3)))[1:]:
        mesh = mean.reshape([geometry.grid[axis] for axis in order]).transpose(np.argsort(order))
        others[", ".join(AXES[axis] for axis in order)] = score(mesh)
    return assumed, others
