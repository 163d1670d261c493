"""Dense backbones, for any mesh."""

from collections.abc import Sequence

from torch import nn

from caloman.manifold.backbones.backbone import Backbone
from caloman.nn.mlp import ParallelMLP
from caloman.showers.geometry import Geometry


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
