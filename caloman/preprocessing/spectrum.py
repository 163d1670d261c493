"""The energy spectrum of the hits of a layer, made smooth."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from caloman.showers.geometry import Geometry

LOWEST, HIGHEST = math.log(1e-5), math.log(1e5)
"""Range of the logarithms of energies in MeV; the map goes on with slope 1 outside."""
WIDTH = 0.4  # of the blur, in the natural logarithm of the energy
STEP = 0.04  # of the knots, likewise
PRIOR = 100.0  # hits per step that both spectra get, which steadies the ratio where there are few


class SmoothSpectrum(nn.Module):
    """A monotone map of log-energies in each layer that smooths narrow features of their spectrum.

    The steps of minimum ionizing particles lie at the same energies in every shower; a network could not place them so
    sharply. The map stretches the axis where hits crowd and shrinks it where they are few, against the same spectrum
    blurred by a normal distribution: locally its slope is the ratio of the two, and features wider than the blur stay.

    Args:
        geometry: the voxel mesh with V voxels in L layers.
        zones: first ring of each zone but the innermost; each zone of a layer has a spectrum of its own.
    """

    knots: Tensor
    first_piece: Tensor
    members: Tensor
    place: Tensor

    def __init__(self, geometry: Geometry, zones: Sequence[int] = ()) -> None:
        super().__init__()
        self.n_steps = math.ceil((HIGHEST - LOWEST) / STEP)
        rings = np.concatenate([np.arange(layer.n_voxels) % layer.n_r for layer in geometry.layers])
        group = geometry.voxel_layer * (len(zones) + 1) + np.searchsorted(zones, rings, side="right")
        n_groups = geometry.n_layers * (len(zones) + 1)
        self.sizes = np.bincount(group, minlength=n_groups).tolist()
        members = torch.from_numpy(np.argsort(group, kind="stable"))
        self.register_buffer("members", members, persistent=False)  # voxels of one group after the other, (V,)
        self.register_buffer("place", members.argsort(), persistent=False)
        first_piece = self.n_steps * torch.from_numpy(group).int()
        self.register_buffer("first_piece", first_piece, persistent=False)  # of the group of each voxel, (V,)
        self.register_buffer("knots", self._grid().float().repeat(n_groups, 1))  # logs, (groups, n_steps + 1)

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fits the spectra of the hits in batches of energies (n, V) [MeV]; zeros are no hits."""
        counts = torch.zeros(len(self.knots), self.n_steps, dtype=torch.float64)
        for batch in batches:
            for count, energies in zip(counts, self._groups(batch), strict=True):
                place = (energies[energies > 0].log() - LOWEST) / STEP
                inside = place[(place >= 0) & (place < self.n_steps)].long()
                count += torch.bincount(inside, minlength=self.n_steps)
        slopes = (counts + PRIOR) / (counts @ self._blur() + PRIOR)
        straight = self._grid()
        ironed = LOWEST + STEP * torch.cat([torch.zeros_like(slopes[:, :1]), slopes.cumsum(dim=1)], dim=1)
        ironed += (straight - ironed).mean(dim=1, keepdim=True)
        for knots, values in zip(self.knots, ironed, strict=True):
            knots.copy_(_interpolate(straight, values, straight))

    def forward(self, log_energies: Tensor) -> Tensor:
        """Ironed logarithms of log-energies (N, V)."""
        grid = self._grid().to(self.knots)
        groups = zip(self._groups(log_energies), self.knots, strict=True)
        parts = [_interpolate(values.contiguous(), knots, grid) for values, knots in groups]
        return torch.cat(parts, dim=1).index_select(1, self.place)

    def _groups(self, voxels: Tensor) -> tuple[Tensor, ...]:
        return voxels.index_select(1, self.members).split(self.sizes, dim=1)

    def inverse(self, ironed: Tensor) -> tuple[Tensor, Tensor]:
        """Log-energies of ironed logarithms (N, V), and the slopes of this inverse (N, V)."""
        slopes = self.knots.diff(dim=1) / STEP
        starts = self.knots[:, :-1] - slopes * self._grid().to(self.knots)[:-1]  # of the lines that the pieces lie on
        piece = ((ironed - LOWEST) / STEP).int().clamp(0, self.n_steps - 1) + self.first_piece  # also of NaN
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
