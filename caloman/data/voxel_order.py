"""Is the flat voxel index layer slowest, then alpha, then r fastest? The mean shower tells.

It is even in alpha, and the density of its energy falls with the radius. The limits were found with Geant4 photons,
pions and electrons of 256 MeV to 1 TeV, in samples of 10 showers and more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from caloman.showers.geometry import BUILT_IN, Geometry, Layer

Array = NDArray[np.float64]

AXES = ("layer", "alpha", "r")
MUCH = 2.0
"""How much more even another order must make the mean shower: noise of 50 showers stays well below (measured)."""
UNEVEN = 0.005
"""Most energy that exceeds the mean of its ring by half of it and three standard errors, relative to all."""
RISING = 0.002
"""Most energy by which the density exceeds one and a half times that of a smaller radius, relative to all."""
OUTWARD = 0.5
"""Largest mean number of a radial bin, in units of the last one, in the meshes of the challenge."""


@dataclass(frozen=True)
class MeanShower:
    """Mean energies of the voxels relative to the incident energy, in each layer.

    Args:
        layers: the layers.
        means: of each layer's voxels, shape (n_alpha, n_r).
        variances: squares of their standard errors, of the same shapes.
        geometry: the mesh.
    """

    layers: Sequence[Layer]
    means: Sequence[Array]
    variances: Sequence[Array]
    geometry: Geometry

    @classmethod
    def of(cls, mean: Array, variance: Array, geometry: Geometry) -> "MeanShower":
        """From flat means and squares of standard errors, shape (V,), without layers that have no energy."""
        layers, means, variances = [], [], []
        for layer, part in zip(geometry.layers, geometry.layer_slices, strict=True):
            shape = (layer.n_alpha, layer.n_r)
            if mean[part].any():
                layers.append(layer)
                means.append(mean[part].reshape(shape))
                variances.append(variance[part].reshape(shape))
        return cls(layers, means, variances, geometry)

    @property
    def total(self) -> float:
        """Energy in all voxels."""
        return float(sum(mean.sum() for mean in self.means))

    def unevenness(self) -> float:
        """Energy that exceeds the mean of its ring by half of it and three standard errors, relative to all."""
        beyond = 0.0
        for mean, variance in zip(self.means, self.variances, strict=True):
            # a voxel without a hit has no error of its own, one with a single hit a larger one than its ring
            error = np.sqrt(np.maximum(variance, variance.mean(axis=0)))
            beyond += np.maximum(mean - 1.5 * mean.mean(axis=0) - 3 * error, 0).sum()
        return beyond / self.total

    def rising(self) -> float:
        """Energy by which the density exceeds 1.5 times that further in and two standard errors, relative to all."""
        beyond = 0.0
        for layer, mean, variance in zip(self.layers, self.means, self.variances, strict=True):
            areas = np.diff(np.square(layer.r_edges))
            energy, error = mean.sum(axis=0), 2 * np.sqrt(variance.sum(axis=0))
            # a ring without a hit has no error of its own, so it gets the largest
            inside = np.minimum.accumulate((energy + error.max()) / areas)[:-1]
            beyond += float(np.maximum((energy - error)[1:] - 1.5 * inside * areas[1:], 0).sum())
        return beyond / self.total

    def outwardness(self) -> float:
        """Mean number of the radial bin of the energy, in units of the last one, less three standard errors."""
        rings = [(m.sum(axis=0), v.sum(axis=0)) for m, v in zip(self.means, self.variances, strict=True)]
        energy, variance = (np.concatenate(part) for part in zip(*rings, strict=True))
        number = np.concatenate([np.linspace(0, 1, len(ring)) for ring, _ in rings])
        mean = energy @ number / self.total
        return float(mean - 3 * np.sqrt(variance @ np.square(number - mean)) / self.total)


def order_fault(mean: Array, variance: Array, geometry: Geometry) -> str | None:
    """Says in which other order the voxels seem to be stored, or None if the right order is plausible.

    Args:
        mean: mean of each voxel's energy over the incident energy, shape (V,).
        variance: square of its standard error, shape (V,).
        geometry: the voxel mesh.
    """
    shower = MeanShower.of(mean, variance, geometry)
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
    binned = [position for position, layer in enumerate(geometry.layers) if layer.n_alpha > 1 and layer.n_r > 1]
    shapes = [(geometry.layers[position].n_alpha, geometry.layers[position].n_r) for position in binned]
    parts = [mean[geometry.layer_slices[position]] for position in binned]
    total = sum(part.sum() for part in parts)
    if not total > 0:
        return 0.0, {}

    def score(meshes: list[Array]) -> float:
        return float(sum(np.abs(mesh - mesh.mean(axis=-2, keepdims=True)).sum() for mesh in meshes) / total)

    assumed = score([part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])
    if geometry.grid and geometry.n_layers > 1:
        return assumed, _regular_orders(mean, geometry.grid, score)
    swapped = [part.reshape(shape[::-1]).T for part, shape in zip(parts, shapes, strict=True)]
    return assumed, {"layer, r, alpha": score(swapped)}


def _regular_orders(
    mean: Array, shape: tuple[int, int, int], score: Callable[[list[Array]], float]
) -> dict[str, float]:
    orders = list(permutations(range(3)))[1:]
    return {
        ", ".join(AXES[axis] for axis in order): score(
            [mean.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))]
        )
        for order in orders
    }
