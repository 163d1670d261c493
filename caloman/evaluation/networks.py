"""Networks that classify showers: dense, and the CaloChallenge's three-dimensional ResNet-18.

They map inputs (N, D) to (N, outputs): a single output is the logit of a binary classifier, several are the
log-probabilities of as many classes.

References:
    He et al., ResNet (arXiv:1512.03385); Krause et al., CaloChallenge 2022 (arXiv:2410.21611).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.nn.mlp import MLP
from caloman.nn.moments import mean_and_variance
from caloman.showers.geometry import Geometry

WIDTHS = (32, 32, 64, 64, 128)
STANDARDIZATION_BATCH = 1000


def dense(n_features: int, hidden: Sequence[int], n_outputs: int = 1) -> nn.Module:
    """The dense network of the presets, with hidden layers of these sizes."""
    activation = nn.Identity() if n_outputs == 1 else nn.LogSoftmax(dim=1)
    return nn.Sequential(*MLP(n_features, hidden, n_outputs, nn.LeakyReLU), activation)


class ResNet(nn.Module):
    """ResNet-18 with three-dimensional convolutions over layer, angle and radius, for low-level inputs.

    As in the challenge, the angle is padded with zeros although it is periodic. Energy and conditions come after the
    convolutions.

    Args:
        geometry: the mesh.
        n_conditions: number of columns of conditions.

    Raises:
        CalomanError: if the layers of the mesh differ.
    """

    def __init__(self, geometry: Geometry, n_conditions: int = 0) -> None:
        super().__init__()
        first = geometry.layers[0]
        if any((layer.n_alpha, layer.r_edges) != (first.n_alpha, first.r_edges) for layer in geometry.layers):
            raise CalomanError(
                f"dataset {geometry.name!r}: the ResNet needs layers with equal voxels; use the low-level classifier"
            )
        self.grid = (geometry.n_layers, first.n_alpha, first.n_r)
        self.convolutions = nn.Sequential(
            nn.Conv3d(1, WIDTHS[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm3d(WIDTHS[0]),
            nn.ReLU(),
            nn.MaxPool3d(3, stride=2, padding=1),
            *(
                nn.Sequential(ResidualBlock(n_in, n_out, stride=1 if stage == 0 else 2), ResidualBlock(n_out, n_out))
                for stage, (n_in, n_out) in enumerate(pairwise(WIDTHS))
            ),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
        )
        self.conditions = nn.BatchNorm1d(1 + n_conditions)
        self.last = nn.Linear(WIDTHS[-1] + 1 + n_conditions, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps low-level inputs (N, 1 + V + K) to logits (N, 1)."""
        energy, voxels, others = inputs.tensor_split((1, 1 + math.prod(self.grid)), dim=1)
        features = self.convolutions(voxels.unflatten(1, (1, *self.grid)))
        return self.last(torch.cat([features, self.conditions(torch.cat([energy, others], dim=1))], dim=1))


class ResidualBlock(nn.Module):
    """Two convolutions of 3 x 3 x 3, the first with a stride, next to a shortcut."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv3d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm3d(n_out),
            nn.ReLU(),
            nn.Conv3d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm3d(n_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv3d(n_in, n_out, 1, stride=stride, bias=False), nn.BatchNorm3d(n_out))

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps (N, n_in, layers, angles, radii) to (N, n_out, ...)."""
        return torch.relu(self.convolutions(inputs) + self.shortcut(inputs))


class Standardization(nn.Module):
    """Shifts and scales inputs to mean 0 and standard deviation 1, and clips what is larger than `clip`."""

    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int, clip: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.clip = clip

    def fit(self, features: Tensor, rows: Tensor) -> None:
        """Takes mean and standard deviation of some rows of the features (N, D)."""
        mean, variance = mean_and_variance(features[part] for part in rows.split(STANDARDIZATION_BATCH))
        std = variance.sqrt()
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(std > 1e-6 * mean.abs(), 1 / std, 0))

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps inputs (N, D) to standardized ones; constant columns become 0."""
        return ((inputs - self.mean) * self.scale).clamp(-self.clip, self.clip)
