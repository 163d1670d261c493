"""Sums and broadcasts over the layers of a geometry, and the coordinates of the layer energies."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from caloman.nn.precision import at_least_float32, is_traced
from caloman.preprocessing.limits import ResponseCoordinate, ShareLimits, from_logits, log_slopes, to_logits
from caloman.showers.geometry import Geometry


class LayerMap(nn.Module):
    """Adds voxels up to layers and broadcasts layers to voxels.

    In a recorded graph both are products with a matrix: programs that run graphs are slow to add in pieces and to pick
    columns.

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
        if is_traced():
            numbers = at_least_float32(voxels)  # of booleans, too
            return numbers @ self._members(numbers)
        return torch.cat([layer.sum(dim=1, keepdim=True) for layer in voxels.split(self.sizes, dim=1)], dim=1)

    def is_largest(self, voxels: Tensor) -> Tensor:
        """True for one voxel of each layer, the largest one, shape (N, V)."""
        if len(set(self.sizes)) == 1:
            layer = voxels.unflatten(1, (len(self.sizes), -1))
            place = torch.arange(self.sizes[0], device=voxels.device)
            return (layer.argmax(2, keepdim=True) == place).flatten(1)
        layers = voxels.split(self.sizes, dim=1)
        masks = [layer.argmax(1, keepdim=True) == torch.arange(layer.shape[1], device=layer.device) for layer in layers]
        return torch.cat(masks, dim=1)

    def broadcast(self, layers: Tensor) -> Tensor:
        """Repeats per-layer values (N, L) for each voxel, shape (N, V)."""
        if len(set(self.sizes)) == 1:
            return layers.unsqueeze(2).expand(-1, -1, self.sizes[0]).flatten(1)
        if is_traced():
            numbers = at_least_float32(layers)  # of booleans, too
            return (numbers @ self._members(numbers).T).to(layers.dtype)
        return layers.index_select(1, self.voxel_layer)

    def _members(self, like: Tensor) -> Tensor:
        """1 for the layer of each voxel, (V, L): a constant of a graph, which is too large to keep for any mesh."""
        return torch.eye(len(self.sizes), dtype=like.dtype, device=like.device)[self.voxel_layer]

    def scaled(self, voxels: Tensor, layers: Tensor) -> Tensor:
        """Voxels (N, V) scaled to the sums (N, L) in each layer; a layer of zeros stays."""
        return voxels * self.broadcast(layers / self.sum(voxels).clamp(min=1e-30))


def reciprocal(values: Tensor) -> Tensor:
    """1 / values, and 0 where there is nothing to divide by."""
    return torch.where(values > 0, 1 / values.clamp(min=1e-30), 0.0)


class LayerCoordinates(nn.Module, ABC):
    """Layer energies [MeV] as unbounded coordinates, of which the first stands for E_tot.

    The inverse keeps shares of E_tot within `ShareLimits`. The density that belongs to `log_det` is that before this
    step: it is exact for showers below the edges of these limits, and so are round trips.

    Args:
        n_layers: number of layers L.
        alpha: margin that keeps logits finite.
        unit_width: of the coordinate of E_tot at each incident energy, see `ResponseCoordinate`.
    """

    extra = 0
    """Number of coordinates beyond one for each layer."""
    takes_zeros = True
    """Whether a layer may be empty."""

    def __init__(self, n_layers: int, alpha: float = 1e-6, unit_width: bool = True) -> None:
        super().__init__()
        self.alpha = alpha
        self.total = ResponseCoordinate(alpha, unit_width)
        self.shares = ShareLimits(n_layers)

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fits what belongs to E_tot and its shares to layers (n, L) and incident energies (n, 1) [MeV] in batches."""
        layers, incident = (torch.cat(column) for column in zip(*batches, strict=True))
        totals = layers.sum(1, keepdim=True)
        self.total.fit(totals, incident)
        self.shares.fit(layers * reciprocal(totals), incident)

    @abstractmethod
    def forward(self, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        """Maps layer energies (N, L) and incident energies (N, 1) to coordinates (N, L + extra)."""

    @abstractmethod
    def log_det(self, coordinates: Tensor, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        """Log-density of log(layer energies) over that of the coordinates, shape (N,); no energy may be zero."""

    @abstractmethod
    def inverse(self, coordinates: Tensor, incident_energies: Tensor) -> Tensor:
        """Maps coordinates (N, L + extra) and incident energies (N, 1) back to layer energies (N, L)."""

    def _energies(self, coordinates: Tensor, shares: Tensor, incident_energies: Tensor) -> Tensor:
        """Layer energies (N, L) of shares of E_tot (N, L) within their limits."""
        return self.total.inverse(coordinates[:, :1], incident_energies) * self.shares(shares, incident_energies)


class LayerFractions(LayerCoordinates):
    """The logits of CaloFlow's fractions u, behind the coordinate of E_tot.

    u_k = E_{k-1} / (E_{k-1} + ... + E_{L-1}) for k = 1 ... L - 1, then logit(alpha + (1 - 2 alpha) u). Both u and 1 - u
    are built from sums, so no digits are lost near 0 and 1.

    References:
        CaloFlow (arXiv:2106.05285); Cresswell et al., CaloMan (arXiv:2211.15380).
    """

    def forward(self, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        rest = _rest(layer_energies)
        parts = to_logits(layer_energies[:, :-1], rest[:, 1:], self.alpha)
        return torch.cat([self.total(rest[:, :1], incident_energies), parts], dim=1)

    def log_det(self, coordinates: Tensor, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        slopes = log_slopes(coordinates[:, 1:], self.alpha) - _rest(layer_energies)[:, :-1].log()
        total = self.total.log_slope(coordinates[:, :1], incident_energies).squeeze(1)
        return total + slopes.sum(1) + layer_energies.log().sum(1)

    def inverse(self, coordinates: Tensor, incident_energies: Tensor) -> Tensor:
        one = torch.ones_like(coordinates[:, :1])
        taken = torch.cat([from_logits(coordinates[:, 1:], self.alpha), one], dim=1)
        remaining = torch.cat([one, from_logits(-coordinates[:, 1:], self.alpha)], dim=1).cumprod(1)
        return self._energies(coordinates, remaining * taken, incident_energies)


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
        n_layers: number of layers L.
        alpha: margin that keeps the logit finite.
        blur: standard deviation of the logarithm of the common factor.

    References:
        Huang et al., Augmented Normalizing Flows (arXiv:2002.07101).
    """

    extra = 1
    takes_zeros = False

    def __init__(self, n_layers: int, alpha: float = 1e-6, blur: float = 0.03) -> None:
        super().__init__(n_layers, alpha)
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
        return self._energies(coordinates, coordinates[:, 1:].softmax(dim=1), incident_energies)
