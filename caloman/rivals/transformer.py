"""Attention between the cells of a regular calorimeter.

References:
    CaloDREAM (arXiv:2405.09629); Peebles & Xie, DiT (arXiv:2212.09748).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.nn.mlp import MLP, zero_linear
from caloman.rivals.modulation import Gated, Modulation


class Attention(nn.Module):
    """Self-attention of several heads.

    Args:
        hidden: width of the tokens.
        heads: number of heads, which share the width.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first = nn.Linear(hidden, 3 * hidden)
        self.last = nn.Linear(hidden, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps tokens (N, tokens, hidden) to as many."""
        query, key, value = self.first(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.last(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class CellTransformer(nn.Module):
    """Blocks of attention and a dense network under a condition; each cell is a token. The outputs start at zero.

    Learned frequencies of the Cartesian place of a cell, along the shower and across, tell it from the others: the
    circle in alpha closes. A cell may span the whole circle.

    Args:
        condition: the network whose outputs (N, hidden) are the condition; a subclass says of what.
        shape: numbers of cells along z, alpha and r.
        in_channels: channels of the input.
        out_channels: channels of the output.
        hidden: width of a token, a multiple of 6 and of the heads.
        depth: number of blocks.
        heads: of each attention.
        mlp_ratio: width of the dense networks over that of a token.

    Raises:
        CalomanError: if the width cannot be shared out.
    """

    place: Tensor

    def __init__(
        self,
        condition: nn.Module,
        shape: Sequence[int],
        in_channels: int,
        out_channels: int,
        hidden: int,
        depth: int,
        heads: int,
        mlp_ratio: int = 4,
    ) -> None:
        super().__init__()
        if hidden % 6 or hidden % heads:
            raise CalomanError(
                f"transformer: hidden = {hidden} is not a multiple of 6 and of heads = {heads}; change it"
            )
        self.shape = list(shape)
        self.condition = condition
        self.first = nn.Linear(in_channels, hidden)
        self.register_buffer("place", _places(shape), persistent=False)
        self.frequencies = nn.Parameter(torch.logspace(0, math.log10(math.pi * max(shape)), hidden // 6).repeat(3, 1))
        self.attentions = nn.ModuleList(Gated(Attention(hidden, heads), hidden, hidden) for _ in range(depth))
        self.networks = nn.ModuleList(
            Gated(MLP(hidden, [mlp_ratio * hidden], hidden, nn.GELU), hidden, hidden) for _ in range(depth)
        )
        self.modulation = Modulation(hidden, hidden)
        self.last = zero_linear(hidden, out_channels)

    def attend(self, cells: Tensor, condition: Tensor) -> Tensor:
        """Maps cells (N, in_channels, z, alpha, r) under conditions (N, hidden) to (N, out_channels, z, alpha, r)."""
        condition = condition.unsqueeze(1)
        tokens = self.first(cells.flatten(2).transpose(1, 2)) + self.positions()
        for attention, network in zip(self.attentions, self.networks, strict=True):
            tokens = network(attention(tokens, condition), condition)
        return self.last(self.modulation(tokens, condition)).transpose(1, 2).unflatten(2, self.shape)

    def positions(self) -> Tensor:
        """What is added to the tokens to tell where they are, shape (tokens, hidden)."""
        phases = (self.place.unsqueeze(2) * self.frequencies).flatten(1)
        return torch.cat([phases.sin(), phases.cos()], dim=1)


def _places(shape: Sequence[int]) -> Tensor:
    """Cartesian coordinates (cells, 3) of cells, in units of the length and of the radius of the mesh."""
    z, alpha, r = (torch.arange(size) / size for size in shape)
    z, alpha, r = (axis.flatten() for axis in torch.meshgrid(z, 2 * math.pi * alpha, r + 0.5 / shape[2], indexing="ij"))
    return torch.stack([z, r * alpha.cos(), r * alpha.sin()], dim=1)
