"""Showers in a coarser mesh of the same detector."""

import numpy as np

from caloman.errors import CalomanError
from caloman.showers.geometry import Geometry, Layer
from caloman.showers.showers import Showers

SAME = 1e-6  # largest distance of two edges that count as one, over the radius of the layer


class Rebinning:
    """Sums the voxels of one mesh into those of a coarser one.

    Both need the same layers out to the same radius. Every edge of the coarse mesh, in r and in alpha, has to be one of
    the fine mesh, so that no voxel is divided.

    Args:
        fine: the mesh of the showers, with V voxels.
        coarse: the mesh they are summed into, with W voxels.

    Raises:
        CalomanError: if a voxel would have to be divided, or would be lost.
    """

    def __init__(self, fine: Geometry, coarse: Geometry) -> None:
        ids = [[layer.id for layer in geometry.layers] for geometry in (fine, coarse)]
        if ids[0] != ids[1]:
            raise CalomanError(f"mesh {coarse.name!r} has other layers than {fine.name!r}; give it the same ids")
        for layer, wide in zip(fine.layers, coarse.layers, strict=True):
            _check_fits(layer, wide)
        r, alpha = (np.concatenate([getattr(layer, name) for layer in fine.layers]) for name in ("r", "alpha"))
        target = coarse.voxels_at(np.array(ids[0])[fine.voxel_layer], r * np.cos(alpha), r * np.sin(alpha))
        self.coarse = coarse
        self._order = np.argsort(target, kind="stable")
        self._starts = np.searchsorted(target[self._order], np.arange(coarse.n_voxels))

    def __call__(self, showers: Showers) -> Showers:
        """Showers (N, V) in the coarse mesh, (N, W)."""
        sums = np.add.reduceat(showers.voxels[:, self._order], self._starts, axis=1, dtype=np.float64)
        return Showers(showers.incident_energies, sums.astype(np.float32), self.coarse, showers.conditions)


def _check_fits(fine: Layer, coarse: Layer) -> None:
    edges, wide = np.asarray(fine.r_edges), np.asarray(coarse.r_edges)
    apart = np.abs(wide[:, None] - edges).min(1)
    ends = np.abs(edges[[0, -1]] - wide[[0, -1]])
    if max(*apart, *ends) > SAME * edges[-1] or fine.n_alpha % coarse.n_alpha:
        raise CalomanError(
            f"layer {coarse.id}: {coarse.n_r} rings of {coarse.n_alpha} bins in alpha do not consist of the "
            f"{fine.n_r} rings of {fine.n_alpha}; take edges of these, out to the same radius"
        )
