"""What training showers of an incident energy had: the coordinate of E_tot, and limits of the shares of the layers."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.nn.precision import full_precision

KNOTS = 17  # incident energies at which training showers are measured
FEWEST = 100  # showers behind each of these measurements, where there are as many
MARGIN = 1.5  # distance of the limit of E_tot to the median of the training showers, over that of their largest one
SHARE_EDGE, SHARE_MARGIN = 1.5, 3.0
"""Where squeezing of the share of a layer begins, and its limit: how far beyond the largest of the training showers, in
units of its distance to the tenth largest. An exponential tail gets there with 30 and 1000 times as many showers. In
three times as many Geant4 showers, shares reach 1.4 in layers with much energy, and 6 in thin ones."""
TENTH = 10
EDGE = 1e-3  # part of the range below the limit of E_tot that stands for all showers beyond


class Knots(nn.Module):
    """Statistics that are linear in log E_inc between equidistant knots.

    At a knot they are those of the showers within one step, or of the nearest ones where these are few. So no shower
    lies beyond largest values that are interpolated.
    """

    start: Tensor
    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("start", torch.zeros(()))
        self.register_buffer("step", torch.ones(()))

    def place(self, incident_energies: Tensor) -> Tensor:
        """Places the knots on incident energies (N, 1) [MeV], and tells which showers belong to each, shape (K, N)."""
        low, high = incident_energies.log().aminmax()
        self.start.copy_(low)
        self.step.copy_(((high - low) / (KNOTS - 1)).clamp(min=1e-3))
        distances = self._distances(incident_energies)
        reach = distances.kthvalue(min(FEWEST, len(distances)), dim=0).values.clamp(min=1)
        return (distances <= reach).T

    def at(self, statistics: Tensor, incident_energies: Tensor) -> Tensor:
        """Interpolates statistics (K, D), or (K,), to incident energies (N, 1) [MeV], shape (N, D), or (N, 1)."""
        weights = (1 - self._distances(incident_energies)).clamp(min=0)
        with full_precision(weights.device.type):
            return weights @ statistics.view(KNOTS, -1).to(weights.dtype)

    def _distances(self, incident_energies: Tensor) -> Tensor:
        """Distances of incident energies (N, 1) [MeV] to all knots in steps, shape (N, K)."""
        positions = ((incident_energies.log() - self.start) / self.step).clamp(0, KNOTS - 1)
        return (positions - torch.arange(KNOTS, device=positions.device)).abs()


class ResponseCoordinate(Knots):
    """E_tot as an unbounded coordinate of zero mean at each incident energy.

    It is the logit of E_tot over a limit somewhat above all training showers. With unit variance at each energy, too, a
    response that is sharp at high energies fills as much of the box of a spline as a broad one. Otherwise the spline
    has to reach from the last shower to the corner of its box within the tail of its noise, which makes energy out of
    nothing. The response of hadrons has no such core: a few leak, or stop in front. Their flow has a better likelihood
    without unit variance.

    The limit exceeds the median response by `MARGIN` times the excess of the largest. Showers beyond the limit are
    allowed, and count as showers at its edge.

    Args:
        alpha: margin that keeps logits finite.
        unit_width: whether to give the coordinate unit variance at each incident energy.
    """

    limits: Tensor
    means: Tensor
    stds: Tensor

    def __init__(self, alpha: float, unit_width: bool = True) -> None:
        super().__init__()
        self.alpha = alpha
        self.unit_width = unit_width
        self.register_buffer("limits", torch.full((KNOTS,), 3.0))
        self.register_buffer("means", torch.zeros(KNOTS))
        self.register_buffer("stds", torch.ones(KNOTS))

    def fit(self, totals: Tensor, incident_energies: Tensor) -> None:
        """Fits the statistics to E_tot (N, 1) at incident energies (N, 1) [MeV]."""
        members = self.place(incident_energies)
        responses = totals / incident_energies
        for knot, near in enumerate(members):
            median = responses[near].median()
            # the room above a constant response, or above none, is small but not zero
            excess = (responses[near].max() - median).clamp(min=2 * EDGE * (10 * median + EDGE))
            self.limits[knot] = median + MARGIN * excess
        logits = self._logits(totals, incident_energies)
        for knot, near in enumerate(members):
            self.means[knot] = logits[near].mean()
            if self.unit_width:
                self.stds[knot] = logits[near].std(correction=0).clamp(min=EDGE)

    def forward(self, totals: Tensor, incident_energies: Tensor) -> Tensor:
        """Maps E_tot (N, 1) at incident energies (N, 1) [MeV] to coordinates (N, 1)."""
        logits = self._logits(totals, incident_energies)
        return (logits - self.at(self.means, incident_energies)) / self.at(self.stds, incident_energies)

    def log_slope(self, coordinates: Tensor, incident_energies: Tensor) -> Tensor:
        """Logarithm of the derivative of the coordinates (N, 1) by E_tot [1/MeV], shape (N, 1)."""
        stds = self.at(self.stds, incident_energies)
        slopes = log_slopes(self.at(self.means, incident_energies) + stds * coordinates, self.alpha)
        return slopes - stds.log() - self._available(incident_energies).log()

    def inverse(self, coordinates: Tensor, incident_energies: Tensor) -> Tensor:
        """Maps coordinates (N, 1) at incident energies (N, 1) [MeV] to E_tot (N, 1) [MeV], at most the limit."""
        logits = self.at(self.means, incident_energies) + self.at(self.stds, incident_energies) * coordinates
        return self._available(incident_energies) * from_logits(logits, self.alpha)

    def _logits(self, totals: Tensor, incident_energies: Tensor) -> Tensor:
        available = self._available(incident_energies)
        totals = torch.minimum(totals, (1 - EDGE) * available)
        return to_logits(totals, available - totals, self.alpha)

    def _available(self, incident_energies: Tensor) -> Tensor:
        """The limit of E_tot, shape (N, 1) [MeV]."""
        return self.at(self.limits, incident_energies) * incident_energies


class ShareLimits(Knots):
    """Keeps the layers' shares of E_tot below limits above those of all training showers of this energy.

    The far tails of a flow are not learned: one generated shower in 30 000 had nearly all of its energy in a layer
    where Geant4 never leaves a tenth of it. A share up to its edge stays as it is, so every training shower does.
    Beyond, it is squeezed below its limit. What it loses goes to all layers in proportion to the room below their
    limits: shares add up to one, and each stays below its limit. This is a bijection of all shares onto those within
    the limits.

    Edge and limit lie beyond the largest share, at `SHARE_EDGE` and `SHARE_MARGIN`.

    Args:
        n_layers: L. Shares of layers are not limited before the fit.
    """

    edges: Tensor
    limits: Tensor

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.register_buffer("edges", torch.ones(KNOTS, n_layers))
        self.register_buffer("limits", torch.full((KNOTS, n_layers), 2.0))

    def fit(self, shares: Tensor, incident_energies: Tensor) -> None:
        """Fits the limits to shares (N, L) at incident energies (N, 1) [MeV]."""
        for knot, near in enumerate(self.place(incident_energies)):
            top = shares[near].topk(min(TENTH, int(near.sum())), dim=0).values
            tail = (top[0] - top[-1]).clamp(min=EDGE * EDGE)
            self.edges[knot] = top[0] + SHARE_EDGE * tail
            self.limits[knot] = top[0] + SHARE_MARGIN * tail

    def forward(self, shares: Tensor, incident_energies: Tensor) -> Tensor:
        """Shares (N, L) at incident energies (N, 1) [MeV], none beyond its limit."""
        edges, limits = self.at(self.edges, incident_energies), self.at(self.limits, incident_energies)
        excess, width = (shares - edges).clamp(min=0), limits - edges
        lost = excess - width * (excess / width).tanh()
        rooms = limits - (shares - lost)
        return shares - lost + lost.sum(1, keepdim=True) * rooms / rooms.sum(1, keepdim=True)


def to_logits(part: Tensor, complement: Tensor, alpha: float) -> Tensor:
    """logit(alpha + (1 - 2 alpha) u) of u = part / (part + complement), and of 0 where both are zero."""
    whole = part + complement
    scale = torch.where(whole > 0, (1 - 2 * alpha) / whole, 0.0)
    return (alpha + scale * part).log() - (alpha + scale * complement).log()


def log_slopes(logits: Tensor, alpha: float) -> Tensor:
    """Logarithm of d logit / du."""
    return math.log(1 - 2 * alpha) - F.logsigmoid(logits) - F.logsigmoid(-logits)


def from_logits(logits: Tensor, alpha: float) -> Tensor:
    """The u of logits."""
    return ((logits.sigmoid() - alpha) / (1 - 2 * alpha)).clamp(0, 1)
