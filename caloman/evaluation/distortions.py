"""Small known differences from Geant4, planted to learn what a judge sees.

Each distortion takes showers and a size, and returns distorted ones; `rng` makes its random choices.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloman.showers.geometry import Layer
from caloman.showers.showers import Showers

Name = Literal["energy", "moved", "wider", "threshold", "correlation", "voxel"]
Voxels = NDArray[np.float32]


def scale_energy(showers: Showers, size: float, rng: np.random.Generator) -> Voxels:
    """All energies larger by the fraction `size`."""
    return showers.voxels * np.float32(1 + size)


def move_hits(showers: Showers, size: float, rng: np.random.Generator) -> Voxels:
    """A fraction `size` of the hits, drawn at random, moved to the next radius: outward, at the rim inward."""
    geometry = showers.geometry
    moving = showers.voxels * (rng.random(showers.voxels.shape, dtype=np.float32) < size)
    result = showers.voxels - moving
    for layer, columns in zip(geometry.layers, geometry.layer_slices, strict=True):
        if layer.n_r > 1:
            shape = (len(showers), layer.n_alpha, layer.n_r)
            source, target = (array[:, columns].reshape(shape) for array in (moving, result))
            target[..., 1:] += source[..., :-1]
            target[..., -2] += source[..., -1]
            result[:, columns] = target.reshape(len(showers), -1)
        else:
            result[:, columns] += moving[:, columns]
    return result


def widen(showers: Showers, size: float, rng: np.random.Generator) -> Voxels:
    """A mean radius larger by the fraction `size` in each layer: energy from its center given to the rim.

    Hits stay where they are, and layers keep their energy.
    """
    geometry, result = showers.geometry, showers.voxels.astype(np.float64)
    for layer, columns in zip(geometry.layers, geometry.layer_slices, strict=True):
        cells = result[:, columns]
        energies = cells.sum(axis=1, keepdims=True)
        cells *= _tilt(layer, cells, size)
        totals = cells.sum(axis=1, keepdims=True)
        cells *= np.divide(energies, totals, out=np.ones_like(totals), where=totals > 0)
    return result.astype(np.float32)


def raise_threshold(showers: Showers, size: float, rng: np.random.Generator) -> Voxels:
    """Hits removed below a threshold larger by the fraction `size`."""
    return showers.voxels * (showers.voxels >= np.float32((1 + size) * showers.geometry.threshold))


def decorrelate(showers: Showers, size: float, rng: np.random.Generator) -> Voxels:
    """Second layer from another shower of the same energy, or nearly so, in a fraction `size` of the showers.

    It keeps its own distribution, and loses the correlation with the first layer and all others.
    """
    columns = showers.geometry.layer_slices[min(1, showers.geometry.n_layers - 1)]
    chosen = np.flatnonzero(rng.random(len(showers)) < size)
    order = chosen[np.lexsort((rng.random(len(chosen)), showers.incident_energies[chosen]))]
    others = np.roll(order, 1)
    ratio = showers.incident_energies[order] / showers.incident_energies[others]
    result = showers.voxels.copy()
    result[order, columns] = showers.voxels[others, columns] * ratio[:, None]
    return result


def brighten_voxel(showers: Showers, size: float, rng: np.random.Generator) -> Voxels:
    """The voxel with most energy larger by the fraction `size`."""
    result = showers.voxels.copy()
    result[:, result.sum(axis=0, dtype=np.float64).argmax()] *= np.float32(1 + size)
    return result


class Distortion(NamedTuple):
    """A distortion, the size that is planted, and what that size means in words."""

    distort: Callable[[Showers, float, np.random.Generator], Voxels]
    size: float
    words: str


DISTORTIONS: dict[Name, Distortion] = {
    "energy": Distortion(scale_energy, 0.01, "energies {} too high"),
    "moved": Distortion(move_hits, 0.02, "{} of the hits moved to a neighbor"),
    "wider": Distortion(widen, 0.02, "showers {} too wide"),
    "threshold": Distortion(raise_threshold, 0.1, "threshold {} too high"),
    "correlation": Distortion(decorrelate, 1.0, "correlation of two layers lost in {} of the showers"),
    "voxel": Distortion(brighten_voxel, 0.03, "hottest voxel {} too high"),
}
"""The planted distortions by name."""


def distorted(showers: Showers, name: Name, size: float, seed: int = 0) -> Showers:
    """Returns showers with a distortion of this size."""
    voxels = DISTORTIONS[name].distort(showers, size, np.random.default_rng(seed))
    return replace(showers, voxels=voxels)


def _tilt(layer: Layer, cells: NDArray[np.float64], size: float) -> NDArray[np.float64]:
    """Factor of each voxel, linear in its radius, that moves the mean radius of showers (N, V_l) by `size`.

    Layers keep their energy, so that what counts is the variance of the radius within a shower.
    """
    energies, moments, squares = (cells @ layer.r**power for power in range(3))
    total = energies.sum()
    within = (squares - np.divide(moments**2, energies, out=np.zeros_like(moments), where=energies > 0)).sum()
    if within <= 0:
        return np.ones(layer.n_voxels)
    center = moments.sum() / total
    return np.maximum(1 + size * center * (layer.r - center) * total / within, 0)
