"""Training of a copula: the voxels one by one, then together."""

import torch
from torch import Tensor

from caloman.errors import CalomanError
from caloman.rivals import CopulaShape
from caloman.training.data import Batch
from caloman.training.tasks import ShapeTask


class MarginalsTask(ShapeTask):
    """Trains the marginals of the voxels by maximum likelihood."""

    part = "shape.marginals"

    @property
    def shape(self) -> CopulaShape:
        """The shape model."""
        shape = self.model.shape
        if not isinstance(shape, CopulaShape):
            raise CalomanError(f"{type(self).__name__} needs a CopulaShape, not a {type(shape).__name__}")
        return shape

    def noise(self, shapes: Tensor, context: Tensor) -> Tensor:
        """The noise (n, V) to draw voxels (n, V) from: independent, unless their density is what is trained."""
        return torch.randn_like(shapes)

    def showers(self, batch: Batch) -> Tensor:
        """Showers of the noise with the true layer energies."""
        shapes, context, layer_energies = self.model.transform(*batch)
        shapes = self.shape.marginals.sample(self.noise(shapes, context), context)
        return self.model.transform.inverse(shapes, batch[1], layer_energies)

    def losses(self, x: Tensor, context: Tensor) -> dict[str, Tensor]:
        return {"loss": self.shape.marginals.loss(x, context)}


class CopulaTask(MarginalsTask):
    """Trains the density of the voxels' noise by its own loss."""

    part = "shape.density"
    upstream = ("shape.marginals",)

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        shapes, context = super().inputs(batch)
        return self.shape.marginals.to_noise(shapes, context), context

    def noise(self, shapes: Tensor, context: Tensor) -> Tensor:
        return self.shape.density.sample(super().noise(shapes, context), context)

    def losses(self, x: Tensor, context: Tensor) -> dict[str, Tensor]:
        return {"loss": self.shape.density.loss(x, context)}
