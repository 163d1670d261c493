"""Gaussian mixture: a baseline for flows."""

import math

import torch
from torch import Tensor

from caloman.flows.distribution import Distribution
from caloman.nn.mlp import MLP


class GaussianMixture(Distribution):
    """Gaussians with diagonal covariances, whose weights, means and widths are free or depend on the condition.

    The first number of the noise picks the component, the others are the entries within it.

    Args:
        features: size D of the vectors.
        context: size of the condition; 0 for none.
        components: number K of Gaussians.
        hidden: width of the two hidden layers of the conditioner.
    """

    def __init__(self, features: int, context: int = 0, components: int = 10, hidden: int = 64) -> None:
        super().__init__(features, 1 + features)
        self.components = components
        # of a single 1 the conditioner learns constants
        self.conditioner = MLP(max(context, 1), [hidden, hidden], components * (1 + 2 * features))

    def log_prob(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        log_weights, means, log_widths = self._gaussians(inputs, context)
        residuals = (inputs.unsqueeze(1) - means) * (-log_widths).exp()
        log_norm = log_widths.sum(dim=2) + 0.5 * self.features * math.log(2 * math.pi)
        return (log_weights - 0.5 * residuals.square().sum(dim=2) - log_norm).logsumexp(dim=1)

    def sample(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        log_weights, means, log_widths = self._gaussians(noise, context)
        level = torch.special.ndtr(noise[:, :1])
        # not above the last sum, which rounding may leave below 1
        chosen = (log_weights.exp().cumsum(dim=1)[:, :-1] <= level).sum(dim=1)
        rows = torch.arange(len(noise), device=noise.device)
        return means[rows, chosen] + log_widths[rows, chosen].exp() * noise[:, 1:]

    def _gaussians(self, like: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        condition = like.new_ones(len(like), 1) if context is None else context
        raw = self.conditioner(condition).unflatten(1, (self.components, -1))
        logits, means, log_widths = raw.split([1, self.features, self.features], dim=2)
        return logits.squeeze(2).log_softmax(dim=1), means, log_widths
