"""Centers of energy and widths of decoded shapes, as a loss."""

import numpy as np
import torch
from torch import Tensor, nn

from caloman.preprocessing.layers import LayerMap
from caloman.showers.geometry import Geometry


class MomentLoss(nn.Module):
    """Distance of two shapes in the centers of energy and widths of their layers, in eta and phi.

    Only layers with several angular bins count, and those that are not empty.

    Args:
        geometry: the voxel mesh with V voxels, La of whose layers have several angular bins.

    References:
        Calo-VQ (arXiv:2405.06605).
    """

    positions: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.layers = LayerMap(geometry)
        self.angular = [i for i, layer in enumerate(geometry.layers) if layer.n_alpha > 1]
        r = np.concatenate([layer.r for layer in geometry.layers])
        alpha = np.concatenate([layer.alpha for layer in geometry.layers])
        positions = torch.from_numpy(np.stack([r * np.cos(alpha), r * np.sin(alpha)])).float()
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, decoded: Tensor, shapes: Tensor) -> Tensor:
        """Sum of the absolute differences [mm] between shapes (N, V), mean over the showers."""
        filled = self.layers.sum(shapes)[:, None, self.angular] > 0
        return ((self.moments(decoded) - self.moments(shapes)).abs() * filled).sum(dim=(1, 2)).mean()

    def moments(self, shapes: Tensor) -> Tensor:
        """Center in eta, width in eta, center in phi and width in phi [mm] of each layer, shape (N, 4, La)."""
        weights = shapes.clamp(min=0)
        energy = self.layers.sum(weights)
        norm = torch.where(energy > 0, energy, 1.0)
        moments = []
        for position in self.positions:
            center = self.layers.sum(weights * position) / norm
            variance = self.layers.sum(weights * (position - self.layers.broadcast(center)).square()) / norm
            moments += [center, variance.clamp(min=1e-12).sqrt()]  # the root's slope at 0 is infinite
        return torch.stack(moments, dim=1)[:, :, self.angular]
