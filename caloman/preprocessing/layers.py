"""Sums and broadcasts over the layers of a geometry, and the coordinates of the layer energies."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.showers.geometry import Geometry

KNOTS = 17
"""Incident energies at which the response is measured."""
FEWEST = 100
"""Showers behind each of these measurements, where there are as many."""
MARGIN = 1.5
"""Distance of the limit to the median response, over that of the largest response."""
EDGE = 1e-3
"""Part of the range below the limit that stands for all showers beyond."""


class LayerMap(nn.Module):
    """Adds voxels up to layers and broadcasts layers to voxels.

    Args:
        geometry: the voxel mesh with V voxels in L layers.
    """

    voxel_layer: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.sizes = geometry.layer_sizes
        self.register_buffer("voxel_layer", torch.from_numpy(geometry.voxel_layer), persistent=False)

    def sum(self, voxels: Tensor) -> Tensor:
        """Sums (N, V) over each layer, shape (N, L)."""
        if len(set(self.sizes)) == 1:
            return voxels.unflatten(1, (len(self.sizes), -1)).sum(dim=2)
        return torch.cat([layer.sum(dim=1, keepdim=True) for layer in voxels.split(self.sizes, dim=1)], dim=1)

    def is_largest(self, voxels: Tensor) -> Tensor:
        """True for one voxel of each layer, the largest one, shape (N, V)."""
        layers = voxels.split(self.sizes, dim=1)
        masks = [layer.argmax(1, keepdim=True) == torch.arange(layer.shape[1], device=layer.device) for layer in layers]
        return torch.cat(masks, dim=1)

    def broadcast(self, layers: Tensor) -> Tensor:
        """Repeats per-layer values (N, L) for each voxel, shape (N, V)."""
        return layers.index_select(1, self.voxel_layer)

    def scaled(self, voxels: Tensor, layers: Tensor) -> Tensor:
        """Voxels (N, V) scaled to the sums (N, L) in each layer; a layer of zeros stays."""
        return voxels * self.broadcast(layers * reciprocal(self.sum(voxels)))


def reciprocal(values: Tensor) -> Tensor:
    """1 / values, and 0 where there is nothing to divide by."""
    return torch.where(values > 0, 1 / values.clamp(min=1e-30), 0.0)


class ResponseCoordinate(nn.Module):
    """E_tot as an unbounded coordinate of zero mean at each incident energy.

    It is the logit of E_tot over a limit somewhat above all training showers. With unit variance at each energy, too, a
    response that is sharp at high energies fills as much of the box of a spline as a broad one. Otherwise the spline
    has to reach from the last shower to the corner of its box within the tail of its noise, which makes energy out of
    nothing. The response of hadrons has no such core: a few leak, or stop in front. Their flow has a better likelihood
    without unit variance.

    Limit, mean and width are linear in log E_inc between equidistant knots. At a knot they are those of the showers
    within one step, or of the nearest ones where these are few. The limit exceeds their median response by `MARGIN`
    times the excess of their largest. Showers beyond the limit are allowed, and count as showers at its edge.

    Args:
        alpha: margin that keeps logits finite.
        unit_width: whether to give the coordinate unit variance at each incident energy.
    """

    start: Tensor
    step: Tensor
    limits: Tensor
    means: Tensor
    stds: Tensor

    def __init__(self, alpha: float, unit_width: bool = True) -> None:
        super().__init__()
        self.alpha = alpha
        self.unit_width = unit_width
        self.register_buffer("start", torch.zeros(()))
        self.register_buffer("step", torch.ones(()))
        self.register_buffer("limits", torch.full((KNOTS,), 3.0))
        self.register_buffer("means", torch.zeros(KNOTS))
        self.register_buffer("stds", torch.ones(KNOTS))

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fits the statistics to layer energies (n, L) and incident energies (n, 1) [MeV] in batches."""
        pairs = [(layers.sum(1, keepdim=True), incident) for layers, incident in batches]
        totals, incident = (torch.cat(column) for column in zip(*pairs, strict=True))
        low, high = incident.log().aminmax()
        self.start.copy_(low)
        self.step.copy_(((high - low) / (KNOTS - 1)).clamp(min=1e-3))
        distances = self._distances(incident)
        reach = distances.kthvalue(min(FEWEST, len(distances)), dim=0).values.clamp(min=1)
        responses = totals / incident
        for knot, near in enumerate((distances <= reach).T):
            median = responses[near].median()
            # the room above a constant response, or above none, is small but not zero
            excess = (responses[near].max() - median).clamp(min=2 * EDGE * (10 * median + EDGE))
            self.limits[knot] = median + MARGIN * excess
        logits = self._logits(totals, incident)
        for knot, near in enumerate((distances <= reach).T):
            self.means[knot] = logits[near].mean()
            if self.unit_width:
                self.stds[knot] = logits[near].std(correction=0).clamp(min=EDGE)

    def forward(self, totals: Tensor, incident_energies: Tensor) -> Tensor:
        """Maps E_tot (N, 1) at incident energies (N, 1) [MeV] to coordinates (N, 1)."""
        logits = self._logits(totals, incident_energies)
        return (logits - self._at(self.means, incident_energies)) / self._at(self.stds, incident_energies)

    def log_slope(self, coordinates: Tensor, incident_energies: Tensor) -> Tensor:
        """Logarithm of the derivative of the coordinates (N, 1) by E_tot [1/MeV], shape (N, 1)."""
        stds = self._at(self.stds, incident_energies)
        logits = self._at(self.means, incident_energies) + stds * coordinates
        return _log_slopes(logits, self.alpha) - stds.log() - self._available(incident_energies).log()

    def inverse(self, coordinates: Tensor, incident_energies: Tensor) -> Tensor:
        """Maps coordinates (N, 1) at incident energies (N, 1) [MeV] to E_tot (N, 1) [MeV], at most the limit."""
        logits = self._at(self.means, incident_energies) + self._at(self.stds, incident_energies) * coordinates
        return self._available(incident_energies) * _fractions(logits, self.alpha)

    def _logits(self, totals: Tensor, incident_energies: Tensor) -> Tensor:
        available = self._available(incident_energies)
        totals = torch.minimum(totals, (1 - EDGE) * available)
        return _logits(totals, available - totals, self.alpha)

    def _available(self, incident_energies: Tensor) -> Tensor:
        """The limit of E_tot, shape (N, 1) [MeV]."""
        return self._at(self.limits, incident_energies) * incident_energies

    def _at(self, statistics: Tensor, incident_energies: Tensor) -> Tensor:
        """Interpolates statistics (K,) to incident energies (N, 1) [MeV], shape (N, 1)."""
        return ((1 - self._distances(incident_energies)).clamp(min=0) * statistics).sum(1, keepdim=True)

    def _distances(self, incident_energies: Tensor) -> Tensor:
        """Distances of incident energies (N, 1) [MeV] to all knots in steps, shape (N, K)."""
        positions = ((incident_energies.log() - self.start) / self.step).clamp(0, KNOTS - 1)
        return (positions - torch.arange(KNOTS, device=positions.device)).abs()


