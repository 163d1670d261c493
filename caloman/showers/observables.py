"""High-level shower observables of the CaloChallenge: energies, centers, widths and sparsity per layer.

References:
    Krause et al., CaloChallenge 2022 (arXiv:2410.21611).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from caloman.showers.geometry import Geometry, Layer
from caloman.showers.showers import Showers

Array = NDArray[np.float64]

CACHE_VOXELS = 2**17  # voxels that are in double precision at a time, as many as fit in a processor's cache
N_MOMENTS = 7


@dataclass(frozen=True)
class Observables:
    """Observables of N showers in L layers; centers and widths in eta and phi exist in the layers with several
    angular bins only (La of them). Empty layers have center and width 0.

    Args:
        incident_energies: [MeV], shape (N,).
        layer_energies: sum of the voxels of each layer [MeV], shape (N, L).
        sparsity: fraction of each layer's voxels without energy, shape (N, L).
        center_eta: energy-weighted mean of eta = r cos(alpha) [mm], shape (N, La).
        center_phi: energy-weighted mean of phi = r sin(alpha) [mm], shape (N, La).
        center_r: energy-weighted mean radius [mm], shape (N, L).
        width_eta: energy-weighted standard deviation of eta [mm], shape (N, La).
        width_phi: energy-weighted standard deviation of phi [mm], shape (N, La).
        width_r: energy-weighted standard deviation of the radius [mm], shape (N, L).
    """

    incident_energies: Array
    layer_energies: Array
    sparsity: Array
    center_eta: Array
    center_phi: Array
    center_r: Array
    width_eta: Array
    width_phi: Array
    width_r: Array

    @property
    def total_energy(self) -> Array:
        """Energy in all voxels [MeV], shape (N,)."""
        return self.layer_energies.sum(axis=1)

    def __len__(self) -> int:
        return len(self.incident_energies)

    def __getitem__(self, rows: slice | NDArray[np.generic]) -> "Observables":
        return Observables(*(getattr(self, field.name)[rows] for field in fields(self)))


def compute_observables(blocks: Iterable[Showers], threshold: float | None = None) -> Observables:
    """Computes the observables of showers that arrive in blocks.

    Args:
        blocks: blocks of showers, such as ``ShowerFile.blocks()``.
        threshold: voxels below it count as zero [MeV]; by default that of the geometry.
    """
    parts = [_block_observables(block, threshold) for block in blocks]
    return Observables(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Observables)))


def apply_threshold(voxels: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Sets voxels strictly below the threshold [MeV] to zero, in place; one that equals it stays."""
    voxels *= voxels >= np.float32(threshold)
    return voxels


def _block_observables(showers: Showers, threshold: float | None) -> Observables:
    geometry = showers.geometry
    moments, hits = _moments(showers.voxels, geometry, geometry.threshold if threshold is None else threshold)
    energy = moments[0]
    norm = energy + 1e-16
    angular = np.flatnonzero([layer.n_alpha > 1 for layer in geometry.layers])
    result = {}
    for i, name in enumerate(("r", "eta", "phi"), start=1):
        mean = moments[i] / norm
        width = np.sqrt(np.maximum(moments[i + 3] / norm - mean**2, 0))
        everywhere = name == "r" or len(angular) == geometry.n_layers
        result[f"center_{name}"] = mean if everywhere else mean[:, angular]
        result[f"width_{name}"] = width if everywhere else width[:, angular]
    return Observables(
        incident_energies=showers.incident_energies.astype(np.float64),
        layer_energies=energy.copy(),
        sparsity=1 - hits / geometry.layer_sizes,
        **result,
    )


def _moments(voxels: NDArray[np.float32], geometry: Geometry, threshold: float) -> tuple[Array, NDArray[np.uint32]]:
    """Moments of each layer, see `_weights`, shape (7, N, L), and its number of voxels with energy, shape (N, L)."""
    starts = [columns.start for columns in geometry.layer_slices]
    least = max(np.float32(threshold), np.finfo(np.float32).smallest_subnormal)
    moments = np.empty((N_MOMENTS, len(voxels), geometry.n_layers))
    hits = np.empty((len(voxels), geometry.n_layers), dtype=np.uint32)
    # float32 would lose the digits that a width, the root of a difference, needs
    buffer = np.empty((max(1, CACHE_VOXELS // geometry.n_voxels), geometry.n_voxels))
    alike = [(layers, _weights(geometry.layers[layers.start])) for layers in _alike(geometry)]
    for start in range(0, len(voxels), len(buffer)):
        rows = slice(start, min(start + len(buffer), len(voxels)))
        energies = buffer[: rows.stop - start]
        hit = voxels[rows] >= least
        np.multiply(voxels[rows], hit, out=energies)
        np.add.reduceat(hit, starts, axis=1, dtype=np.uint32, out=hits[rows])
        for layers, weights in alike:
            first, last = (geometry.layer_slices[i] for i in (layers.start, layers.stop - 1))
            cells = energies[:, first.start : last.stop].reshape(-1, len(weights))
            products = (cells @ weights).reshape(len(energies), -1, N_MOMENTS)
            moments[:, rows, layers] = products.transpose(2, 0, 1)
    return moments, hits


def _alike(geometry: Geometry) -> Iterator[slice]:
    """Runs of consecutive layers with the same voxels, whose moments are one product."""
    start = 0
    for _, layers in groupby(geometry.layers, key=lambda layer: (layer.n_alpha, layer.r_edges)):
        stop = start + len(list(layers))
        yield slice(start, stop)
        start = stop


def _weights(layer: Layer) -> Array:
    """What each voxel's energy is multiplied with: 1, r, eta, phi and the squares of these three, shape (V_l, 7)."""
    r, alpha = layer.r, layer.alpha
    coordinates = np.stack([r, r * np.cos(alpha), r * np.sin(alpha)], axis=1)
    return np.concatenate([np.ones((len(r), 1)), coordinates, coordinates**2], axis=1)
