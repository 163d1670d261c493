"""Convolutions on the mesh of a regular calorimeter: layers along z, rings in r, a circle in alpha."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.nn.mlp import MLP, zero_linear


class CylinderConv(nn.Module):
    """A convolution over (z, alpha, r): the circle closes in alpha, and zeros lie beyond the ends of z and r.

    A kernel of size 1 along z looks at each layer alone.

    Args:
        in_channels: channels of the input, without coordinates.
        out_channels: channels of the output.
        kernel: odd sizes along z, alpha and r.
        coordinates: adds z and r, from -1 to 1, as two channels, because neither axis looks the same everywhere.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Sequence[int] = (3, 3, 3),
        coordinates: bool = False,
    ) -> None:
        super().__init__()
        self.coordinates = coordinates
        self.wrap = kernel[1] // 2
        self.conv = nn.Conv3d(
            in_channels + 2 * coordinates,
            out_channels,
            kernel_size=(kernel[0], kernel[1], kernel[2]),
            padding=(kernel[0] // 2, 0, kernel[2] // 2),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps (N, in_channels, z, alpha, r) to (N, out_channels, z, alpha, r)."""
        if self.coordinates:
            inputs = torch.cat([inputs, _coordinates(inputs)], dim=1)
        return self.conv(F.pad(inputs, (0, 0, self.wrap, self.wrap, 0, 0), mode="circular"))


def _coordinates(inputs: Tensor) -> Tensor:
    """Coordinates z and r of each cell from -1 to 1, shape (N, 2, z, alpha, r)."""
    count, _, *shape = inputs.shape
    axes = [torch.linspace(-1, 1, size, dtype=inputs.dtype, device=inputs.device) for size in shape]
    z, _, r = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([z, r]).expand(count, -1, -1, -1, -1)


class CircleNet(nn.Module):
    """Residual convolutions on a circle of cells; a condition scales and shifts each channel (FiLM).

    A turned input gives a turned output.

    Args:
        in_channels: channels of the input.
        context: size C of the condition.
        out_channels: channels of the output, which starts at zero.
        hidden: channels between, and width of the condition's network.
        blocks: number of residual blocks.

    References:
        Perez et al., FiLM (arXiv:1709.07871).
    """

    def __init__(self, in_channels: int, context: int, out_channels: int, hidden: int = 64, blocks: int = 2) -> None:
        super().__init__()
        self.condition = MLP(context, [hidden], hidden, nn.SiLU)
        self.first = nn.Linear(3 * in_channels, hidden)
        self.film = nn.Linear(hidden, (1 + 2 * blocks) * hidden)
        self.before = nn.ModuleList(nn.Linear(3 * hidden, hidden) for _ in range(blocks))
        self.after = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.last = zero_linear(hidden, out_channels)

    def forward(self, inputs: Tensor, context: Tensor) -> Tensor:
        """Maps inputs (N, cells, in_channels) and context (N, C) to (N, cells, out_channels)."""
        start, *films = self.film(F.silu(self.condition(context))).unsqueeze(1).chunk(1 + 2 * len(self.before), dim=2)
        hidden = self.first(_with_neighbors(inputs)) + start
        for before, after, scale, shift in zip(self.before, self.after, films[::2], films[1::2], strict=True):
            inner = before(_with_neighbors(F.silu(hidden))) * (1 + scale) + shift
            hidden = hidden + after(F.silu(inner))
        return self.last(F.silu(hidden))


def _with_neighbors(cells: Tensor) -> Tensor:
    """Cells (N, cells, c) joined to those before and behind them on the circle, (N, cells, 3 c)."""
    return torch.cat([cells.roll(1, 1), cells, cells.roll(-1, 1)], dim=2)


def to_patches(cells: Tensor, patch: Sequence[int]) -> Tensor:
    """Blocks of cells as channels: (N, c, z, alpha, r) to (N, c * size of a patch, z', alpha', r')."""
    blocks = cells.unflatten(4, (-1, patch[2])).unflatten(3, (-1, patch[1])).unflatten(2, (-1, patch[0]))
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)


def from_patches(patches: Tensor, patch: Sequence[int]) -> Tensor:
    """Undoes `to_patches`."""
    blocks = patches.unflatten(1, (-1, *patch)).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return blocks.flatten(6, 7).flatten(4, 5).flatten(2, 3)
