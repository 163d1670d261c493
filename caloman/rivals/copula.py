"""The distribution of each voxel by itself, and a copula for the correlations between voxels."""

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from caloman.manifold import HurdleHead
from caloman.models.density import Density
from caloman.models.shape import ShapeModel
from caloman.nn.mlp import MLP, start_at_zero
from caloman.preprocessing.scaling import Standardize
from caloman.showers.geometry import Geometry


class Marginals(nn.Module):
    """Each voxel under the condition, as if it were alone: a hit or nothing, and the size of a hit.

    Args:
        geometry: the voxel mesh with V voxels.
        context: size C of the condition.
        hidden: sizes of the hidden layers of the network for the parameters of the voxels.
    """

    def __init__(self, geometry: Geometry, context: int, hidden: Sequence[int] = (256, 256)) -> None:
        super().__init__()
        self.head = HurdleHead(geometry)
        self.context_scaling = Standardize(context)
        self.network = MLP(context, hidden, self.head.n_parameters, nn.SiLU)
        start_at_zero(self.network[-1])

    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Fits all statistics on batches of shapes (n, V) and contexts (n, C)."""
        self.head.fit(shapes for shapes, _ in batches())
        self.context_scaling.fit(context for _, context in batches())

    def loss(self, shapes: Tensor, context: Tensor) -> Tensor:
        """Mean of the sum of -log p over the voxels of shapes (N, V) under contexts (N, C)."""
        return -self.head.log_prob(self._outputs(context), shapes).mean()

    def to_noise(self, shapes: Tensor, context: Tensor) -> Tensor:
        """Shapes (N, V) as noise (N, V), each entry of which is standard normal under its context (N, C)."""
        return self.head.to_noise(self._outputs(context), shapes)

    def sample(self, noise: Tensor, context: Tensor) -> Tensor:
        """Undoes `to_noise`."""
        return self.head.sample(self._outputs(context), noise)

    def _outputs(self, context: Tensor) -> Tensor:
        return self.network(self.context_scaling(context))


class CopulaShape(ShapeModel):
    """Marginals of the voxels, and a density of their noise: the copula, which holds all correlations (Sklar).

    The noise of a voxel has no zeros, no decades and, by itself, no dependence on the energy: there is little to learn.

    Args:
        geometry: the voxel mesh with V voxels.
        context: size C of the condition.
        density: of the noise, trained when the marginals are fixed.
        marginals: of the voxels.
    """

    def __init__(
        self,
        geometry: Geometry,
        context: int,
        density: Callable[[int, int], Density],
        marginals: Callable[[Geometry, int], Marginals] = Marginals,
    ) -> None:
        super().__init__()
        self.marginals = marginals(geometry, context)
        self.density = density(geometry.n_voxels, context)
        self.noise_blocks = {"voxels": self.density.noise_dim}

    def forward(self, noise: Tensor, context: Tensor) -> Tensor:
        return self.marginals.sample(self.density.sample(noise, context), context)
