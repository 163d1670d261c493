"""What every backbone is."""

from abc import ABC, abstractmethod

from torch import nn

from caloman.errors import CalomanError
from caloman.showers.geometry import Geometry


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


def per_voxel(geometry: Geometry, n_parameters: int) -> int:
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
