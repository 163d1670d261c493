"""A transformer on patches of a regular mesh, as a velocity network.

References:
    CaloDREAM (arXiv:2405.09629).
"""

import math

from torch import Tensor

from caloman.errors import CalomanError
from caloman.nn.cylinder import from_patches, to_patches
from caloman.rivals.transformer import CellTransformer
from caloman.rivals.velocity import Condition, VelocityNetwork

Mesh = tuple[int, int, int]


class PatchTransformer(CellTransformer, VelocityNetwork):
    """Attention between patches of the mesh (z, alpha, r), each of which is a token.

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
        CalomanError: if the patches do not fill the mesh, or the width cannot be shared out.
    """

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
        _check(features, shape, patch)
        cells = [size // width for size, width in zip(shape, patch, strict=True)]
        size = math.prod(patch)
        super().__init__(Condition(context, hidden), cells, size, size, hidden, depth, heads, mlp_ratio)
        self.mesh, self.patch = shape, patch

    def forward(self, points: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        cells = to_patches(points.unflatten(1, (1, *self.mesh)), self.patch)
        return from_patches(self.attend(cells, self.condition(time, context)), self.patch).flatten(1)


def _check(features: int, shape: Mesh, patch: Mesh) -> None:
    if math.prod(shape) != features:
        raise CalomanError(
            f"PatchTransformer: shape = {shape} has {math.prod(shape)} voxels, but the vectors have "
            f"{features}; give the voxels of the mesh along z, alpha and r"
        )
    if any(size % width for size, width in zip(shape, patch, strict=True)):
        raise CalomanError(f"PatchTransformer: patch = {patch} does not divide shape = {shape}; choose divisors")
