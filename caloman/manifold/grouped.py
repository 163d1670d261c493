"""A decoder of voxels in groups, for correlations of neighbors beyond the latent."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloman.manifold.architectures import Architecture
from caloman.manifold.autoencoder import VAE
from caloman.manifold.heads import HurdleHead
from caloman.showers.geometry import Geometry

N_GROUPS = 4
SEEN = 3
"""Numbers of the decoder's input for each voxel: the size of a hit, whether it is one, and whether that is known."""


class GroupedVAE(VAE):
    """A conditional VAE with an autoregressive decoder: four groups of voxels, each under those before.

    Every other layer comes first, and in each layer one color of a checkerboard in alpha and r: neighbors are in
    different groups, and voxels of a group are independent of one another given the latent and the earlier groups.
    Each voxel has the likelihood of a hurdle. Training sees one group of each shower, sampling takes four passes.

    Args:
        geometry: the voxel mesh with V voxels.
        context: size C of the condition.
        latent_dim: dimension of the manifold.
        options: of every `VAE`, but for the head.

    References:
        Reed et al., Parallel multiscale autoregressive density estimation (arXiv:1703.03664).
    """

    head: HurdleHead
    groups: Tensor
    members: Tensor
    place: Tensor

    def __init__(
        self,
        geometry: Geometry,
        context: int,
        latent_dim: int = 35,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(geometry, context, latent_dim, head=HurdleHead, **options)
        numbers = _groups(geometry)
        groups = torch.from_numpy(numbers)
        self.group_sizes = np.bincount(numbers).tolist()
        self.register_buffer("groups", groups, persistent=False)
        self.register_buffer("members", groups.argsort(), persistent=False)
        self.register_buffer("place", self.members.argsort(), persistent=False)

    def _make_decoder(self, architecture: Architecture, geometry: Geometry, context: int) -> nn.Module:
        return architecture.decoder(geometry, context, self.latent_dim, self.head.n_parameters, SEEN)

    def decode(self, latents: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        members = self.members.split(self.group_sizes)
        noises = [noise.index_select(1, voxels) for voxels in members]
        shapes, sizes, ratios = [torch.zeros_like(part) for part in noises], [], []
        for group, voxels in enumerate(members):
            parameters = self._parameters_of(group, latents, context, self._join(shapes))
            own = parameters.unflatten(1, (-1, len(self.groups))).index_select(2, voxels).flatten(1)
            size, ratio = self.head.sizes(own, noises[group], voxels)
            shapes[group] = torch.where(ratio < 1, size, 0.0)
            sizes.append(size)
            ratios.append(ratio)
        return self.head.shapes(self._join(sizes), self._join(ratios))

    def _join(self, parts: list[Tensor]) -> Tensor:
        """Numbers of the voxels of each group as numbers of all voxels (N, V)."""
        return torch.cat(parts, dim=1).index_select(1, self.place)

    def to_noise(self, latents: Tensor, context: Tensor, shapes: Tensor) -> Tensor:
        return self.head.to_noise(self._all_parameters(latents, context, shapes), shapes)

    def log_likelihood(self, latents: Tensor, context: Tensor, shapes: Tensor) -> Tensor:
        return self.head.log_prob(self._all_parameters(latents, context, shapes), shapes)

    def _all_parameters(self, latents: Tensor, context: Tensor, shapes: Tensor) -> Tensor:
        """Parameters (N, 6 V) of every voxel under those before it in shapes (N, V)."""
        parameters = latents.new_zeros(latents.shape[0], self.head.n_parameters)
        for group in range(N_GROUPS):
            own = (self.groups == group).repeat(self.head.n_parameters // len(self.groups))
            parameters = torch.where(own, self._parameters_of(group, latents, context, shapes), parameters)
        return parameters

    def _reconstruction(self, latents: Tensor, shapes: Tensor, context: Tensor) -> dict[str, Tensor]:
        turn = torch.arange(len(shapes), device=shapes.device) % N_GROUPS
        parameters = self._group_parameters(latents, context, shapes, turn)
        log_prob = self.head.voxel_log_prob(parameters, shapes) * (self.groups == turn[:, None])
        likelihood = N_GROUPS * log_prob.sum(dim=1).mean()
        return {"loss": -likelihood, "log_likelihood": likelihood}

    def _parameters_of(self, group: int, latents: Tensor, context: Tensor, shapes: Tensor) -> Tensor:
        """As `_group_parameters`, where it is the turn of the same group in all showers."""
        turn = torch.full_like(latents[:, 0], group, dtype=torch.long)
        return self._group_parameters(latents, context, shapes, turn)

    def _group_parameters(self, latents: Tensor, context: Tensor, shapes: Tensor, turn: Tensor) -> Tensor:
        """Parameters (N, 6 V) under the voxels known before a turn (N,); valid for the group of that turn."""
        known = self.groups < turn[:, None]
        hits = known & (shapes > 0)
        logs = torch.where(hits, shapes, torch.ones_like(shapes)).log()
        sizes = torch.where(hits, (logs - self.head.log_mean) / self.head.log_std, torch.zeros_like(shapes))
        seen = torch.cat([latents, sizes, hits.to(sizes.dtype), known.to(sizes.dtype)], dim=1)
        return self._decoder_output(seen, context)


def _groups(geometry: Geometry) -> NDArray[np.int64]:
    """The group of each voxel, shape (V,)."""
    parts = []
    for z, layer in enumerate(geometry.layers):
        alpha, r = np.divmod(np.arange(layer.n_voxels), layer.n_r)
        parts.append(2 * (z % 2) + (alpha + r) % 2)
    return np.concatenate(parts)
