"""Convolutions on the cells of a regular mesh, with a spatial latent."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.manifold.architectures.architecture import Architecture
from caloman.manifold.architectures.mesh import Mesh
from caloman.nn.cylinder import CylinderNet
from caloman.showers.geometry import Geometry


class CylinderArchitecture(Architecture):
    """Convolutions on the mesh of a regular calorimeter, with a spatial latent.

    Patches of voxels are the cells of the convolutions. The latent is a coarser map of these cells, its channels
    slowest. A shower turned by the alpha of a cell of the latent has a turned latent.

    Args:
        patch: voxels along z, alpha and r that make a cell.
        pool: cells along z, alpha and r that make a cell of the latent.
        hidden: channels of the convolutions.
        blocks: residual blocks of each network.
        directions: whether the networks know the alpha of a cell, for particles that come from one side; a turned
            shower is another one then.
    """

    def __init__(
        self,
        patch: Sequence[int] = (3, 1, 9),
        pool: Sequence[int] = (3, 4, 1),
        hidden: int = 64,
        blocks: int = 2,
        directions: bool = False,
    ) -> None:
        self.patch = patch
        self.pool = pool
        self.hidden = hidden
        self.blocks = blocks
        self.directions = directions

    def encoder(self, geometry: Geometry, context: int, n_outputs: int) -> nn.Module:
        mesh = Mesh(geometry, context, self.patch, self.directions)
        in_channels = math.prod(self.patch) + mesh.context_channels
        net = self._network(mesh, in_channels, context, self._latent_channels(mesh, n_outputs))
        return _CellEncoder(mesh, net, self.pool)

    def decoder(self, geometry: Geometry, context: int, latent_dim: int, n_parameters: int, seen: int = 0) -> nn.Module:
        if n_parameters % geometry.n_voxels:
            raise CalomanError(
                f"a head with {n_parameters} parameters for {geometry.n_voxels} voxels needs a DenseArchitecture; the "
                "CylinderArchitecture gives each voxel the same number"
            )
        mesh = Mesh(geometry, context, self.patch, self.directions)
        in_channels = self._latent_channels(mesh, latent_dim) + seen * math.prod(self.patch) + mesh.context_channels
        out_channels = n_parameters // geometry.n_voxels * math.prod(self.patch)
        return _CellDecoder(mesh, self._network(mesh, in_channels, context, out_channels), self.pool, latent_dim)

    def _network(self, mesh: Mesh, in_channels: int, context: int, out_channels: int) -> nn.Module:
        return CylinderNet(mesh.cells, in_channels, context, out_channels, self.hidden, self.blocks)

    def _latent_channels(self, mesh: Mesh, size: int) -> int:
        if any(cells % step for cells, step in zip(mesh.cells, self.pool, strict=True)):
            raise CalomanError(f"pool = {list(self.pool)} of the architecture does not divide its {mesh.cells} cells")
        n_cells = math.prod(mesh.cells) // math.prod(self.pool)
        if size % n_cells:
            raise CalomanError(f"latent_dim must be a multiple of the {n_cells} cells of the architecture's latent map")
        return size // n_cells


class _CellEncoder(nn.Module):
    def __init__(self, mesh: Mesh, net: nn.Module, pool: Sequence[int]) -> None:
        super().__init__()
        self.mesh, self.net, self.pool = mesh, net, list(pool)

    def forward(self, shapes: Tensor, context: Tensor) -> Tensor:
        cells = self.net(self.mesh.with_context(self.mesh.split(shapes), context), context)
        return F.avg_pool3d(cells, self.pool).flatten(1)


class _CellDecoder(nn.Module):
    def __init__(self, mesh: Mesh, net: nn.Module, pool: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.mesh, self.net, self.pool, self.latent_dim = mesh, net, list(pool), latent_dim
        self.latent_shape = [-1, *(size // step for size, step in zip(mesh.cells, pool, strict=True))]

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        cells = latents[:, : self.latent_dim].unflatten(1, self.latent_shape)
        for axis, repeats in enumerate(self.pool, start=2):
            cells = cells.repeat_interleave(repeats, dim=axis)
        if latents.shape[1] > self.latent_dim:
            cells = torch.cat([cells, self.mesh.split(latents[:, self.latent_dim :])], dim=1)
        return self.mesh.join(self.net(self.mesh.with_context(cells, context), context))
