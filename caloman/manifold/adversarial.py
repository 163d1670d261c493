"""Adversarial variational Bayes: a variational autoencoder with a network for its posterior."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from caloman.manifold.autoencoder import VAE
from caloman.manifold.heads import HALF_LOG_2PI
from caloman.nn.mlp import PlainMLP, start_at_zero
from caloman.showers.geometry import Geometry

HIDDEN = 128
"""Width of the hidden layers of warp and adversary."""
ADVERSARY_DRAWS = 4
"""Samples of each shower's posterior in a step of the adversary."""


class AVB(VAE):
    """A conditional autoencoder with an implicit posterior and a standard normal prior.

    The posterior is a Gaussian with noise warped by a network, under features of the shower; without the warp it is the
    VAE. The adversary estimates its density, for the Kullback-Leibler term. All networks take their steps at once. The
    adversary's loss has gradients for the adversary alone, and adds nothing to the value of the loss: that stays an
    estimate of the evidence bound. The adversary keeps up with the posterior by a higher learning rate.

    Args:
        geometry: the voxel mesh with V voxels.
        context: size C of the condition.
        options: of every `VAE`.

    References:
        Mescheder et al., Adversarial variational Bayes (arXiv:1701.04722); Heusel et al., two time-scales
        (arXiv:1706.08500).
    """

    rates: ClassVar[Mapping[str, float]] = {"adversary": 3.0}

    def __init__(
        self,
        geometry: Geometry,
        context: int,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(geometry, context, **options)
        self.warp = PlainMLP(self.latent_dim, self.latent_dim, self.latent_dim, HIDDEN)
        start_at_zero(self.warp.last)
        self.adversary = Adversary(self.latent_dim, self.latent_dim, HIDDEN)

    @property
    def _encoder_outputs(self) -> int:
        return 3 * self.latent_dim

    def encode(self, shapes: Tensor, context: Tensor, noise: Tensor | None = None) -> Tensor:
        mean, log_width, features = self._encoder_output(shapes, context).chunk(3, dim=1)
        return mean + log_width.exp() * self._warped(torch.zeros_like(mean) if noise is None else noise, features)

    def loss(self, shapes: Tensor, context: Tensor) -> dict[str, Tensor]:
        mean, log_width, features = self._encoder_output(shapes, context).chunk(3, dim=1)
        noise = self._warped(torch.randn_like(mean), features)
        latents = mean + log_width.exp() * noise
        log_prior = -(0.5 * latents.square() + HALF_LOG_2PI).sum(dim=1)
        divergence = (self._log_posterior(noise, features) - log_width.sum(dim=1) - log_prior).mean()
        adversary = self._adversary_loss(features.detach())
        losses = self._reconstruction(latents, shapes, context)
        loss = losses["loss"] + self.beta * divergence + adversary - adversary.detach()
        return {**losses, "loss": loss, "divergence": divergence, "adversary_loss": adversary}

    def _warped(self, noise: Tensor, features: Tensor) -> Tensor:
        # by two widths at most, or it could run away from the adversary
        return noise + 2 * (0.5 * self.warp(noise, features)).tanh()

    def _log_posterior(self, noise: Tensor, features: Tensor) -> Tensor:
        """Log-density of warped noise (N, d) given features (N, d), with the adversary as it is, shape (N,)."""
        weights = {name: weight.detach() for name, weight in self.adversary.named_parameters()}
        return functional_call(self.adversary, weights, (noise, features.detach()))

    def _adversary_loss(self, features: Tensor) -> Tensor:
        """The adversary's loss on several draws for each shower; they cost little beside the encoder."""
        features = features.repeat(ADVERSARY_DRAWS, 1)
        with torch.no_grad():
            noise = self._warped(torch.randn_like(features), features)
        return self.adversary.loss(noise, features)


class Adversary(nn.Module):
    """Estimates the density p(x | c) of samples x of a network by a contrast with normal samples.

    A normal density follows mean and width of the samples, and a discriminator between the samples and that density
    learns the logarithm of their ratio ("adaptive contrast"): how narrow the samples are need not be learned by it.

    Args:
        features: size D of x.
        context: size C of c.
        hidden: width of the hidden layers.

    References:
        Mescheder et al. (arXiv:1701.04722), section 3.3.
    """

    def __init__(self, features: int, context: int, hidden: int) -> None:
        super().__init__()
        self.contrast = PlainMLP(context, 0, 2 * features, hidden)
        start_at_zero(self.contrast.last)
        self.discriminator = PlainMLP(features, context, 1, hidden)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Log-density at x (N, D) under contexts (N, C), shape (N,)."""
        standardized, log_normal = self._contrast(x, context)
        return log_normal + self.discriminator(standardized, context).squeeze(1)

    def loss(self, x: Tensor, context: Tensor) -> Tensor:
        """Loss of the normal density and of the discriminator on samples x (N, D) under contexts (N, C)."""
        standardized, log_normal = self._contrast(x, context)
        sample = self.discriminator(standardized.detach(), context)
        normal = self.discriminator(torch.randn_like(x), context)
        return (F.softplus(-sample) + F.softplus(normal)).mean() - log_normal.mean()

    def _contrast(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Samples x in units of the normal density (N, D), and the logarithm of that density (N,)."""
        mean, log_width = self.contrast(context).chunk(2, dim=1)
        standardized = (x - mean) * (-log_width).exp()
        return standardized, -(0.5 * standardized.square() + log_width + HALF_LOG_2PI).sum(dim=1)
