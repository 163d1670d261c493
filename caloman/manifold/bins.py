"""Sizes of hits whose spectrum has steps at fixed energies."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.manifold.heads import HALF_LOG_2PI, HitSizes, upper_tail

PIECES = 8
"""Of a bin, whose spectrum is that of all hits."""
GROUP = 4
"""Bins that have equal chances in the smooth distribution, which costs more than their own numbers."""
LEAST = 1e-5
"""Chance of a group before the numbers of its bins: float32 holds no differences of chances that are much smaller."""
CELLS = 8192
"""Of the histogram in which the edges of pieces are found."""
JOINED = 8
"""Cells that are one in the histograms of layers and rings, of which there may be many."""
SPAN = math.log(1e6)
"""Range of the logarithms of energies in these histograms."""
PLACES = 8
"""Where an edge may lie, for each bin."""


class LowHits(nn.Module):
    """Bins of the energies of small hits, with edges where spectra of layers and rings differ.

    A bin has one spectrum for all of them, so that a step within it would be too high in some and too low in others.

    Args:
        bins: number of bins, a multiple of four.
        below: energy where the last bin ends [MeV].
        n_r: rings; each has numbers for the chances of its bins.

    Raises:
        CalomanError: if the number is no such multiple, or the energy is not positive.
    """

    knots: Tensor

    def __init__(self, bins: int, below: float, n_r: int) -> None:
        super().__init__()
        if bins < GROUP or bins % GROUP or below <= 0:
            raise CalomanError(f"bins = {bins} must be a positive multiple of {GROUP}, and below = {below} be positive")
        self.bins, self.below = bins, below
        self.rings = nn.Parameter(torch.zeros(bins, n_r))
        self.register_buffer("knots", torch.linspace(0, below, bins * PIECES + 1))

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fits the edges to batches of energies (n, L, A, R) [MeV]; zeros are no hits."""
        width = CELLS // JOINED
        total, kinds = torch.zeros(CELLS, dtype=torch.float64), torch.zeros(1, width, dtype=torch.float64)
        least = torch.tensor(self.below)
        for batch in batches:
            hits = batch.transpose(1, 2).flatten(2)  # a kind for each ring of each layer
            kind = torch.arange(hits.shape[2], device=hits.device).expand_as(hits)
            is_low = (hits > 0) & (hits < self.below)
            hits, kind = hits[is_low], kind[is_low]
            cell = (1 + (hits / self.below).log() / SPAN).mul(CELLS).long().clamp(0, CELLS - 1)
            total += torch.bincount(cell, minlength=CELLS)
            size = width * batch.shape[1] * batch.shape[3]
            kinds = kinds + torch.bincount(kind * width + cell // JOINED, minlength=size).view(-1, width)
            least = torch.minimum(least, hits.min()) if len(hits) else least
        self.knots.copy_(_knots(total, kinds, self.bins) * self.below)
        self.knots[0] = torch.minimum(least, 0.999 * self.knots[1])

    def forward(self, ring: Tensor) -> Tensor:
        """Numbers of the bins of some hits in rings (M,), shape (bins, M)."""
        return self.rings.index_select(1, ring)

    def sizes(self, raw: Tensor, above: HitSizes, log_unit: Tensor) -> "BinnedSizes":
        """The distribution from a number for each bin (bins, *) and one of sizes in a unit, exp(log_unit) [MeV]."""
        edges = self.knots[GROUP * PIECES :: GROUP * PIECES].log().view(-1, *[1] * (raw.dim() - 1)) - log_unit
        score, _ = above.score(edges)
        below = F.pad(upper_tail(-score), (0, 0) * (raw.dim() - 1) + (1, 0)).diff(dim=0)
        bins = raw + ((below + LEAST) / GROUP).log().repeat_interleave(GROUP, dim=0)
        numbers = torch.cat([bins, (upper_tail(score[-1:]) + LEAST).log()])
        return BinnedSizes(above, numbers.log_softmax(0), score[-1], log_unit, self.knots)


def _knots(total: Tensor, kinds: Tensor, bins: int) -> Tensor:
    """Edges of the pieces of bins over the last one, from all hits in cells (CELLS,) and those of each kind (K, *)."""
    edges = (SPAN * (torch.arange(CELLS + 1, dtype=torch.float64) / CELLS - 1)).exp()
    first = int((total > 0).double().argmax())
    # a thousandth of them evenly spread, so that no piece is empty
    total[first:] += (1e-3 * total.sum() + 1) / (CELLS - first)
    shares = F.pad(total.cumsum(0), (1, 0)) / total.sum()

    def places(wanted: Tensor) -> Tensor:
        cell = (torch.searchsorted(shares, wanted) - 1).clamp(first, CELLS - 1)
        return cell + (wanted - shares[cell]) / (shares[cell + 1] - shares[cell])

    grid = torch.linspace(0, 1, bins * PLACES + 1, dtype=torch.float64)
    columns = _between(F.pad(kinds.cumsum(1), (1, 0)), places(grid) / JOINED).diff()
    ends = grid[informative_bounds(columns, bins)]
    inside = torch.arange(PIECES, dtype=torch.float64) / PIECES
    return _between(edges, places(torch.cat([(ends[:-1, None] + ends.diff()[:, None] * inside).flatten(), ends[-1:]])))


def _between(values: Tensor, places: Tensor) -> Tensor:
    """Values (..., C) at places (M,) between 0 and C - 1, on straight lines."""
    index = places.long().clamp(max=values.shape[-1] - 2)
    return values[..., index].lerp(values[..., index + 1], places - index)


def informative_bounds(counts: Tensor, parts: int) -> list[int]:
    """Divides C columns of counts (K, C) into parts that say most of the row.

    Columns of a part are joined. The loss of mutual information of row and column is the least of all divisions.

    Returns:
        First column of each part, and C.
    """
    sums, columns = F.pad(counts.cumsum(1), (1, 0)), torch.arange(counts.shape[1] + 1)
    gains = []
    for start in columns:
        joined = (sums - sums[:, start : start + 1]).clamp(min=0)
        gain = torch.special.xlogy(joined, joined).sum(0) - torch.special.xlogy(joined.sum(0), joined.sum(0))
        gains.append(torch.where(columns > start, gain, -math.inf))
    gain, chosen = torch.stack(gains), []
    best = gain[0]
    for _ in range(parts - 1):
        best, before = (best.unsqueeze(1) + gain).max(0)
        chosen.append(before)
    bounds = [counts.shape[1]]
    for before in reversed(chosen):
        bounds.insert(0, int(before[bounds[0]]))
    return [0, *bounds]


@dataclass(frozen=True)
class BinnedSizes:
    """The distribution of the logarithm of the size of a hit: bins of energy, and the tail of another one beyond them.

    Args:
        above: the distribution whose tail it is.
        log_masses: logarithms of the chances of the bins and of the tail, shape (bins + 1, *).
        end: normal score of the last edge in the distribution `above`, shape (*).
        log_unit: logarithm of the unit of sizes [MeV], shape (*).
        knots: edges of the pieces of the bins [MeV], shape (bins * PIECES + 1,).
    """

    above: HitSizes
    log_masses: Tensor
    end: Tensor
    log_unit: Tensor
    knots: Tensor

    @cached_property
    def _chances(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of each bin and of smaller hits than its end (bins, *); of the tail, also in the distribution `above` (*)."""
        masses = self.log_masses.exp().clamp(min=1e-30)
        return masses[:-1], masses[:-1].cumsum(0), masses[-1], upper_tail(self.end)

    def log_prob(self, log_size: Tensor) -> Tensor:
        """Log-density of the logarithm of a size."""
        log_energy = log_size + self.log_unit
        piece = self._piece(torch.searchsorted(self.knots, log_energy.exp().contiguous()) - 1)
        log_mass = self.log_masses.gather(0, (piece // PIECES).unsqueeze(0)).squeeze(0)
        low = log_mass + log_energy - (PIECES * self.knots.diff()[piece]).log()
        high = self.log_masses[-1] + self.above.log_prob(log_size) - torch.special.log_ndtr(-self.end)
        return torch.where(log_energy.exp() < self.knots[-1], low, high)

    def log_size(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """The logarithm of a size from its normal score, and its derivative by the score."""
        masses, ends, tail, own_tail = self._chances
        rest, density = upper_tail(score), (-0.5 * score.square() - HALF_LOG_2PI).exp()
        bins = (1 - rest >= ends).sum(0, keepdim=True).clamp(max=len(ends) - 1)
        mass, end = masses.gather(0, bins).squeeze(0), ends.gather(0, bins).squeeze(0)
        place = PIECES * (bins.squeeze(0) + ((1 - rest - end) / mass + 1).clamp(0, 1))
        piece = self._piece(place.long())
        width = self.knots.diff()[piece]
        energy = self.knots[piece] + (place - piece) * width
        part = own_tail / tail
        inner = -torch.special.ndtri((rest * part).clamp(1e-9, 1 - 1e-6))
        high, slope = self.above.log_size(inner)
        slope = slope * (0.5 * (inner.square() - score.square())).exp() * part
        is_high = rest < tail
        log_size = torch.where(is_high, high, energy.log() - self.log_unit)
        return log_size, torch.where(is_high, slope, density * PIECES * width / (mass * energy))

    def _piece(self, index: Tensor) -> Tensor:
        return index.clamp(0, len(self.knots) - 2)
