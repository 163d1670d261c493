"""Manifold flows: densities on a manifold in a space of more dimensions.

References:
    Brehmer and Cranmer, Flows for simultaneous manifold learning and density estimation (arXiv:2003.13913).
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.flows import Distribution, Flow
from caloman.manifold.density import log_volume
from caloman.nn.mlp import MLP


class ManifoldDensity(nn.Module, ABC):
    """A density of the coordinates u of a manifold x = g(u).

    It is trained in two phases: first encoder and decoder on `reconstruction_error`, then the inner density on
    `latent_loss`. The likelihood on the manifold is no loss for both at once: it is that of the projections, and can
    be large on a small manifold far from the data.

    Args:
        inner: density of the coordinates.
    """

    def __init__(self, inner: Distribution) -> None:
        super().__init__()
        self.inner = inner

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Coordinates (N, d) of points (N, D)."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Points of the manifold (N, D) at coordinates (N, d)."""

    def project(self, x: Tensor) -> Tensor:
        """Points of the manifold (N, D) for points (N, D) beside it."""
        return self.decode(self.encode(x))

    def sample(self, noise: Tensor) -> Tensor:
        """Turns standard normal noise (N, inner.noise_dim) into points of the manifold (N, D)."""
        return self.decode(self.inner.sample(noise))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density per volume of the manifold at the projections of points (N, D), shape (N,)."""
        latents = self.encode(x)
        return self.inner.log_prob(latents) - log_volume(self.decode, latents)

    def reconstruction_error(self, x: Tensor) -> Tensor:
        """Squared distance of points (N, D) to their projections, shape (N,)."""
        return (x - self.project(x)).square().sum(dim=1)

    def latent_loss(self, x: Tensor) -> Tensor:
        """Loss of the inner density: -log p of the coordinates of points (N, D), mean.

        The volume is left out: it does not depend on that density.
        """
        with torch.no_grad():
            latents = self.encode(x)
        return self.inner.loss(latents)


class MFlow(ManifoldDensity):
    """A manifold flow: an outer flow brings points to (u, v), and the manifold is where v = 0.

    Args:
        outer: the flow of D entries; only its transforms are used, not its density.
        inner: density of the first d of them.
    """

    def __init__(self, outer: Flow, inner: Distribution) -> None:
        super().__init__(inner)
        self.outer = outer

    def encode(self, x: Tensor) -> Tensor:
        return self.outer.trace(x)[-1].outputs[:, : self.inner.features]

    def decode(self, latents: Tensor) -> Tensor:
        return self.outer.sample(F.pad(latents, (0, self.outer.features - self.inner.features)))


class Dense(ManifoldDensity):
    """A manifold between two dense networks.

    Args:
        features: size of the points.
        inner: density of the coordinates.
        hidden: width of the networks.
    """

    def __init__(self, features: int, inner: Distribution, hidden: int) -> None:
        super().__init__(inner)
        self.encoder = MLP(features, [hidden] * 3, inner.features, nn.SiLU)
        self.decoder = MLP(inner.features, [hidden] * 3, features, nn.SiLU)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)
