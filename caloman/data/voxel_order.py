"""Is the flat voxel index layer slowest, then alpha, then r fastest? The mean shower tells: it is even in alpha."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from caloman.showers.geometry import Geometry

Array = NDArray[np.float64]
Score = Callable[[list[Array]], float]

AXES = ("layer", "alpha", "r")
MUCH = 2.0
"""How much more even another order must make the mean shower: noise of 50 showers stays well below (measured)."""


def order_fault(mean: Array, geometry: Geometry) -> str | None:
    """Says in which other order the voxels seem to be stored, or None if the right order is plausible.

    Reversed radii show where rings are equally wide (datasets 2 and 3); where they widen, as in dataset 1, they do not.

    Args:
        mean: mean energy of each voxel [MeV], shape (V,).
        geometry: the voxel mesh.
    """
    assumed, others = _unevenness(mean, geometry)
    if others:
        best = min(others, key=others.__getitem__)
        if assumed > MUCH * others[best]:
            return (
                f"voxels seem to be ordered ({best}) instead of ({', '.join(AXES)}), slowest first: the mean shower "
                f"varies by {100 * assumed:.0f} % with alpha, in the other order by {100 * others[best]:.0f} %"
            )
    radius, even = _radii(mean, geometry)
    if radius > even:
        return (
            f"voxels seem to run from large r to small: the energy lies at {100 * radius:.0f} % of the largest radius "
            f"on average, but spread evenly it would be at {100 * even:.0f} %"
        )
    return None


def _unevenness(mean: Array, geometry: Geometry) -> tuple[float, dict[str, float]]:
    """Mean relative deviation from evenness in alpha: in the right order, and in each other order."""
    binned = [position for position, layer in enumerate(geometry.layers) if layer.n_alpha > 1 and layer.n_r > 1]
    layers = [geometry.layers[position] for position in binned]
    parts = [mean[geometry.layer_slices[position]] for position in binned]
    total = sum(part.sum() for part in parts)
    if not total > 0:
        return 0.0, {}

    def score(meshes: list[Array]) -> float:
        return float(sum(np.abs(mesh - mesh.mean(axis=-2, keepdims=True)).sum() for mesh in meshes) / total)

    shapes = [(layer.n_alpha, layer.n_r) for layer in layers]
    assumed = score([part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])
    if len(binned) == geometry.n_layers > 1 and len(set(shapes)) == 1:
        return assumed, _regular_orders(mean, (geometry.n_layers, *shapes[0]), score)
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


def _radii(mean: Array, geometry: Geometry) -> tuple[float, float]:
    """Mean radius of the energy, relative to the largest, and what it would be if each layer were filled evenly."""
    radius = even = total = 0.0
    for layer, part in zip(geometry.layers, geometry.layer_slices, strict=True):
        if layer.n_r > 1:
            energy = float(mean[part].sum())
            centers = layer.r / layer.r_edges[-1]
            areas = np.tile(np.diff(np.square(layer.r_edges)), layer.n_alpha)
            radius += float(mean[part] @ centers)
            even += energy * float(centers @ areas / areas.sum())
            total += energy
    return (radius / total, even / total) if total > 0 else (0.0, 1.0)
