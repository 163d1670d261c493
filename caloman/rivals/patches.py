"""Transformers on patches of a regular mesh: their blocks, and a velocity network.

References:
    CaloDREAM (arXiv:2405.09629); Peebles & Xie, DiT (arXiv:2212.09748).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.nn.cylinder import from_patches, to_patches
from caloman.nn.mlp import MLP, zero_linear
from caloman.rivals.velocity import Condition, Gated, Modulation, VelocityNetwork

Mesh = tuple[int, int, int]


class Attention(nn.Module):
    """Self-attention of several heads.

    Args:
        hidden: width of the tokens.
        heads: number of heads, each of an equal part of the width.
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


class TokenTransformer(nn.Module):
    """Blocks of attention and a dense network under one condition for all tokens. The outputs start at zero.

    Args:
        features: size of a token's input.
        out_features: size of a token's output.
        hidden: width of a token, a multiple of the heads.
        depth: number of blocks, each of an attention and a dense network.
        heads: of each attention.
        mlp_ratio: width of the dense networks over that of a token.

    Raises:
        CalomanError: if the width is no multiple of the heads.
    """

    def __init__(self, features: int, out_features: int, hidden: int, depth: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        if hidden % heads:
            raise CalomanError(
                f"{type(self).__name__}: hidden = {hidden} is not a multiple of heads = {heads}; change it"
            )
        self.first = nn.Linear(features, hidden)
        self.attentions = nn.ModuleList(Gated(Attention(hidden, heads), hidden, hidden) for _ in range(depth))
        self.networks = nn.ModuleList(
            Gated(MLP(hidden, [mlp_ratio * hidden], hidden, nn.GELU), hidden, hidden) for _ in range(depth)
        )
        self.modulation = Modulation(hidden, hidden)
        self.last = zero_linear(hidden, out_features)

    def transform(self, inputs: Tensor, positions: Tensor, condition: Tensor) -> Tensor:
        """Maps (N, tokens, features) at positions (tokens, hidden) to (N, tokens, out_features).

        The condition has the shape (N, hidden).
        """
        tokens, condition = self.first(inputs) + positions, condition.unsqueeze(1)
        for attention, network in zip(self.attentions, self.networks, strict=True):
            tokens = network(attention(tokens, condition), condition)
        return self.last(self.modulation(tokens, condition))


class PatchTransformer(TokenTransformer, VelocityNetwork):
    """A transformer under a condition; each patch of the mesh (z, alpha, r) is a token.

    Learned frequencies of the Cartesian position of a patch, along the shower and across, tell it from the others: the
    circle in alpha closes. A patch may span the whole circle. The outputs start at zero.

    Args:
        features: size D of the vectors, the voxels of the mesh.
        context: size C of the condition; 0 for none.
        shape: voxels along z, alpha and r.
        patch: voxels of a patch along z, alpha and r.
        hidden: width of a token, a multiple of 6 and of the heads.
        depth: number of blocks, each of an attention and a dense network.
        heads: of each attention.
        mlp_ratio: width of the dense networks over that of a token.

    Raises:
        CalomanError: if the patches do not fill the mesh, or the width is no multiple of 6 and of the heads.
    """

    place: Tensor

    def __init__(
        self,
        features: int,
        context: int,
        shape: Mesh,
        patch: Mesh,
        hidden: int = 480,
        depth: int = 6,
        heads: int = 6,
        mlp_ratio: int = 4,
    ) -> None:
        super().__init__(math.prod(patch), math.prod(patch), hidden, depth, heads, mlp_ratio)
        check_patches(type(self).__name__, features, shape, patch)
        if hidden % 6:
            raise CalomanError(f"PatchTransformer: hidden = {hidden} is not a multiple of 6; change it")
        self.mesh, self.patch = shape, patch
        self.cells = [size // width for size, width in zip(shape, patch, strict=True)]
        self.condition = Condition(context, hidden)
        self.register_buffer("place", _places(self.cells), persistent=False)
        frequencies = torch.logspace(0, math.log10(math.pi * max(self.cells)), hidden // 6)
        self.frequencies = nn.Parameter(frequencies.repeat(3, 1))

    def forward(self, points: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        patches = to_patches(points.unflatten(1, (1, *self.mesh)), self.patch).flatten(2).transpose(1, 2)
        velocities = self.transform(patches, self.positions(), self.condition(time, context))
        return from_patches(velocities.transpose(1, 2).unflatten(2, self.cells), self.patch).flatten(1)

    def positions(self) -> Tensor:
        """Added to the tokens to tell their places, shape (tokens, hidden)."""
        phases = (self.place.unsqueeze(2) * self.frequencies).flatten(1)
        return torch.cat([phases.sin(), phases.cos()], dim=1)


def _places(shape: Sequence[int]) -> Tensor:
    """Cartesian coordinates (cells, 3) of cells, in units of the length and of the radius of the mesh."""
    z, alpha, r = (torch.arange(size) / size for size in shape)
    z, alpha, r = (axis.flatten() for axis in torch.meshgrid(z, 2 * math.pi * alpha, r + 0.5 / shape[2], indexing="ij"))
    return torch.stack([z, r * alpha.cos(), r * alpha.sin()], dim=1)


def check_patches(name: str, features: int, shape: Mesh, patch: Mesh) -> None:
    """Raises a `CalomanError`, in the name of a network, unless patches fill a mesh of the given features."""
    if math.prod(shape) != features:
        raise CalomanError(
            f"{name}: shape = {shape} has {math.prod(shape)} voxels, but the vectors have "
            f"{features}; give the voxels of the mesh along z, alpha and r"
        )
    if any(size % width for size, width in zip(shape, patch, strict=True)):
        raise CalomanError(f"{name}: patch = {patch} does not divide shape = {shape}; choose divisors")
