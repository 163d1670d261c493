"""Generalized autoencoders: the map from shapes to the manifold's coordinates and back."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from caloman.flows.distribution import Distribution
from caloman.manifold.heads import GaussianHead, Head
from caloman.nn.mlp import ParallelMLP
from caloman.preprocessing.scaling import Scaling, Standardize
from caloman.showers.geometry import Geometry


class Manifold(nn.Module, ABC):
    """Coordinates of shapes, and a likelihood of shapes at given coordinates."""

    rates: ClassVar[Mapping[str, float]] = {}
    """Names of submodules with a multiple of the learning rate, and the factor."""
    latent_dim: int
    """Number of coordinates."""
    noise_dim: int
    """Number of standard normal numbers with which a shape is decoded."""

    @abstractmethod
    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Fits all statistics on batches of shapes (n, V) and contexts (n, C)."""

    @abstractmethod
    def encode(self, shapes: Tensor, context: Tensor, noise: Tensor | None = None) -> Tensor:
        """Encodes shapes (N, V) under contexts (N, C) as latents (N, latent_dim).

        Args:
            shapes: in the coordinates of the shower transform.
            context: the condition.
            noise: standard normal (N, latent_dim); where many latents stand for one shape, it picks one of them.
        """

    @abstractmethod
    def decode(self, latents: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        """Decodes latents (N, latent_dim) with standard normal noise (N, noise_dim) to shapes (N, V)."""

    @abstractmethod
    def to_noise(self, latents: Tensor, context: Tensor, shapes: Tensor) -> Tensor:
        """The noise (N, noise_dim) with which `decode` gives the shapes (N, V) back."""

    @abstractmethod
    def log_likelihood(self, latents: Tensor, context: Tensor, shapes: Tensor) -> Tensor:
        """Logarithm of the density of shapes (N, V) under latents (N, latent_dim), shape (N,)."""

    @abstractmethod
    def loss(self, shapes: Tensor, context: Tensor) -> dict[str, Tensor]:
        """Mean loss of a batch, under ``loss``, and its parts."""

    def density(self, make: Callable[[int, int], Distribution], context: int) -> Distribution:
        """The density of the latents under a condition of that size."""
        return make(self.latent_dim, context)


class Autoencoder(Manifold):
    """A deterministic conditional autoencoder, trained on the likelihood of its head.

    Args:
        geometry: the voxel mesh with V voxels.
        context: size C of the condition.
        latent_dim: dimension of the manifold.
        hidden: sizes of the hidden layers of encoder and decoder.
        head: likelihood of the decoder.
        scaling: of the encoder's inputs; by default none.

    References:
        Loaiza-Ganem et al., two-step models (arXiv:2204.07172); Cresswell et al., CaloMan (arXiv:2211.15380).
    """

    head: Head

    def __init__(
        self,
        geometry: Geometry,
        context: int,
        latent_dim: int = 35,
        hidden: Sequence[int] = (512, 512, 512),
        head: Callable[[Geometry], Head] = GaussianHead,
        scaling: Callable[[int], Scaling] | None = None,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.head = head(geometry)
        self.noise_dim = self.head.noise_dim
        self.scaling = scaling(geometry.n_voxels) if scaling else None
        self.context_scaling = Standardize(context)
        self.encoder = ParallelMLP(geometry.n_voxels, context, hidden, self._encoder_outputs)
        self.decoder = ParallelMLP(latent_dim, context, hidden, self.head.n_parameters)

    @property
    def _encoder_outputs(self) -> int:
        return self.latent_dim

    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        self.head.fit(shapes for shapes, _ in batches())
        self.context_scaling.fit(context for _, context in batches())
        if self.scaling:
            self.scaling.fit(shapes for shapes, _ in batches())

    def encode(self, shapes: Tensor, context: Tensor, noise: Tensor | None = None) -> Tensor:
        return self._encoder_output(shapes, context)

    def decode(self, latents: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        return self.head.sample(self._decoder_output(latents, context), noise)

    def to_noise(self, latents: Tensor, context: Tensor, shapes: Tensor) -> Tensor:
        return self.head.to_noise(self._decoder_output(latents, context), shapes)

    def log_likelihood(self, latents: Tensor, context: Tensor, shapes: Tensor) -> Tensor:
        return self.head.log_prob(self._decoder_output(latents, context), shapes)

    def loss(self, shapes: Tensor, context: Tensor) -> dict[str, Tensor]:
        return self._reconstruction(self.encode(shapes, context), shapes, context)

    def _reconstruction(self, latents: Tensor, shapes: Tensor, context: Tensor) -> dict[str, Tensor]:
        """Mean loss of shapes decoded from the latents, and its parts."""
        parameters = self._decoder_output(latents, context)
        likelihood = self.head.log_prob(parameters, shapes).mean()
        return {"loss": -likelihood, "log_likelihood": likelihood}

    def _encoder_output(self, shapes: Tensor, context: Tensor) -> Tensor:
        inputs = self.scaling(shapes) if self.scaling else shapes
        return self.encoder(inputs, self.context_scaling(context))

    def _decoder_output(self, latents: Tensor, context: Tensor) -> Tensor:
        return self.decoder(latents, self.context_scaling(context))


class VAE(Autoencoder):
    """A conditional variational autoencoder with a standard normal prior.

    Args:
        geometry: the voxel mesh with V voxels.
        context: size C of the condition.
        latent_dim: dimension of the manifold.
        beta: weight of the Kullback-Leibler term; 1 gives the evidence lower bound.
        options: of every `Autoencoder`.

    References:
        Kingma & Welling (arXiv:1312.6114); Cresswell et al., CaloMan (arXiv:2211.15380).
    """

    def __init__(
        self,
        geometry: Geometry,
        context: int,
        latent_dim: int = 35,
        beta: float = 1.0,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(geometry, context, latent_dim, **options)
        self.beta = beta

    @property
    def _encoder_outputs(self) -> int:
        return 2 * self.latent_dim

    def encode(self, shapes: Tensor, context: Tensor, noise: Tensor | None = None) -> Tensor:
        mean, log_width = self._encoder_output(shapes, context).chunk(2, dim=1)
        return mean if noise is None else mean + log_width.exp() * noise

    def loss(self, shapes: Tensor, context: Tensor) -> dict[str, Tensor]:
        mean, log_width = self._encoder_output(shapes, context).chunk(2, dim=1)
        latents = mean + log_width.exp() * torch.randn_like(mean)
        divergence = (0.5 * (mean.square() + (2 * log_width).exp() - 1) - log_width).sum(dim=1).mean()
        losses = self._reconstruction(latents, shapes, context)
        return {**losses, "loss": losses["loss"] + self.beta * divergence, "divergence": divergence}
