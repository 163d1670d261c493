"""Zeros made continuous: a flow on energies needs a density where the data has a spike.

The noise v that takes the place of a zero is drawn from a density q, and whatever a model gives below the threshold is
zero again. The probability of the zeros of x is then bounded by that of their stand-ins,

    log p(x) >= E_q[log p(v) - log q(v | x)],

so a filling returns v together with -log q. Energies range over decades: q is a density of log v.

References:
    Ho et al., Flow++ (arXiv:1902.00275), for the bound; CaloFlow (arXiv:2106.05285); L2LFlows (arXiv:2302.11594).
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.nn.mlp import MLP

LOG_10 = math.log(10)


class Filling(nn.Module, ABC):
    """Energies in the place of zeros, all below `upper` [MeV]."""

    upper: float

    def forward(self, energies: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Fills the zeros of energies (N, D) [MeV] under a context (N, C).

        Returns:
            The filled energies (N, D) [MeV], and -log q(log v) of what was filled in, summed over entries, shape (N,).
        """
        empty = energies == 0
        log_energies, minus_log_q = self._draw(energies, context)
        filled = torch.where(empty, log_energies.exp(), energies)
        return filled, torch.where(empty, minus_log_q, 0.0).sum(dim=1)

    def check(self, threshold: float) -> None:
        """Refuses a threshold [MeV] that would not make zeros of what was filled in.

        Raises:
            CalomanError: if the filling reaches above it.
        """
        if self.upper > threshold:
            raise CalomanError(
                f"the filling of zeros reaches {self.upper:g} MeV, above threshold = {threshold:g} MeV; lower it"
            )

    @abstractmethod
    def _draw(self, energies: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The logarithm of an energy for each entry, as if all were empty, and -log q, both of shape (N, D)."""


class UniformFilling(Filling):
    """Uniform noise on every entry, as in CaloFlow: it fills the zeros, and blurs the others by no more than its width.

    Args:
        features: size D of the vectors.
        context: size of the condition, which is ignored.
        width: upper end of the noise [MeV].
    """

    def __init__(self, features: int, context: int, width: float) -> None:
        super().__init__()
        self.upper = width

    def forward(self, energies: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_noise, minus_log_q = self._draw(energies, context)
        return energies + log_noise.exp(), torch.where(energies == 0, minus_log_q, 0.0).sum(dim=1)

    def _draw(self, energies: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        minus_log_share = -(1 - torch.rand_like(energies)).log()  # not of 0, which a random number may be
        return math.log(self.upper) - minus_log_share, minus_log_share


class LogUniformFilling(Filling):
    """Log-uniform energies from the decade below a threshold.

    Args:
        threshold: upper end of the decade [MeV].
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.upper = threshold

    def _draw(self, energies: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        decades = torch.rand_like(energies)
        return math.log(self.upper) - LOG_10 * decades, torch.full_like(energies, math.log(LOG_10))


class LogNormalFilling(Filling):
    """Log-normal energies 10^(mean +- sigma), as in L2LFlows.

    Args:
        features: size D of the vectors.
        context: size of the condition, which is ignored.
        mean: of log10(energy / MeV).
        sigma: of log10(energy / MeV).
    """

    def __init__(self, features: int, context: int, mean: float = -3.2, sigma: float = 0.2) -> None:
        super().__init__()
        self.mean, self.sigma = mean, sigma
        self.upper = 10 ** (mean + 6 * sigma)  # one of 10^9 lies above

    def _draw(self, energies: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        noise = torch.randn_like(energies)
        minus_log_q = 0.5 * noise.square() + math.log(LOG_10 * self.sigma * math.sqrt(2 * math.pi))
        return LOG_10 * (self.mean + self.sigma * noise), minus_log_q


class VariationalFilling(Filling):
    """Energies below a threshold from a learned q(v | x, c), which makes the bound as tight as it can.

    For each entry a network gives location and width of a normal variable a, and log v = log threshold - softplus(a).

    Args:
        features: size D of the vectors.
        context: size C of the condition.
        threshold: upper end of the energies [MeV].
        hidden: width of the two hidden layers of the network.

    References:
        Ho et al., Flow++ (arXiv:1902.00275).
    """

    def __init__(self, features: int, context: int, threshold: float = 0.01, hidden: int = 64) -> None:
        super().__init__()
        self.upper = threshold
        self.network = MLP(features + context, [hidden, hidden], 2 * features)
        nn.init.zeros_(self.network[-1].weight)  # type: ignore[arg-type]
        nn.init.constant_(self.network[-1].bias, 1.0)  # type: ignore[arg-type]

    def _draw(self, energies: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        known = (energies / self.upper).log1p()  # 0 where there is nothing
        location, width = self.network(known if context is None else torch.cat([known, context], 1)).chunk(2, dim=1)
        noise = torch.randn_like(energies)
        scale = 1e-2 + F.softplus(width)
        position = location + scale * noise
        minus_log_q = 0.5 * noise.square() + 0.5 * math.log(2 * math.pi) + scale.log() + F.logsigmoid(position)
        return math.log(self.upper) - F.softplus(position), minus_log_q
