"""Zeros made continuous: a flow on energies needs a density where the data has a spike.

Dequantization replaces a zero by noise v from a density q, and whatever a model gives below the threshold is zero
again. The noise bounds the probability of the zeros of x,

    log p(x) >= E_q[log p(v) - log q(v | x)],

so dequantization returns v together with -log q. Energies range over decades: q is a density of log v.

References:
    Ho et al., Flow++ (arXiv:1902.00275), for the bound; CaloFlow (arXiv:2106.05285); L2LFlows (arXiv:2302.11594).
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from caloman.errors import CalomanError

LOG_10 = math.log(10)


class Dequantization(ABC):
    """Random energies in the place of zeros, all below `upper` [MeV]."""

    upper: float

    def __call__(self, energies: Tensor, random: bool = True) -> tuple[Tensor, Tensor]:
        """Replaces the zeros of energies (N, D) [MeV].

        Args:
            energies: the energies.
            random: draw the noise; otherwise take the median of q. The bound is then a function of x, and exact for a
                model with the true q.

        Returns:
            Energies without zeros (N, D) [MeV], and -log q(log v) of the noise, summed over the zeros, shape (N,).
        """
        empty = energies == 0
        log_noise, minus_log_q = self._draw(energies, random)
        return torch.where(empty, log_noise.exp(), energies), torch.where(empty, minus_log_q, 0.0).sum(dim=1)

    def check(self, threshold: float) -> None:
        """Refuses a threshold [MeV] below some of the noise.

        Raises:
            CalomanError: if the noise reaches above it.
        """
        if self.upper > threshold:
            raise CalomanError(
                f"the {type(self).__name__} reaches {self.upper:g} MeV, above threshold = {threshold:g} MeV; lower it"
            )

    @abstractmethod
    def _draw(self, energies: Tensor, random: bool) -> tuple[Tensor, Tensor]:
        """The logarithm of an energy for each entry, as if all were empty, and -log q, both of shape (N, D)."""


class UniformDequantization(Dequantization):
    """Uniform noise on every entry, as in CaloFlow: it replaces zeros, and blurs the others by its width at most.

    Args:
        width: upper end of the noise [MeV].
    """

    def __init__(self, width: float) -> None:
        self.upper = width

    def __call__(self, energies: Tensor, random: bool = True) -> tuple[Tensor, Tensor]:
        """Adds noise to energies (N, D) [MeV]; arguments and results are those of the base class."""
        log_noise, minus_log_q = self._draw(energies, random)
        return energies + log_noise.exp(), torch.where(energies == 0, minus_log_q, 0.0).sum(dim=1)

    def _draw(self, energies: Tensor, random: bool) -> tuple[Tensor, Tensor]:
        fraction = 1 - torch.rand_like(energies) if random else torch.full_like(energies, 0.5)  # never 0
        minus_log_fraction = -fraction.log()
        return math.log(self.upper) - minus_log_fraction, minus_log_fraction


class LogUniformDequantization(Dequantization):
    """Log-uniform energies from the decade below a threshold.

    Args:
        threshold: upper end of the decade [MeV].
    """

    def __init__(self, threshold: float) -> None:
        self.upper = threshold

    def _draw(self, energies: Tensor, random: bool) -> tuple[Tensor, Tensor]:
        decades = torch.rand_like(energies) if random else torch.full_like(energies, 0.5)
        return math.log(self.upper) - LOG_10 * decades, torch.full_like(energies, math.log(LOG_10))


class LogNormalDequantization(Dequantization):
    """Log-normal energies 10^(mean +- sigma), as in L2LFlows.

    Args:
        mean: of log10(energy / MeV).
        sigma: of log10(energy / MeV).
    """

    def __init__(self, mean: float, sigma: float = 0.2) -> None:
        self.mean, self.sigma = mean, sigma
        self.upper = 10 ** (mean + 6 * sigma)  # one of 10^9 lies above

    def _draw(self, energies: Tensor, random: bool) -> tuple[Tensor, Tensor]:
        noise = torch.randn_like(energies) if random else torch.zeros_like(energies)
        minus_log_q = 0.5 * noise.square() + math.log(LOG_10 * self.sigma * math.sqrt(2 * math.pi))
        return LOG_10 * (self.mean + self.sigma * noise), minus_log_q
