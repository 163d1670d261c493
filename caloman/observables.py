"""High-level shower observables of the CaloChallenge: energies, centres, widths and sparsity per layer.

References:
    Krause et al., CaloChallenge 2022 (arXiv:2410.21611).
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from caloman.geometry import Layer
from caloman.showers import Showers

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Observables:
    """Observables of N showers in L layers; centres and widths in eta and phi exist in the layers with several
    angular bins only (La of them). Empty layers have centre and width 0.

    Args:
        incident_energies: [MeV], shape (N,).
        layer_energies: sum of the voxels of each layer [MeV], shape (N, L).
        sparsity: fraction of each layer's voxels without energy, shape (N, L).
        centre_eta: energy-weighted mean of eta = r cos(alpha) [mm], shape (N, La).
        centre_phi: energy-weighted mean of phi = r sin(alpha) [mm], shape (N, La).
        centre_r: energy-weighted mean radius [mm], shape (N, L).
        width_eta: energy-weighted standard deviation of eta [mm], shape (N, La).
        width_phi: energy-weighted standard deviation of phi [mm], shape (N, La).
        width_r: energy-weighted standard deviation of the radius [mm], shape (N, L).
    """

    incident_energies: Array
    layer_energies: Array
    sparsity: Array
    centre_eta: Array
    centre_phi: Array
    centre_r: Array
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
    """Sets voxels strictly below the threshold [MeV] to zero; one that equals it stays."""
    return np.where(voxels < threshold, np.float32(0), voxels)


def _block_observables(showers: Showers, threshold: float | None) -> Observables:
    geometry = showers.geometry
    voxels = apply_threshold(showers.voxels, geometry.threshold if threshold is None else threshold)
    per_layer = [
        _layer_observables(voxels[:, columns], layer)
        for columns, layer in zip(geometry.layer_slices, geometry.layers, strict=True)
    ]
    angular = [i for i, layer in enumerate(geometry.layers) if layer.n_alpha > 1]

    def stack(name: str, layers: Iterable[int]) -> Array:
        columns = [per_layer[i][name] for i in layers]
        return np.stack(columns, axis=1) if columns else np.zeros((len(voxels), 0))

    everywhere = range(geometry.n_layers)
    return Observables(
        incident_energies=showers.incident_energies.astype(np.float64),
        layer_energies=stack("energy", everywhere),
        sparsity=stack("sparsity", everywhere),
        centre_eta=stack("centre_eta", angular),
        centre_phi=stack("centre_phi", angular),
        centre_r=stack("centre_r", everywhere),
        width_eta=stack("width_eta", angular),
        width_phi=stack("width_phi", angular),
        width_r=stack("width_r", everywhere),
    )


def _layer_observables(voxels: NDArray[np.float32], layer: Layer) -> dict[str, Array]:
    """All observables of one layer from one product of the voxels with their coordinates and squares."""
    r, alpha = layer.r, layer.alpha
    coordinates = {"r": r, "eta": r * np.cos(alpha), "phi": r * np.sin(alpha)}
    weights = np.stack([np.ones_like(r), *coordinates.values(), *(c**2 for c in coordinates.values())], axis=1)
    energy, *moments = (voxels.astype(np.float64) @ weights).T
    norm = energy + 1e-16
    result = {"energy": energy, "sparsity": 1 - np.count_nonzero(voxels, axis=1) / layer.n_voxels}
    for i, name in enumerate(coordinates):
        mean = moments[i] / norm
        result[f"centre_{name}"] = mean
        result[f"width_{name}"] = np.sqrt(np.maximum(moments[i + 3] / norm - mean**2, 0))
    return result
