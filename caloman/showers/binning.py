"""Meshes in the HDF5 form of FastCaloSim."""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from caloman.showers.geometry import Geometry


def write_binning(geometry: Geometry, path: Path) -> None:
    """Writes start and size of each voxel in r [mm] and alpha [rad], layer by layer, radius fastest.

    References:
        FastCaloSim (fcs-proj/FastCaloSim), TFCSBinnedShowerONNX.
    """
    with h5py.File(path, "w") as file:
        for layer in geometry.layers:
            r, alpha = _bins(np.asarray(layer.r_edges)), _bins(np.linspace(-np.pi, np.pi, layer.n_alpha + 1))
            voxels = {"radius": np.tile(r, layer.n_alpha), "alpha": np.repeat(alpha, layer.n_r, axis=1)}
            for name, (start, size) in voxels.items():
                file[f"binstart_{name}_layer_{layer.id}"] = start
                file[f"binsize_{name}_layer_{layer.id}"] = size


def _bins(edges: NDArray[np.float64]) -> NDArray[np.float32]:
    """Start and size of each bin, shape (2, bins)."""
    return np.stack([edges[:-1], np.diff(edges)]).astype(np.float32)
