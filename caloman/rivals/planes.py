"""Convolutional networks for the voxels of single layers: planes (alpha, r), joined to flat vectors outside."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.nn.cylinder import CylinderConv

KERNEL = (1, 3, 3)  # one layer at a time: along z the planes have a single cell


def squeeze(vectors: Tensor, shape: tuple[int, int], factors: tuple[int, int]) -> Tensor:
    """Cuts planes into blocks of neighbors and makes each place in a block a channel.

    Args:
        vectors: k planes one after the other, shape (N, k alpha r).
        shape: alpha and r.
        factors: bins of alpha and r in a block.

    Returns:
        Planes of shape (N, k a b, alpha / a, r / b) with the factors a and b.
    """
    (alpha, r), (a, b) = shape, factors
    blocks = vectors.unflatten(1, (-1, alpha // a, a, r // b, b))
    return blocks.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


class PlaneNetwork(nn.Module):
    """Conditional residual network of convolutions, with the interface of `ResidualMLP`.

    Args:
        features: size of the input: some squeezed planes.
        context: size of the condition: some whole planes; 0 for none.
        out_features: size of the output: several numbers for each cell of the squeezed planes.
        shape: alpha and r of a whole plane.
        factors: bins of alpha and r in a block.
        hidden: channels of the blocks.
        blocks: number of blocks.
    """

    def __init__(
        self,
        features: int,
        context: int,
        out_features: int,
        shape: tuple[int, int],
        factors: tuple[int, int],
        hidden: int = 32,
        blocks: int = 2,
    ) -> None:
        super().__init__()
        self.shape, self.factors = shape, factors
        self.cells = (shape[0] // factors[0], shape[1] // factors[1])
        channels, condition, outputs = (n // math.prod(self.cells) for n in (features, context, out_features))
        self.first = CylinderConv(channels + condition, hidden, KERNEL, coordinates=True)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(), CylinderConv(hidden, hidden, KERNEL), nn.ReLU(), CylinderConv(hidden, hidden, KERNEL)
            )
            for _ in range(blocks)
        )
        self.last = nn.Conv3d(hidden, outputs, kernel_size=1)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Maps inputs (N, features) and context (N, context) to (N, out_features), outputs of one kind together."""
        planes = inputs.unflatten(1, (-1, *self.cells))
        if context is not None:
            planes = torch.cat([planes, squeeze(context, self.shape, self.factors)], dim=1)
        hidden = self.first(planes.unsqueeze(2))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.last(torch.relu(hidden)).flatten(1)


class PlaneEmbedding(nn.Module):
    """Numbers and planes as a few planes, the condition of a `PlaneNetwork`.

    Args:
        numbers: how many numbers for the whole plane come first in the condition.
        planes: how many planes follow; may be 0.
        shape: alpha and r.
        channels: how many planes to give.
    """

    def __init__(self, numbers: int, planes: int, shape: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.shape = shape
        self.numbers = nn.Linear(numbers, channels)
        self.first = CylinderConv(planes, channels, KERNEL, coordinates=True)
        self.last = CylinderConv(channels, channels, KERNEL)

    def forward(self, context: Tensor) -> Tensor:
        """Maps (N, numbers + planes alpha r) to (N, channels alpha r)."""
        numbers, planes = context.tensor_split([self.numbers.in_features], dim=1)
        hidden = self.first(planes.reshape(len(planes), -1, 1, *self.shape))
        hidden = hidden + self.numbers(numbers)[:, :, None, None, None]
        return self.last(F.leaky_relu(hidden)).flatten(1)
