"""Backbones: the networks of encoder and decoder, for regular and irregular meshes of any size."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.geometry import Geometry
from caloman.nn.cylinder import CylinderNet, from_patches, to_patches
from caloman.nn.mlp import MLP, ParallelMLP


class Backbone(ABC):
    """Builds the networks of an autoencoder; it has no weights of its own.

    Both networks map a vector (N, D) under a condition (N, C) to a vector. Outputs of the decoder that belong to voxels
    have the kind of the number slowest and the voxel fastest, as heads expect them.
    """

    @abstractmethod
    def encoder(self, geometry: Geometry, context: int, n_outputs: int) -> nn.Module:
        """The network from shapes (N, V) under contexts (N, C) to outputs (N, n_outputs)."""

    @abstractmethod
    def decoder(self, geometry: Geometry, context: int, latent_dim: int, n_parameters: int, seen: int = 0) -> nn.Module:
        """The network from latents (N, latent_dim) under contexts (N, C) to a head's parameters (N, n_parameters).

        Behind the latents come so many numbers for each voxel as are seen by the decoder, (N, latent_dim + seen * V).
        """


class TowerBackbone(Backbone):
    """CaloMan's dense networks.

    Args:
        hidden: sizes of the hidden layers.
    """

    def __init__(self, hidden: Sequence[int] = (512, 512, 512)) -> None:
        self.hidden = hidden

    def encoder(self, geometry: Geometry, context: int, n_outputs: int) -> nn.Module:
        return ParallelMLP(geometry.n_voxels, context, self.hidden, n_outputs)

    def decoder(self, geometry: Geometry, context: int, latent_dim: int, n_parameters: int, seen: int = 0) -> nn.Module:
        return ParallelMLP(latent_dim + seen * geometry.n_voxels, context, self.hidden, n_parameters)


class LayerBackbone(Backbone):
    """A small network for each layer, into a shared trunk and back, for layers that have nothing in common.

    Args:
        features: numbers by which a layer's network and the trunk know one another.
        width: of the hidden layer of each layer's network.
        hidden: sizes of the hidden layers of the trunk.
    """

    def __init__(self, features: int = 32, width: int = 128, hidden: Sequence[int] = (256, 256)) -> None:
        self.features = features
        self.width = width
        self.hidden = hidden

    def encoder(self, geometry: Geometry, context: int, n_outputs: int) -> nn.Module:
        trunk = ParallelMLP(self.features * geometry.n_layers, context, self.hidden, n_outputs)
        return _LayerEncoder(geometry, self.features, self.width, trunk)

    def decoder(self, geometry: Geometry, context: int, latent_dim: int, n_parameters: int, seen: int = 0) -> nn.Module:
        inputs = latent_dim + seen * geometry.n_voxels
        trunk = ParallelMLP(inputs, context, self.hidden, self.features * geometry.n_layers)
        return _LayerDecoder(geometry, self.features, self.width, trunk, _per_voxel(geometry, n_parameters))


class _LayerEncoder(nn.Module):
    def __init__(self, geometry: Geometry, features: int, width: int, trunk: nn.Module) -> None:
        super().__init__()
        self.sizes = geometry.layer_sizes
        self.layers = nn.ModuleList(MLP(size, [width], features, nn.SiLU) for size in self.sizes)
        self.trunk = trunk

    def forward(self, shapes: Tensor, context: Tensor) -> Tensor:
        parts = [layer(part) for layer, part in zip(self.layers, shapes.split(self.sizes, dim=1), strict=True)]
        return self.trunk(F.silu(torch.cat(parts, dim=1)), context)


class _LayerDecoder(nn.Module):
    def __init__(self, geometry: Geometry, features: int, width: int, trunk: nn.Module, per_voxel: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.per_voxel = per_voxel
        self.layers = nn.ModuleList(MLP(features, [width], per_voxel * size, nn.SiLU) for size in geometry.layer_sizes)

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        parts = F.silu(self.trunk(latents, context)).chunk(len(self.layers), dim=1)
        voxels = [
            layer(part).unflatten(1, (self.per_voxel, -1)) for layer, part in zip(self.layers, parts, strict=True)
        ]
        return torch.cat(voxels, dim=2).flatten(1)


class CylinderBackbone(Backbone):
    """Convolutions on the mesh of a regular calorimeter, with a spatial latent.

    Voxels are joined to patches, the cells of the convolutions; the latent is a coarser map of them, its channels
    slowest. A shower that is turned by the alpha of a cell of the latent has a latent that is turned.

    Args:
        patch: voxels along z, alpha and r that make a cell.
        pool: cells along z, alpha and r that share a cell of the latent.
        hidden: channels of the convolutions.
        blocks: residual blocks of each network.
    """

    def __init__(
        self,
        patch: Sequence[int] = (3, 1, 9),
        pool: Sequence[int] = (3, 4, 1),
        hidden: int = 64,
        blocks: int = 2,
    ) -> None:
        self.patch = patch
        self.pool = pool
        self.hidden = hidden
        self.blocks = blocks

    def encoder(self, geometry: Geometry, context: int, n_outputs: int) -> nn.Module:
        mesh = _Mesh(geometry, context, self.patch)
        channels = self._latent_channels(mesh, n_outputs)
        in_channels = math.prod(self.patch) + mesh.context_channels
        net = CylinderNet(mesh.cells, in_channels, context, channels, self.hidden, self.blocks)
        return _CylinderEncoder(mesh, net, self.pool)

    def decoder(self, geometry: Geometry, context: int, latent_dim: int, n_parameters: int, seen: int = 0) -> nn.Module:
        mesh = _Mesh(geometry, context, self.patch)
        channels = self._latent_channels(mesh, latent_dim)
        out_channels = _per_voxel(geometry, n_parameters) * math.prod(self.patch)
        in_channels = channels + seen * math.prod(self.patch) + mesh.context_channels
        net = CylinderNet(mesh.cells, in_channels, context, out_channels, self.hidden, self.blocks)
        return _CylinderDecoder(mesh, net, self.pool, latent_dim)

    def _latent_channels(self, mesh: "_Mesh", size: int) -> int:
        if any(cells % step for cells, step in zip(mesh.cells, self.pool, strict=True)):
            raise CalomanError(f"pool = {list(self.pool)} of the backbone does not divide its {mesh.cells} cells")
        n_cells = math.prod(mesh.cells) // math.prod(self.pool)
        if size % n_cells:
            raise CalomanError(f"latent_dim has to be a multiple of the {n_cells} cells of the backbone's latent map")
        return size // n_cells


class _Mesh:
    """A regular mesh in patches, and the numbers of a context that belong to its layers.

    Args:
        geometry: the voxel mesh.
        context: size of the condition; after the first number, as many groups of one per layer as there are.
        patch: voxels along z, alpha and r that make a cell.

    Raises:
        CalomanError: if the layers differ, or the patch does not divide them.
    """

    def __init__(self, geometry: Geometry, context: int, patch: Sequence[int]) -> None:
        first = geometry.layers[0]
        if any((layer.n_alpha, layer.n_r) != (first.n_alpha, first.n_r) for layer in geometry.layers):
            raise CalomanError(f"the layers of dataset {geometry.name!r} differ; use a LayerBackbone as the backbone")
        self.voxels = (geometry.n_layers, first.n_alpha, first.n_r)
        if any(size % step for size, step in zip(self.voxels, patch, strict=True)):
            raise CalomanError(f"patch = {list(patch)} of the backbone does not divide the mesh {list(self.voxels)}")
        self.patch = list(patch)
        self.cells = [size // step for size, step in zip(self.voxels, patch, strict=True)]
        self.per_layer = (context - 1) // geometry.n_layers
        self.context_channels = self.per_layer * patch[0]

    def split(self, voxels: Tensor) -> Tensor:
        """Numbers of voxels (N, k * V) as cells (N, k * size of a patch, z', alpha', r')."""
        return to_patches(voxels.unflatten(1, (-1, *self.voxels)), self.patch)

    def join(self, cells: Tensor) -> Tensor:
        """Undoes `split`."""
        return from_patches(cells, self.patch).flatten(1)

    def with_context(self, cells: Tensor, context: Tensor) -> Tensor:
        """Cells (N, c, z', alpha', r') joined to the numbers of a context (N, C) that belong to their layers."""
        if not self.per_layer:
            return cells
        layers = context[:, 1 : 1 + self.per_layer * self.voxels[0]].unflatten(1, (-1, self.voxels[0], 1, 1))
        known = to_patches(layers, (self.patch[0], 1, 1)).expand(-1, -1, -1, *self.cells[1:])
        return torch.cat([cells, known], dim=1)


class _CylinderEncoder(nn.Module):
    def __init__(self, mesh: _Mesh, net: CylinderNet, pool: Sequence[int]) -> None:
        super().__init__()
        self.mesh, self.net, self.pool = mesh, net, list(pool)

    def forward(self, shapes: Tensor, context: Tensor) -> Tensor:
        cells = self.net(self.mesh.with_context(self.mesh.split(shapes), context), context)
        return F.avg_pool3d(cells, self.pool).flatten(1)


class _CylinderDecoder(nn.Module):
    def __init__(self, mesh: _Mesh, net: CylinderNet, pool: Sequence[int], latent_dim: int) -> None:
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


def _per_voxel(geometry: Geometry, n_parameters: int) -> int:
    """Parameters of a head for each voxel.

    Raises:
        CalomanError: if they do not belong to voxels.
    """
    if n_parameters % geometry.n_voxels:
        raise CalomanError(
            f"a head with {n_parameters} parameters for {geometry.n_voxels} voxels needs a TowerBackbone, for others "
            "give each voxel the same number"
        )
    return n_parameters // geometry.n_voxels
