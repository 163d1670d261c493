"""The Wasserstein autoencoder: the latents of all showers together are normal, not those of each shower."""

from typing import Any

import torch
from torch import Tensor

from caloman.manifold.autoencoder import Autoencoder
from caloman.showers.geometry import Geometry


class WAE(Autoencoder):
    """A deterministic conditional autoencoder with a penalty on the MMD of its latents to a standard normal.

    Args:
        geometry: the voxel mesh with V voxels.
        context: size C of the condition.
        mmd_weight: weight of the squared maximum mean discrepancy.
        options: of every `Autoencoder`.

    References:
        Tolstikhin et al., Wasserstein auto-encoders (arXiv:1711.01558), WAE-MMD.
    """

    def __init__(
        self,
        geometry: Geometry,
        context: int,
        mmd_weight: float = 10.0,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(geometry, context, **options)
        self.mmd_weight = mmd_weight

    def loss(self, shapes: Tensor, context: Tensor) -> dict[str, Tensor]:
        latents = self.encode(shapes, context)
        losses = self._reconstruction(latents, shapes, context)
        mmd = squared_mmd(latents, torch.randn_like(latents))
        return {**losses, "loss": losses["loss"] + self.mmd_weight * mmd, "mmd": mmd}


def squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy between two samples (N, d) and (M, d).

    The kernel is the inverse multiquadric C / (C + |x - y|^2) with C = 2 d, the mean squared distance of two points of
    a standard normal.
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        scale = 2 * a.shape[1]
        return scale / (scale + torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square())

    def within(a: Tensor) -> Tensor:
        pairs = len(a) * (len(a) - 1)
        return (kernel(a, a).sum() - len(a)) / max(pairs, 1)  # a point with itself has 1

    return within(x) + within(y) - 2 * kernel(x, y).mean()
