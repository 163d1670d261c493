"""A regular mesh, cut into patches."""

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
        context: size of the condition: the incident energy, then groups of one number for each layer.
        patch: voxels along z, alpha and r that make a cell.

    Raises:
        CalomanError: if the layers differ, or the patch does not divide them.
    """

    def __init__(self, geometry: Geometry, context: int, patch: Sequence[int]) -> None:
        if geometry.grid is None:
            raise CalomanError(f"the layers of dataset {geometry.name!r} differ; use a DenseArchitecture")
        self.voxels = geometry.grid
        if any(size % step for size, step in zip(self.voxels, patch, strict=True)):
            raise CalomanError(f"patch = {list(patch)} does not divide the mesh {list(self.voxels)}")
        self.patch = list(patch)
        self.cells = [size // step for size, step in zip(self.voxels, patch, strict=True)]
        self.per_layer = (context - 1) // geometry.n_layers
        self.context_channels = self.per_layer * patch[0]

    def split(self, voxels: Tensor) -> Tensor:
        """Numbers of voxels (N, k * V) as cells (N, k * size of a patch, z', alpha', r')."""
        return to_patches(voxels.unflatten(1, (-1, *self.voxels)), self.patch)

    def join(self, cells: Tensor) -> Tensor:
        """Undoes `split`."""
        return from_patches(cells, self.patch).flatten(1)

    def with_context(self, cells: Tensor, context: Tensor) -> Tensor:
        """Cells (N, c, z', alpha', r') joined to the numbers of a context (N, C) for their layers."""
        if not self.per_layer:
            return cells
        layers = context[:, 1 : 1 + self.per_layer * self.voxels[0]].unflatten(1, (-1, self.voxels[0], 1, 1))
        known = to_patches(layers, (self.patch[0], 1, 1)).expand(-1, -1, -1, *self.cells[1:])
        return torch.cat([cells, known], dim=1)
