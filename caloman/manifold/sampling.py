"""Samples of voxels that are held to a number of hits and to an energy."""

import math
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from caloman.manifold.heads import upper_tail

NEWTON_STEPS = 3
"""Until the energies of a zone add up within a few per mille; a scale removes the rest."""


class Sizes(Protocol):
    """Distributions of the logarithms of sizes."""

    def log_size(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """The logarithm of a size from its normal score, and its derivative by the score."""
        ...


def log_odds(noise: Tensor) -> Tensor:
    """The log-odds of P(x > noise) for a standard normal x."""
    tail = upper_tail(noise).clamp(1e-30, 1 - 1e-7)
    return tail.log() - torch.log1p(-tail)


def choose_hits(logits: Tensor, odds: Tensor, hits: Tensor) -> tuple[Tensor, Tensor]:
    """Chooses a given number of voxels, with chances close to those of independent voxels under that number.

    Voxels are ranked by the odds of a uniform number over the odds of a hit (Pareto sampling), and the first ones stay.

    Args:
        logits: log-odds of a hit in each voxel, shape (N, V).
        odds: log-odds of uniform numbers (N, V).
        hits: the number of hits, shape (N,), at most V.

    Returns:
        Whether each voxel is a hit (N, V), and the rank of the first voxel left out (N,), see `score_hits`.

    References:
        Rosén, On sampling with probability proportional to size, J. Stat. Plann. Inference 62 (1997) 159.
    """
    ranks = odds - logits
    ordered = F.pad(ranks.sort(dim=1).values, (0, 1), value=math.inf)
    limit = ordered.gather(1, hits.long().unsqueeze(1))
    return ranks < limit, limit.squeeze(1)


def score_hits(logits: Tensor, odds: Tensor, limit: Tensor) -> Tensor:
    """Standard normal scores of the sizes of hits, independent of one another and of the choice; all of one shape.

    Given the first voxel left out, the uniform numbers of those before it are uniform up to where they have its rank.
    """
    ratio = odds.sigmoid() / (limit + logits).sigmoid().clamp(min=1e-30)
    return -torch.special.ndtri(ratio.clamp(1e-9, 1 - 1e-6))


def share_energy(sizes: Sizes, scores: Tensor, is_hit: Tensor, add: Callable[[Tensor], Tensor]) -> Tensor:
    """Sizes of hits whose mean is 1 in each zone, and 0 of what is no hit.

    The scores of all hits of a zone are moved until the sizes add up, each in proportion to the square root of the size
    that it has, so that small hits keep their spectrum. For equal sizes that are linear in independent normal scores,
    this makes samples with a given sum. Before, scores are stretched, so that each still varies as it should. A size
    keeps the features of its own distribution, which a common factor would move.

    Args:
        sizes: distribution of each size.
        scores: independent standard normal scores.
        is_hit: the hits.
        add: sums numbers over the zone of each; all of one shape.
    """
    count = add(is_hit.to(scores.dtype)).clamp(min=1)
    drawn = _sizes(sizes, scores, is_hit)[0].clamp(min=1e-6) * is_hit
    direction = (drawn * count / add(drawn).clamp(min=1e-12)).sqrt()
    scores = scores / (1 - direction.square() / count).clamp(min=0.5).sqrt()
    shift = torch.zeros_like(count)
    for _ in range(NEWTON_STEPS):
        values, slopes = _sizes(sizes, scores + direction * shift, is_hit)
        total = add(values).clamp(min=1e-20)
        slope = add(values * slopes * direction) / total
        shift = (shift - (total / count).log() / slope.clamp(min=0.05)).clamp(-8, 8)
    values, _ = _sizes(sizes, scores + direction * shift, is_hit)
    return values * (count / add(values).clamp(min=1e-20))


def _sizes(sizes: Sizes, scores: Tensor, is_hit: Tensor) -> tuple[Tensor, Tensor]:
    """Sizes of hits at scores, and the derivatives of their logarithms."""
    logs, slopes = sizes.log_size(scores)
    return logs.clamp(-30, 10).exp() * is_hit, slopes
