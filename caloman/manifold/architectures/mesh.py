"""A regular mesh, cut into patches."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from caloman.errors import CalomanError
from caloman.nn.cylinder import from_patches, to_patches
from caloman.showers.geometry import Geometry


class Mesh:
    """A regular mesh in patches, and the numbers of a context for its layers.

    Args:
        geometry: the voxel mesh.
        context: size of the condition: the incident energy, then groups of one number for each layer, and what follows.
        patch: voxels along z, alpha and r that make a cell.
        directions: whether the numbers of a cell tell its alpha, too, as sine and cosine.

    Raises:
        CalomanError: if the layers differ, or the patch does not divide them.
    """

    def __init__(self, geometry: Geometry, context: int, patch: Sequence[int], directions: bool = False) -> None:
        if geometry.grid is None:
            raise CalomanError(f"the layers of dataset {geometry.name!r} differ; use a DenseArchitecture")
        self.voxels = geometry.grid
        if any(size % step for size, step in zip(self.voxels, patch, strict=True)):
            raise CalomanError(f"patch = {list(patch)} does not divide the mesh {list(self.voxels)}")
        self.patch = list(patch)
        self.cells = [size // step for size, step in zip(self.voxels, patch, strict=True)]
        self.per_layer = (context - 1) // geometry.n_layers
        self.directions = directions
        self.context_channels = self.per_layer * patch[0] + 2 * directions

    def split(self, voxels: Tensor) -> Tensor:
        """Numbers of voxels (N, k * V) as cells (N, k * size of a patch, z', alpha', r')."""
        return to_patches(voxels.unflatten(1, (-1, *self.voxels)), self.patch)

    def join(self, cells: Tensor) -> Tensor:
        """Undoes `split`."""
        return from_patches(cells, self.patch).flatten(1)

    def with_context(self, cells: Tensor, context: Tensor) -> Tensor:
        """Cells (N, c, z', alpha', r') joined to the numbers of a context (N, C) for their layers."""
        known = [cells]
        if self.per_layer:
            layers = context[:, 1 : 1 + self.per_layer * self.voxels[0]].unflatten(1, (-1, self.voxels[0], 1, 1))
            known.append(to_patches(layers, (self.patch[0], 1, 1)).expand(-1, -1, -1, *self.cells[1:]))
        if self.directions:
            turn = 2 * math.pi / self.cells[1]
            alpha = (turn * (torch.arange(self.cells[1], device=cells.device) + 0.5) - math.pi).to(cells.dtype)
            axes = torch.stack([alpha.sin(), alpha.cos()])[:, None, :, None]
            known.append(axes.expand(len(cells), -1, self.cells[0], -1, self.cells[2]))
        return torch.cat(known, dim=1)
