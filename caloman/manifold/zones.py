"""Zones of rings, and the voxels of a mesh as images."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from caloman.errors import CalomanError
from caloman.showers.geometry import MOST_VOXELS, Geometry


def ring_bounds(name: str, starts: Sequence[int], n_r: int) -> list[tuple[int, int]]:
    """First ring of each part of R rings, and the one behind its last.

    Args:
        name: of the option, for the message.
        starts: first ring of each part but the innermost.
        n_r: number of rings.

    Raises:
        CalomanError: if the rings do not fit.
    """
    bounds = list(pairwise([0, *starts, n_r]))
    if any(inner >= outer for inner, outer in bounds):
        raise CalomanError(f"{name} = {list(starts)} must be growing numbers of rings from 1 to {n_r - 1}")
    return bounds


class Zones(nn.Module):
    """Zones of rings in the layers of a mesh, whose voxels are seen as images.

    An image has a row for each bin in alpha and a column for each ring, the innermost first. A layer may have fewer
    rings than others, or a single bin in alpha: what is no voxel is zero.

    Args:
        geometry: the voxel mesh: L layers of 1 or A bins in alpha and at most R rings.
        starts: first ring of each zone but the innermost.

    Raises:
        CalomanError: if bins in alpha differ, the rings do not fit, or the images are too large.
    """

    capacity: Tensor
    is_voxel: Tensor
    ring_zone: Tensor
    members: Tensor

    def __init__(self, geometry: Geometry, starts: Sequence[int]) -> None:
        super().__init__()
        self.layers = [(layer.n_alpha, layer.n_r) for layer in geometry.layers]
        n_alpha, n_r = (max(sizes) for sizes in zip(*self.layers, strict=True))
        if any(bins not in (1, n_alpha) for bins, _ in self.layers):
            raise CalomanError(
                f"dataset {geometry.name!r} has layers with different numbers of bins in alpha; use a VAE instead of a "
                "CoarseManifold"
            )
        self.grid = (geometry.n_layers, n_alpha, n_r)
        if geometry.n_layers * n_r * max(n_alpha, n_r) > MOST_VOXELS:
            raise CalomanError(
                f"dataset {geometry.name!r}: {geometry.n_layers} layers with up to {n_r} rings and {n_alpha} bins in "
                "alpha are too many for a CoarseManifold; take a coarser mesh"
            )
        self.is_regular = geometry.grid is not None
        self.bounds = ring_bounds("zones", starts, n_r)
        rings = [torch.arange(inner, outer, device="cpu") for inner, outer in self.bounds]
        zones = torch.cat([torch.full_like(inside, zone) for zone, inside in enumerate(rings)])
        self.register_buffer("ring_zone", zones, persistent=False)  # (R,)
        members = pad_sequence(rings, batch_first=True, padding_value=n_r)  # beyond the last ring is a zero
        self.register_buffer("members", members.flatten(), persistent=False)
        is_voxel = self.images(torch.ones(1, geometry.n_voxels, device="cpu"))[0] > 0
        self.register_buffer("is_voxel", is_voxel, persistent=False)
        self.register_buffer("capacity", self.sum(self.is_voxel.long()), persistent=False)  # (L, Z)

    def __len__(self) -> int:
        return len(self.bounds)

    def images(self, voxels: Tensor) -> Tensor:
        """Voxels (N, V) as images (N, L, A, R)."""
        if self.is_regular:
            return voxels.unflatten(1, self.grid)
        _, n_alpha, n_r = self.grid
        parts = voxels.split([bins * rings for bins, rings in self.layers], dim=1)
        images = [
            F.pad(part.unflatten(1, (bins, rings)), (0, n_r - rings, 0, n_alpha - bins))
            for part, (bins, rings) in zip(parts, self.layers, strict=True)
        ]
        return torch.stack(images, dim=1)

    def voxels(self, images: Tensor) -> Tensor:
        """Undoes `images`."""
        if self.is_regular:
            return images.flatten(1)
        layers = zip(images.unbind(1), self.layers, strict=True)
        return torch.cat([image[:, :n_alpha, :n_r].flatten(1) for image, (n_alpha, n_r) in layers], dim=1)

    def draws(self, numbers: Tensor, count: int) -> list[Tensor]:
        """Numbers for some draws of each layer's voxels as images.

        Args:
            numbers: layer after layer, for one draw of its voxels after the other (N, count V).
            count: number of draws.

        Returns:
            Images (N, count, A, R) of each layer, where that of a single bin in alpha is repeated.
        """
        _, n_alpha, n_r = self.grid
        parts = numbers.split([count * bins * rings for bins, rings in self.layers], dim=1)
        return [
            F.pad(part.unflatten(1, (count, bins, rings)).expand(-1, -1, n_alpha, -1), (0, n_r - rings))
            for part, (bins, rings) in zip(parts, self.layers, strict=True)
        ]

    def split(self, images: Tensor) -> list[Tensor]:
        """Places of each zone, (..., A, R) to (..., A R_z), alpha slowest."""
        return [rings.flatten(-2) for rings in self.rings(images)]

    def rings(self, values: Tensor) -> list[Tensor]:
        """Values of the rings of each zone, (..., R) to (..., R_z)."""
        return [values[..., inner:outer] for inner, outer in self.bounds]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Undoes `split`."""
        return torch.cat([part.unflatten(-1, (self.grid[1], -1)) for part in parts], dim=-1)

    def sum(self, images: Tensor) -> Tensor:
        """Sums over zones, (..., A, R) to (..., Z)."""
        rings = F.pad(images.sum(-2), (0, 1)).index_select(-1, self.members)
        return rings.unflatten(-1, (len(self), -1)).sum(-1)

    def broadcast(self, values: Tensor) -> Tensor:
        """Values of zones for each of their rings, (..., Z) to (..., 1, R)."""
        return values.index_select(-1, self.ring_zone).unsqueeze(-2)
