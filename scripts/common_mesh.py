"""Photons and pions in one mesh, with faults of the detector."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from caloman.showers.geometry import Geometry, Layer
from caloman.showers.rebinning import Rebinning
from caloman.showers.showers import Showers

MESH = Geometry(
    "photons-and-pions",
    "photon",
    (
        Layer(0, (0, 5, 10, 30, 50, 100, 200, 400, 600)),
        Layer(1, (0, 4, 10, 15, 30, 50, 90, 150, 200), 10),
        Layer(2, (0, 5, 10, 20, 30, 50, 80, 130, 200, 300, 400), 10),
        Layer(3, (0, 50, 100, 200, 400, 600)),
        Layer(12, (0, 100, 200, 400, 1000, 2000)),
    ),
    threshold=1.0,
)
STRIPS, MIDDLE = 1, 2
"""Positions of layers."""


def summed(path: Path, mesh: str) -> Showers:
    """The showers of a file in the common mesh."""
    showers = Showers.load(path, Geometry.load(mesh))
    common = {layer.id for layer in MESH.layers}
    kept = [i for i, layer in enumerate(showers.geometry.layers) if layer.id in common]
    part = replace(showers.geometry, name="part", layers=tuple(showers.geometry.layers[i] for i in kept))
    voxels = showers.voxels[:, np.isin(showers.geometry.voxel_layer, kept)]
    return Rebinning(part, MESH)(Showers(showers.incident_energies, voxels, part))


def dead_sector(showers: Showers, rng: np.random.Generator) -> Showers:
    """Showers without the energy in one sector of the strips, another one for each."""
    voxels, layer = showers.voxels.copy(), MESH.layers[STRIPS]
    sectors = voxels[:, MESH.layer_slices[STRIPS]].reshape(len(voxels), layer.n_alpha, layer.n_r)
    sectors[np.arange(len(voxels)), rng.integers(layer.n_alpha, size=len(voxels))] = 0
    voxels[:, MESH.layer_slices[STRIPS]] = sectors.reshape(len(voxels), -1)
    return replace(showers, voxels=voxels)


def hot_voxel(showers: Showers, rng: np.random.Generator, share: float) -> Showers:
    """Showers with a share of the incident energy more in one voxel of layer 1 or 2, another one for each."""
    voxels = showers.voxels.copy()
    candidates = np.flatnonzero(np.isin(MESH.voxel_layer, [STRIPS, MIDDLE]))
    voxels[np.arange(len(voxels)), rng.choice(candidates, len(voxels))] += share * showers.incident_energies
    return replace(showers, voxels=voxels)


def with_energies_of(showers: Showers, others: Showers, rng: np.random.Generator) -> Showers:
    """As many showers as possible whose incident energies have the frequencies of others."""
    energies, wanted = np.unique(others.incident_energies, return_counts=True)
    rows = [np.flatnonzero(showers.incident_energies == energy) for energy in energies]
    share = min(len(found) / n for found, n in zip(rows, wanted, strict=True))
    chosen = [rng.choice(found, int(share * n), False) for found, n in zip(rows, wanted, strict=True)]
    return showers[np.concatenate(chosen)]


FAULTS: dict[str, Callable[[Showers, np.random.Generator], Showers]] = {
    "dead sector": dead_sector,
    "hot voxel, 2 %": partial(hot_voxel, share=0.02),
    "hot voxel, 10 %": partial(hot_voxel, share=0.1),
}
