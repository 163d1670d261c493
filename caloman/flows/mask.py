"""Which entries of a vector exist: the discrete half of a dropout surjection."""

import torch
import torch.nn.functional as F
from torch import Tensor

from caloman.flows.distribution import Distribution
from caloman.nn.masked import MADE


class BernoulliMask(Distribution):
    """Autoregressive probabilities of zeros and ones; sampling takes D passes, so few entries only.

    Args:
        features: number D of entries.
        context: size of the condition; 0 for none.
        hidden: width of the masked network.

    References:
        Verheyen (arXiv:2205.01697).
    """

    def __init__(self, features: int, context: int = 0, hidden: int = 64) -> None:
        super().__init__(features, features)
        self.conditioner = MADE(features, context, outputs=1, hidden=hidden)

    def log_prob(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        logits = self.conditioner(inputs, context)
        return -F.binary_cross_entropy_with_logits(logits, inputs, reduction="none").sum(dim=1)

    def sample(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        levels, mask = torch.special.ndtr(noise), torch.zeros_like(noise)
        for _ in range(self.features):  # each pass gets one more entry right
            mask = (levels < self.conditioner(mask, context).sigmoid()).to(noise.dtype)
        return mask
