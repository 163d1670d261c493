"""Dense backbones, for any mesh."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.geometry import Geometry
from caloman.manifold.backbones.backbone import Backbone, per_voxel
from caloman.nn.mlp import MLP, ParallelMLP


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
        return _LayerDecoder(geometry, self.features, self.width, trunk, per_voxel(geometry, n_parameters))


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
