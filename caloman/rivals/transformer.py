"""Spline couplings of patches of a regular mesh, conditioned by vision transformers.

References:
    Favaro, Giammanco & Krause, ViT-cINN (arXiv:2509.25169).
"""

import math
from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.flows.coupling import Coupling
from caloman.flows.elementwise import Spline
from caloman.flows.flow import Flow
from caloman.flows.linear import ActNorm, Permutation
from caloman.flows.transform import Transform
from caloman.nn.cylinder import to_patches
from caloman.nn.mlp import MLP
from caloman.rivals.patches import Mesh, TokenTransformer, check_patches


class TransformerCouplingFlow(Flow):
    """Pairs of spline couplings: one half of the patches sets the maps of the other half, then the other way round.

    A patch of the mesh (z, alpha, r) is a token. New halves are drawn at random after each pair. The flow starts as a
    permutation of entries with one mean and one variance in all.

    Args:
        features: size D of the vectors, the voxels of the mesh.
        context: size of the condition; 0 for none.
        shape: voxels along z, alpha and r.
        patch: voxels of a patch along z, alpha and r.
        transforms: number of couplings.
        bins: pieces of the spline.
        bound: half the side of the spline's box.
        hidden: width of a token, a multiple of the heads.
        depth: number of blocks of each conditioner.
        heads: of each attention.
        mlp_ratio: width of the dense networks over that of a token.

    Raises:
        CalomanError: if the patches do not fill the mesh in two equal halves, or the width is no multiple of the heads.
    """

    def __init__(
        self,
        features: int,
        context: int,
        shape: Mesh,
        patch: Mesh,
        transforms: int = 40,
        bins: int = 10,
        bound: float = 8.0,
        hidden: int = 192,
        depth: int = 3,
        heads: int = 4,
        mlp_ratio: int = 4,
    ) -> None:
        check_patches(type(self).__name__, features, shape, patch)
        size = math.prod(patch)
        if features // size % 2:
            raise CalomanError(
                f"TransformerCouplingFlow: patch = {patch} cuts shape = {shape} into {features // size} patches, which "
                "cannot be halved; choose a patch with an even number of them"
            )
        network = partial(TokenConditioner, patch=size, hidden=hidden, depth=depth, heads=heads, mlp_ratio=mlp_ratio)
        voxels = torch.arange(features).reshape(1, 1, *shape)
        chain: list[Transform] = [CommonNorm(features), _permutation(to_patches(voxels, patch).flatten(2).mT)]
        even = torch.arange(features, device="cpu") // size % 2 == 0
        for i in range(transforms):
            chain += [Coupling(~even if i % 2 else even, context, Spline(bins, bound), network)]
            chain += [_permutation(voxels.reshape(-1, size)[torch.randperm(features // size)])] if i % 2 else []
        super().__init__(features, chain)


class TokenConditioner(TokenTransformer):
    """The parameters of moved patches from as many kept ones, with the interface of `ResidualMLP`.

    A token takes in a kept patch and gives the parameters of a moved one. Its learned position stands for both.

    Args:
        features: size of the kept patches.
        context: size of the condition; 0 for none.
        out_features: number of parameters of all entries of the moved patches.
        patch: size of a patch.
        hidden: as all that follow, see `TokenTransformer`.
    """

    def __init__(
        self, features: int, context: int, out_features: int, patch: int, hidden: int, depth: int, heads: int,
        mlp_ratio: int,
    ) -> None:  # fmt: skip
        super().__init__(patch, out_features * patch // features, hidden, depth, heads, mlp_ratio)
        self.patch = patch
        self.positions = nn.Parameter(torch.randn(features // patch, hidden))
        self.condition = MLP(context, [hidden], hidden, nn.SiLU) if context else None

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Maps inputs (N, features) and context (N, context) to (N, out_features), parameters of one kind together."""
        condition = self.positions.new_zeros(len(inputs), self.positions.shape[1])
        if self.condition is not None:
            condition = F.silu(self.condition(context))
        outputs = self.transform(inputs.unflatten(1, (-1, self.patch)), self.positions, condition)
        return outputs.unflatten(2, (-1, self.patch)).transpose(1, 2).flatten(1)


class CommonNorm(ActNorm):
    """One shift and one scale for all entries: voxels that are hardly ever hit keep their hits within reach.

    Args:
        features: size of the vectors.
    """

    def __init__(self, features: int) -> None:
        super().__init__(1)
        self.features = features

    def fit(self, batches: Iterable[Tensor]) -> None:
        super().fit(batch.reshape(-1, 1) for batch in batches)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        outputs, log_det = super().forward(inputs)
        return outputs, self.features * log_det

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        outputs, log_det = super().inverse(inputs)
        return outputs, self.features * log_det


def _permutation(entries: Tensor) -> Permutation:
    """The order in which given entries come, one after the other."""
    permutation = Permutation(entries.numel())
    permutation.order = entries.flatten().argsort()
    return permutation
