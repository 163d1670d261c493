"""Convolutions on the mesh of a regular calorimeter: layers along z, rings in r, a circle in alpha."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CylinderConv(nn.Module):
    """A convolution over (z, alpha, r): the circle closes in alpha, and zeros lie beyond the ends of z and r.

    A kernel of size 1 along z looks at each layer alone.

    Args:
        in_channels: channels of the input, without coordinates.
        out_channels: channels of the output.
        kernel: odd sizes along z, alpha and r.
        stride: steps along z, alpha and r.
        coordinates: adds z and r, from -1 to 1, as two channels, because neither axis looks the same everywhere.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Sequence[int] = (3, 3, 3),
        stride: Sequence[int] = (1, 1, 1),
        coordinates: bool = False,
    ) -> None:
        super().__init__()
        self.coordinates = coordinates
        self.wrap = kernel[1] // 2
        self.conv = nn.Conv3d(
            in_channels + 2 * coordinates,
            out_channels,
            kernel_size=(kernel[0], kernel[1], kernel[2]),
            stride=(stride[0], stride[1], stride[2]),
            padding=(kernel[0] // 2, 0, kernel[2] // 2),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps (N, in_channels, z, alpha, r) to (N, out_channels, z', alpha', r')."""
        if self.coordinates:
            inputs = torch.cat([inputs, _coordinates(inputs)], dim=1)
        return self.conv(F.pad(inputs, (0, 0, self.wrap, self.wrap, 0, 0), mode="circular"))


def _coordinates(inputs: Tensor) -> Tensor:
    """Coordinates z and r of each cell from -1 to 1, shape (N, 2, z, alpha, r)."""
    count, _, *shape = inputs.shape
    axes = [torch.linspace(-1, 1, size, dtype=inputs.dtype, device=inputs.device) for size in shape]
    z, _, r = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([z, r]).expand(count, -1, -1, -1, -1)
