"""How the energy of each layer is spread over its voxels, p(shape | u, E)."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from caloman.errors import CalomanError
from caloman.flows import Distribution, Sampler
from caloman.manifold import Manifold
from caloman.models.density import Density
from caloman.showers.geometry import Geometry


class ShapeModel(Sampler, ABC):
    """Shapes from noise under a condition; `noise_blocks` names the parts of the noise and gives their sizes."""

    noise_blocks: dict[str, int]

    @abstractmethod
    def forward(self, noise: Tensor, context: Tensor) -> Tensor:
        """Turns standard normal noise (N, sum of the blocks) under contexts (N, C) into shapes (N, V)."""


class ManifoldShape(ShapeModel):
    """Two stages: a density on the latent coordinates of a manifold, and a decoder from there to shapes.

    Args:
        geometry: the voxel mesh.
        context: size of the condition.
        autoencoder: the manifold.
        density: the density of the latents, trained when the manifold is fixed.
        residual: density of the decoder's noise given the latents, for the correlations of voxels that the decoder
            leaves out; without it the noise is independent.
        sample_posterior: train the density on samples of a variational encoder, not on its means; right when the
            decoder is a likelihood and is sampled.

    Raises:
        CalomanError: if there is a residual and the head is deterministic.

    References:
        Cresswell et al., CaloMan (arXiv:2211.15380); Brehmer & Cranmer (arXiv:2003.13913) for the two phases.
    """

    def __init__(
        self,
        geometry: Geometry,
        context: int,
        autoencoder: Callable[[Geometry, int], Manifold],
        density: Callable[[int, int], Distribution],
        residual: Callable[[int, int], Density] | None = None,
        sample_posterior: bool = True,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder(geometry, context)
        self.density = self.autoencoder.density(density, context)
        noise_dim, latent_dim = self.autoencoder.noise_dim, self.autoencoder.latent_dim
        if residual and noise_dim == 0:
            raise CalomanError("a residual needs a stochastic head; this autoencoder decodes to a mean")
        self.residual = residual(noise_dim, latent_dim + context) if residual else None
        self.sample_posterior = sample_posterior
        decoder_noise = self.residual.noise_dim if self.residual else noise_dim
        self.noise_blocks = {"latent": self.density.noise_dim, "decoder": decoder_noise}

    def encode(self, shapes: Tensor, context: Tensor, noise: Tensor | None = None) -> Tensor:
        """Latents (N, latent_dim) of shapes (N, V) under contexts (N, C), as the density is trained on them.

        Args:
            shapes: in the coordinates of the shower transform.
            context: the condition.
            noise: standard normal (N, latent_dim), for a sample of the posterior; drawn if it is left out.
        """
        if not self.sample_posterior:
            return self.autoencoder.encode(shapes, context)
        if noise is None:
            noise = shapes.new_empty(len(shapes), self.autoencoder.latent_dim).normal_()
        return self.autoencoder.encode(shapes, context, noise)

    def decode(self, latents: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        """Shapes (N, V) at latents (N, latent_dim) with standard normal noise (N, size of the decoder block)."""
        if self.residual:
            noise = self.residual.sample(noise, torch.cat([latents, context], dim=1))
        return self.autoencoder.decode(latents, context, noise)

    def forward(self, noise: Tensor, context: Tensor) -> Tensor:
        latent_noise, decoder_noise = noise.split(list(self.noise_blocks.values()), dim=1)
        return self.decode(self.density.sample(latent_noise, context), context, decoder_noise)

    def reconstruct(self, noise: Tensor, shapes: Tensor, context: Tensor) -> Tensor:
        """Shapes (N, V) like the given ones (N, V): the forward pass with their own latents, from the same noise."""
        latent_noise, decoder_noise = noise.split(list(self.noise_blocks.values()), dim=1)
        return self.decode(self.encode(shapes, context, latent_noise), context, decoder_noise)
