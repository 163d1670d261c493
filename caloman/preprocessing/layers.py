"""Sums and broadcasts over the layers of a geometry, and the coordinates of the layer energies."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.showers.geometry import Geometry


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
    return torch.where(values > 0, 1 / values.clamp(min=1e-30), torch.zeros_like(values))


class LayerCoordinates(nn.Module, ABC):
    """Layer energies [MeV] as unbounded coordinates, of which the first is the logit of E_tot / (ratio E_inc).

    Args:
        max_deposit_ratio: upper bound of E_tot / E_inc.
        alpha: margin that keeps logits finite.
    """

    extra = 0
    """Number of coordinates beyond one for each layer."""
    takes_zeros = True
    """Whether a layer may be empty."""

    def __init__(self, max_deposit_ratio: float, alpha: float = 1e-6) -> None:
        super().__init__()
        self.max_deposit_ratio = max_deposit_ratio
        self.alpha = alpha

    def check(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Refuses layer energies, or voxels, (n, L) and incident energies (n, 1) that leave no room below the bound.

        Raises:
            CalomanError: if a shower deposits more than `max_deposit_ratio` allows.
        """
        largest = max(float((deposits.sum(1, keepdim=True) / incident).max()) for deposits, incident in batches)
        if largest >= self.max_deposit_ratio:
            raise CalomanError(
                f"max_deposit_ratio = {self.max_deposit_ratio} of the energy model is not above the largest "
                f"E_tot / E_inc of the training data, {largest:.3f}; raise it"
            )

    @abstractmethod
    def forward(self, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        """Maps layer energies (N, L) and incident energies (N, 1) to coordinates (N, L + extra)."""

    @abstractmethod
    def log_det(self, coordinates: Tensor, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        """Log-density of log(layer energies) over that of the coordinates, shape (N,); no energy may be zero."""

    @abstractmethod
    def inverse(self, coordinates: Tensor, incident_energies: Tensor) -> Tensor:
        """Maps coordinates (N, L + extra) and incident energies (N, 1) back to layer energies (N, L)."""

    def _available(self, incident_energies: Tensor) -> Tensor:
        return self.max_deposit_ratio * incident_energies

    def _logits(self, part: Tensor, complement: Tensor) -> Tensor:
        """logit(alpha + (1 - 2 alpha) u) of u = part / (part + complement), and of 0 where both are zero."""
        whole = part + complement
        scale = torch.where(whole > 0, (1 - 2 * self.alpha) / whole, torch.zeros_like(whole))
        return (self.alpha + scale * part).log() - (self.alpha + scale * complement).log()

    def _log_slopes(self, logits: Tensor) -> Tensor:
        """Logarithm of d logit / du."""
        return math.log(1 - 2 * self.alpha) - F.logsigmoid(logits) - F.logsigmoid(-logits)

    def _fractions(self, logits: Tensor) -> Tensor:
        """The u of logits."""
        return ((logits.sigmoid() - self.alpha) / (1 - 2 * self.alpha)).clamp(0, 1)


class LayerFractions(LayerCoordinates):
    """The logits of CaloFlow's fractions u.

    u_0 = E_tot / (ratio E_inc) and u_k = E_{k-1} / (E_{k-1} + ... + E_{L-1}) for k = 1 ... L - 1, then
    logit(alpha + (1 - 2 alpha) u). Both u and 1 - u are built from sums, so no digits are lost near 0 and 1.

    References:
        CaloFlow (arXiv:2106.05285); Cresswell et al., CaloMan (arXiv:2211.15380).
    """

    def forward(self, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        """As in the base class; an empty shower has u = 0."""
        rest = layer_energies.flip(1).cumsum(1).flip(1)  # E_k + ... + E_{L-1}
        part = torch.cat([rest[:, :1], layer_energies[:, :-1]], dim=1)
        complement = torch.cat([self._available(incident_energies) - rest[:, :1], rest[:, 1:]], dim=1)
        return self._logits(part, complement.clamp(min=0))

    def log_det(self, coordinates: Tensor, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        rest = layer_energies.flip(1).cumsum(1).flip(1)
        whole = torch.cat([self._available(incident_energies), rest[:, :-1]], dim=1)
        return (self._log_slopes(coordinates) + layer_energies.log() - whole.log()).sum(1)

    def inverse(self, coordinates: Tensor, incident_energies: Tensor) -> Tensor:
        u, complement = self._fractions(coordinates), self._fractions(-coordinates)
        remaining = torch.cat([torch.ones_like(u[:, :1]), complement[:, 1:]], dim=1).cumprod(1)
        taken = torch.cat([u[:, 1:], torch.ones_like(u[:, :1])], dim=1)
        return self._available(incident_energies) * u[:, :1] * remaining * taken


class LayerLogarithms(LayerCoordinates):
    """The logarithm of each energy, and E_tot beside them, for a sum of many generated energies would be blurred.

    An edge, such as the energy that a single particle leaves in a layer, is at the same place in every shower, which
    it is not in fractions. Only the shares of E_tot are taken from the logarithms, so these have a random common factor
    exp(blur n) with n normal: without it, L + 1 coordinates would lie on a surface of L dimensions. That is an
    augmented dimension, and `log_det` makes the density a lower bound,

        log p(E) >= E_n[log p(coordinates) + log_det].

    In evaluation mode n is zero, so that coordinates are a function of the energies.

    Args:
        max_deposit_ratio: upper bound of E_tot / E_inc.
        alpha: margin that keeps the logit finite.
        blur: standard deviation of the logarithm of the common factor.

    References:
        Huang et al., Augmented Normalizing Flows (arXiv:2002.07101).
    """

    extra = 1
    takes_zeros = False

    def __init__(self, max_deposit_ratio: float, alpha: float = 1e-6, blur: float = 0.03) -> None:
        super().__init__(max_deposit_ratio, alpha)
        self.blur = blur

    def forward(self, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        total = layer_energies.sum(1, keepdim=True)
        logit = self._logits(total, (self._available(incident_energies) - total).clamp(min=0))
        noise = torch.randn_like(total) if self.training else torch.zeros_like(total)
        return torch.cat([logit, layer_energies.log() + self.blur * noise], dim=1)

    def log_det(self, coordinates: Tensor, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        noise = (coordinates[:, 1:] - layer_energies.log()).mean(1) / self.blur
        minus_log_q = 0.5 * (noise.square() + math.log(2 * math.pi)) + math.log(self.blur)
        share = layer_energies.sum(1) / self._available(incident_energies).squeeze(1)
        return self._log_slopes(coordinates[:, 0]) + share.log() + minus_log_q

    def inverse(self, coordinates: Tensor, incident_energies: Tensor) -> Tensor:
        total = self._available(incident_energies) * self._fractions(coordinates[:, :1])
        return total * coordinates[:, 1:].softmax(dim=1)
