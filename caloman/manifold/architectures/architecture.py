"""The interface of architectures, and the dense one, for any mesh."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from caloman.nn.mlp import ParallelMLP
from caloman.showers.geometry import Geometry


class Architecture(ABC):
    """Builds the networks of an autoencoder; it has no weights of its own.

    Both networks map a vector (N, D) under a condition (N, C) to a vector. A decoder with several outputs for each
    voxel gives them one kind after the other, as heads expect them.
    """

    @abstractmethod
    def encoder(self, geometry: Geometry, context: int, n_outputs: int) -> nn.Module:
        """The network from shapes (N, V) under contexts (N, C) to outputs (N, n_outputs)."""

    @abstractmethod
    def decoder(self, geometry: Geometry, context: int, latent_dim: int, n_parameters: int, seen: int = 0) -> nn.Module:
        """The network from latents (N, latent_dim) under contexts (N, C) to a head's parameters (N, n_parameters).

        With `seen` numbers for each voxel behind the latents, the input has shape (N, latent_dim + seen * V).
        """


class DenseArchitecture(Architecture):
    """CaloMan's dense networks with a second tower for the condition.

    Args:
        hidden: sizes of the hidden layers.
    """

    def __init__(self, hidden: Sequence[int] = (512, 512, 512)) -> None:
        self.hidden = hidden

    def encoder(self, geometry: Geometry, context: int, n_outputs: int) -> nn.Module:
        return ParallelMLP(geometry.n_voxels, context, self.hidden, n_outputs)

    def decoder(self, geometry: Geometry, context: int, latent_dim: int, n_parameters: int, seen: int = 0) -> nn.Module:
        return ParallelMLP(latent_dim + seen * geometry.n_voxels, context, self.hidden, n_parameters)