def _logits(part: Tensor, complement: Tensor, alpha: float) -> Tensor:
    """logit(alpha + (1 - 2 alpha) u) of u = part / (part + complement), and of 0 where both are zero."""
    whole = part + complement
    scale = torch.where(whole > 0, (1 - 2 * alpha) / whole, 0.0)
    return (alpha + scale * part).log() - (alpha + scale * complement).log()


def _log_slopes(logits: Tensor, alpha: float) -> Tensor:
    """Logarithm of d logit / du."""
    return math.log(1 - 2 * alpha) - F.logsigmoid(logits) - F.logsigmoid(-logits)


def _fractions(logits: Tensor, alpha: float) -> Tensor:
    """The u of logits."""
    return ((logits.sigmoid() - alpha) / (1 - 2 * alpha)).clamp(0, 1)


class LayerCoordinates(nn.Module, ABC):
    """Layer energies [MeV] as unbounded coordinates, of which the first stands for E_tot.

    Args:
        alpha: margin that keeps logits finite.
        unit_width: of the coordinate of E_tot at each incident energy, see `ResponseCoordinate`.
    """

    extra = 0
    """Number of coordinates beyond one for each layer."""
    takes_zeros = True
    """Whether a layer may be empty."""

    def __init__(self, alpha: float = 1e-6, unit_width: bool = True) -> None:
        super().__init__()
        self.alpha = alpha
        self.total = ResponseCoordinate(alpha, unit_width)

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fits the coordinate of E_tot to layer energies (n, L) and incident energies (n, 1) [MeV] in batches."""
        self.total.fit(batches)

    @abstractmethod
    def forward(self, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        """Maps layer energies (N, L) and incident energies (N, 1) to coordinates (N, L + extra)."""

    @abstractmethod
    def log_det(self, coordinates: Tensor, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        """Log-density of log(layer energies) over that of the coordinates, shape (N,); no energy may be zero."""

    @abstractmethod
    def inverse(self, coordinates: Tensor, incident_energies: Tensor) -> Tensor:
        """Maps coordinates (N, L + extra) and incident energies (N, 1) back to layer energies (N, L)."""


class LayerFractions(LayerCoordinates):
    """The logits of CaloFlow's fractions u, behind the coordinate of E_tot.

    u_k = E_{k-1} / (E_{k-1} + ... + E_{L-1}) for k = 1 ... L - 1, then logit(alpha + (1 - 2 alpha) u). Both u and 1 - u
    are built from sums, so no digits are lost near 0 and 1.

    References:
        CaloFlow (arXiv:2106.05285); Cresswell et al., CaloMan (arXiv:2211.15380).
    """

    def forward(self, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        rest = _rest(layer_energies)
        logits = _logits(layer_energies[:, :-1], rest[:, 1:], self.alpha)
        return torch.cat([self.total(rest[:, :1], incident_energies), logits], dim=1)

    def log_det(self, coordinates: Tensor, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        slopes = _log_slopes(coordinates[:, 1:], self.alpha) - _rest(layer_energies)[:, :-1].log()
        total = self.total.log_slope(coordinates[:, :1], incident_energies).squeeze(1)
        return total + slopes.sum(1) + layer_energies.log().sum(1)

    def inverse(self, coordinates: Tensor, incident_energies: Tensor) -> Tensor:
        logits = coordinates[:, 1:]
        one = torch.ones_like(coordinates[:, :1])
        taken = torch.cat([_fractions(logits, self.alpha), one], dim=1)
        remaining = torch.cat([one, _fractions(-logits, self.alpha)], dim=1).cumprod(1)
        return self.total.inverse(coordinates[:, :1], incident_energies) * remaining * taken


def _rest(layer_energies: Tensor) -> Tensor:
    """E_k + ... + E_{L-1} for each k, shape (N, L)."""
    return layer_energies.flip(1).cumsum(1).flip(1)


class LayerLogarithms(LayerCoordinates):
    """The logarithm of each energy, and E_tot beside them, for a sum of many generated energies would be blurred.

    An edge, such as the energy that a single particle leaves in a layer, is at the same place in every shower, which
    it is not in fractions. Only the shares of E_tot are taken from the logarithms, so these have a random common factor
    exp(blur n) with n normal: without it, L + 1 coordinates would lie on a surface of L dimensions. That is an
    augmented dimension, and `log_det` makes the density a lower bound,

        log p(E) >= E_n[log p(coordinates) + log_det].

    In evaluation mode n is zero, so that coordinates are a function of the energies.

    Args:
        alpha: margin that keeps the logit finite.
        blur: standard deviation of the logarithm of the common factor.

    References:
        Huang et al., Augmented Normalizing Flows (arXiv:2002.07101).
    """

    extra = 1
    takes_zeros = False

    def __init__(self, alpha: float = 1e-6, blur: float = 0.03) -> None:
        super().__init__(alpha)
        self.blur = blur

    def forward(self, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        totals = layer_energies.sum(1, keepdim=True)
        noise = torch.randn_like(totals) if self.training else torch.zeros_like(totals)
        logarithms = layer_energies.log() + self.blur * noise
        return torch.cat([self.total(totals, incident_energies), logarithms], dim=1)

    def log_det(self, coordinates: Tensor, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        noise = (coordinates[:, 1:] - layer_energies.log()).mean(1) / self.blur
        minus_log_q = 0.5 * (noise.square() + math.log(2 * math.pi)) + math.log(self.blur)
        total = self.total.log_slope(coordinates[:, :1], incident_energies).squeeze(1)
        return total + layer_energies.sum(1).log() + minus_log_q

    def inverse(self, coordinates: Tensor, incident_energies: Tensor) -> Tensor:
        totals = self.total.inverse(coordinates[:, :1], incident_energies)
        return totals * coordinates[:, 1:].softmax(dim=1)
