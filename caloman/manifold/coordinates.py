"""Coordinates of a shower that are fixed by construction: hits and shares of energy in zones of each layer."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from caloman.manifold.zones import Zones

LEAST_SHARE = 1e-6
"""Of the energy of a layer, for a zone with hits."""


class Coarse(NamedTuple):
    """What the coordinates say of N showers with L layers of Z zones.

    Args:
        hits: number of voxels with energy, shape (N, L, Z).
        shares: parts of the energy of a layer, 0 in zones without hits, shape (N, L, Z).
    """

    hits: Tensor
    shares: Tensor


class CoarseCoordinates(nn.Module):
    """Hits and shares of energy in the zones of each layer, as unbounded numbers.

    The hits n of a zone with K voxels are dequantized: their coordinate is the logit of (n + v) / (K + 1), with v
    uniform from 0 to 1. Of the energy that the zones further in have left, each zone but the last takes a part, whose
    logit is its coordinate. A coordinate is normal noise where there is nothing to say: an empty layer, no voxels or
    hits in the zone, no hits beyond.

    Args:
        zones: of the layers.
    """

    def __init__(self, zones: Zones) -> None:
        super().__init__()
        self.zones = zones
        self.shape = (2 * len(zones) - 1, zones.grid[0])
        self.features = self.shape[0] * self.shape[1]

    def measure(self, shapes: Tensor) -> Coarse:
        """Hits and shares of shapes (N, V)."""
        images = self.zones.images(shapes)
        return Coarse(self.zones.sum((images > 0).to(shapes.dtype)), _shares(self.zones.sum(images)))

    def forward(self, coarse: Coarse, noise: Tensor) -> Tensor:
        """Coordinates (N, features) of hits and shares, with standard normal noise (N, features)."""
        noise = noise.unflatten(1, self.shape).transpose(1, 2)
        n_zones = len(self.zones)
        fractions = (coarse.hits + torch.special.ndtr(noise[..., :n_zones])) / (self.zones.capacity + 1)
        logits = torch.logit(fractions, eps=1e-6)
        shares, hits_beyond = coarse.shares.clamp(min=LEAST_SHARE), beyond(coarse.hits)
        ratios = shares[..., :-1].log() - beyond(coarse.shares).clamp(min=LEAST_SHARE).log()
        ratios = torch.where((coarse.hits[..., :-1] > 0) & (hits_beyond > 0), ratios, noise[..., n_zones:])
        is_empty = (coarse.hits.sum(-1, keepdim=True) == 0) | (self.zones.capacity == 0)
        logits = torch.where(is_empty, noise[..., :n_zones], logits)
        return torch.cat([logits, ratios], dim=-1).transpose(1, 2).flatten(1)

    def inverse(self, coordinates: Tensor, has_energy: Tensor) -> Coarse:
        """Hits and shares of coordinates (N, features); layers with energy (N, L) have at least one hit."""
        numbers = coordinates.unflatten(1, self.shape).transpose(1, 2)
        n_zones = len(self.zones)
        fractions = numbers[..., :n_zones].sigmoid() * (self.zones.capacity > 0)
        hits = counted(numbers[..., :n_zones], self.zones.capacity)
        lonely = (hits.sum(-1, keepdim=True) == 0) & (fractions == fractions.amax(-1, keepdim=True))
        hits = (hits + lonely) * has_energy.unsqueeze(-1)
        parts = torch.where(beyond(hits) > 0, numbers[..., n_zones:].sigmoid(), 1.0) * (hits[..., :-1] > 0)
        one = torch.ones_like(parts[..., :1])
        left = torch.cat([one, 1 - parts], dim=-1).cumprod(-1)
        return Coarse(hits, left * torch.cat([parts, one], dim=-1) * (hits > 0))


def counted(logits: Tensor, capacity: Tensor) -> Tensor:
    """Hits (..., Z) in zones of so many voxels (..., Z), from the logits of the dequantized fractions."""
    return torch.minimum((logits.sigmoid() * (capacity + 1)).floor(), capacity.to(logits))


def beyond(values: Tensor) -> Tensor:
    """Sums (..., Z - 1) over the zones beyond each but the last."""
    return values.flip(-1).cumsum(-1).flip(-1)[..., 1:]


def _shares(energies: Tensor) -> Tensor:
    """Energies (..., Z) over their sum, and 0 where there are none."""
    return energies / energies.sum(-1, keepdim=True).clamp(min=1e-30)
