"""A density on the voxels themselves (CaloFlow)."""

from collections.abc import Callable

from torch import Tensor

from caloman.models.density import Density
from caloman.models.shape import ShapeModel
from caloman.showers.geometry import Geometry


class FlowShape(ShapeModel):
    """A density of the voxels themselves.

    Args:
        geometry: the voxel mesh.
        context: size of the condition.
        density: the density of the shapes.

    References:
        CaloFlow (arXiv:2106.05285, arXiv:2110.11377, arXiv:2210.14245), flow II.
    """

    def __init__(self, geometry: Geometry, context: int, density: Callable[[int, int], Density]) -> None:
        super().__init__()
        self.density = density(geometry.n_voxels, context)
        self.noise_blocks = {"voxels": self.density.noise_dim}

    def forward(self, noise: Tensor, context: Tensor) -> Tensor:
        return self.density.sample(noise, context)
