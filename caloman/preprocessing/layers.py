"""Sums and broadcasts over the layers of a geometry, and the coordinates of the layer energies."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.geometry import Geometry


class LayerMap(nn.Module):
    """Adds voxels up to layers and spreads layers over voxels.

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

    def spread(self, layers: Tensor) -> Tensor:
        """Repeats per-layer values (N, L) for each voxel, shape (N, V)."""
        return layers.index_select(1, self.voxel_layer)

    def scaled(self, voxels: Tensor, layers: Tensor) -> Tensor:
        """Voxels (N, V) scaled to the sums (N, L) in each layer; a layer of zeros stays."""
        return voxels * self.spread(layers * reciprocal(self.sum(voxels)))


def reciprocal(values: Tensor) -> Tensor:
    """1 / values, and 0 where there is nothing to divide by."""
    return torch.where(values > 0, 1 / values.clamp(min=1e-30), torch.zeros_like(values))


class LayerFractions(nn.Module):
    """Layer energies [MeV] as unbounded coordinates: the logits of CaloFlow's fractions u.

    u_0 = E_tot / (ratio E_inc) and u_k = E_{k-1} / (E_{k-1} + ... + E_{L-1}) for k = 1 ... L - 1, then
    logit(alpha + (1 - 2 alpha) u). Both u and 1 - u are built from sums, so no digits are lost near 0 and 1.

    Args:
        max_deposit_ratio: upper bound of E_tot / E_inc.
        alpha: margin that keeps the logit finite.

    References:
        CaloFlow (arXiv:2106.05285); Cresswell et al., CaloMan (arXiv:2211.15380).
    """

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

    def forward(self, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        """Maps layer energies (N, L) and incident energies (N, 1) to logits (N, L); an empty shower has u = 0."""
        rest = layer_energies.flip(1).cumsum(1).flip(1)  # E_k + ... + E_{L-1}
        available = self.max_deposit_ratio * incident_energies
        part = torch.cat([rest[:, :1], layer_energies[:, :-1]], dim=1)
        complement = torch.cat([(available - rest[:, :1]).clamp(min=0), rest[:, 1:]], dim=1)
        total = part + complement
        scale = torch.where(total > 0, (1 - 2 * self.alpha) / total, torch.zeros_like(total))
        return (self.alpha + scale * part).log() - (self.alpha + scale * complement).log()

    def log_det(self, logits: Tensor, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        """Log-determinant of d logits / d log(layer energies), shape (N,); no energy may be zero."""
        rest = layer_energies.flip(1).cumsum(1).flip(1)
        of_logits = math.log(1 - 2 * self.alpha) - F.logsigmoid(logits) - F.logsigmoid(-logits)
        available = (self.max_deposit_ratio * incident_energies).log().squeeze(1)
        return (of_logits + layer_energies.log()).sum(1) - rest[:, :-1].log().sum(1) - available

    def inverse(self, logits: Tensor, incident_energies: Tensor) -> Tensor:
        """Maps logits (N, L) and incident energies (N, 1) back to layer energies (N, L)."""
        u = ((logits.sigmoid() - self.alpha) / (1 - 2 * self.alpha)).clamp(0, 1)
        complement = (((-logits).sigmoid() - self.alpha) / (1 - 2 * self.alpha)).clamp(0, 1)
        remaining = torch.cat([torch.ones_like(u[:, :1]), complement[:, 1:]], dim=1).cumprod(1)
        taken = torch.cat([u[:, 1:], torch.ones_like(u[:, :1])], dim=1)
        return self.max_deposit_ratio * incident_energies * u[:, :1] * remaining * taken
