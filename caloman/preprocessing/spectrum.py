"""The energy spectrum of the hits of a layer, made smooth."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from caloman.preprocessing.layers import LayerMap
from caloman.showers.geometry import Geometry

LOWEST, HIGHEST = math.log(1e-5), math.log(1e5)
"""Range of the logarithms of energies in MeV; the map goes on with slope 1 outside."""
WIDTH = 0.4
"""Of the blur, in the natural logarithm of the energy."""
STEP = 0.04
"""Of the knots, likewise."""
PRIOR = 100.0
"""Hits per step that both spectra get, which steadies the ratio where there are few."""


class SmoothSpectrum(nn.Module):
    """A monotone map of log-energies in each layer that smooths narrow features of their spectrum.

    The steps of minimum ionizing particles lie at the same energies in every shower; a network could not place them so
    sharply. The map stretches the axis where hits crowd and
    shrinks it where they are few, against the same spectrum blurred by a normal distribution: locally its slope is the
    ratio of the two, and features wider than the blur stay.

    Args:
        geometry: the voxel mesh with V voxels in L layers.
    """

    knots: Tensor
    first_piece: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.layers = LayerMap(geometry)
        self.n_steps = math.ceil((HIGHEST - LOWEST) / STEP)
        first_piece = self.n_steps * self.layers.voxel_layer.int()
        self.register_buffer("first_piece", first_piece, persistent=False)  # of the layer of each voxel, (V,)
        self.register_buffer("knots", self._grid().float().repeat(geometry.n_layers, 1))  # logs, (L, n_steps + 1)

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fits the spectra of the hits in batches of energies (n, V) [MeV]; zeros are no hits."""
        counts = torch.zeros(len(self.knots), self.n_steps, dtype=torch.float64)
        for batch in batches:
            for layer, energies in zip(counts, batch.split(self.layers.sizes, dim=1), strict=True):
                place = (energies[energies > 0].log() - LOWEST) / STEP
                inside = place[(place >= 0) & (place < self.n_steps)].long()
                layer += torch.bincount(inside, minlength=self.n_steps)
        slopes = (counts + PRIOR) / (counts @ self._blur() + PRIOR)
        straight = self._grid()
        ironed = LOWEST + STEP * torch.cat([torch.zeros_like(slopes[:, :1]), slopes.cumsum(dim=1)], dim=1)
        ironed += (straight - ironed).mean(dim=1, keepdim=True)
        for knots, values in zip(self.knots, ironed, strict=True):
            knots.copy_(_interpolate(straight, values, straight))

    def forward(self, log_energies: Tensor) -> Tensor:
        """Ironed logarithms of log-energies (N, V)."""
        grid = self._grid().to(self.knots)
        layers = zip(log_energies.split(self.layers.sizes, dim=1), self.knots, strict=True)
        return torch.cat([_interpolate(values.contiguous(), knots, grid) for values, knots in layers], dim=1)

    def inverse(self, ironed: Tensor) -> tuple[Tensor, Tensor]:
        """Log-energies of ironed logarithms (N, V), and the slopes of this inverse (N, V)."""
        slopes = self.knots.diff(dim=1) / STEP
        starts = self.knots[:, :-1] - slopes * self._grid().to(self.knots)[:-1]  # of the lines that the pieces lie on
        piece = ((ironed - LOWEST) / STEP).clamp(0, self.n_steps - 1).int() + self.first_piece
        # index_select is four times as fast as brackets
        start, slope = (table.flatten().index_select(0, piece.flatten()).view_as(piece) for table in (starts, slopes))
        return start + slope * ironed, slope

    def _grid(self) -> Tensor:
        return LOWEST + STEP * torch.arange(self.n_steps + 1, dtype=torch.float64)

    def _blur(self) -> Tensor:
        """The matrix (n_steps, n_steps) whose rows spread a count over its neighbors."""
        distance = torch.arange(self.n_steps, dtype=torch.float64)
        weights = (-0.5 * ((distance[:, None] - distance) * STEP / WIDTH).square()).exp()
        return weights / weights.sum(dim=1, keepdim=True)


def _interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """The piecewise linear function through (knots, values) at x, continued by its first and last piece."""
    left = (torch.searchsorted(knots, x) - 1).clamp(0, len(knots) - 2)
    slope = (values[left + 1] - values[left]) / (knots[left + 1] - knots[left])
    return values[left] + slope * (x - knots[left])
