"""Decoder heads for the fractions of a layer's energy, decoded to their mean."""

from abc import abstractmethod
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from caloman.errors import CalomanError
from caloman.manifold.heads import DeterministicHead
from caloman.nn.moments import mean_and_variance
from caloman.nn.precision import at_least_float32
from caloman.preprocessing.layers import LayerMap
from caloman.showers.geometry import Geometry


class FractionHead(DeterministicHead):
    """A cross-entropy between fractions and their mean, one output per voxel.

    The minimum is at the mean of the data, but this is no density of the fractions: each of them counts as the
    probability of a hit. The outputs are measured from the mean shape of the training showers.
    """

    average: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.n_parameters = geometry.n_voxels
        self.register_buffer("average", torch.full((geometry.n_voxels,), 0.5))

    def fit(self, shapes: Iterable[Tensor]) -> None:
        """Fits the mean shape.

        Raises:
            CalomanError: if the head does not fit the shapes.
        """
        mean, _ = mean_and_variance(self.checked(batch) for batch in shapes)
        self.average.copy_(mean.clamp(1e-6, 1 - 1e-6))

    @abstractmethod
    def checked(self, shapes: Tensor) -> Tensor:
        """The shapes (N, V), if the head fits them."""


class BernoulliHead(FractionHead):
    """A binary cross-entropy in each voxel.

    References:
        CaloVAE+INN (arXiv:2312.09290); the autoencoder of CaloDREAM (arXiv:2405.09629).
    """

    def checked(self, shapes: Tensor) -> Tensor:
        if shapes.max() > 1 + 1e-5:
            raise CalomanError("BernoulliHead needs shapes between 0 and 1; use a LayerwiseTransform")
        return shapes

    def log_prob(self, parameters: Tensor, shapes: Tensor) -> Tensor:
        logits = self._logits(parameters)
        return -F.binary_cross_entropy_with_logits(logits, shapes, reduction="none").sum(dim=1)

    def mean(self, parameters: Tensor) -> Tensor:
        return self._logits(parameters).sigmoid()

    def _logits(self, parameters: Tensor) -> Tensor:
        return self.average.logit() + at_least_float32(parameters)


class SoftmaxHead(FractionHead):
    """A softmax over the voxels of each layer: unit sums by construction, and the cross-entropy with the fractions.

    References:
        Calo-VQ (arXiv:2405.06605).
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self.layers = LayerMap(geometry)

    def checked(self, shapes: Tensor) -> Tensor:
        sums = self.layers.sum(shapes)
        if not torch.all((sums == 0) | torch.isclose(sums, torch.ones_like(sums), rtol=0, atol=1e-3)):
            raise CalomanError("SoftmaxHead needs shapes of unit sum in each layer; use a LayerwiseTransform")
        return shapes

    def log_prob(self, parameters: Tensor, shapes: Tensor) -> Tensor:
        return (shapes * self._log_fractions(parameters)).sum(dim=1)

    def mean(self, parameters: Tensor) -> Tensor:
        return self._log_fractions(parameters).exp()

    def _log_fractions(self, parameters: Tensor) -> Tensor:
        layers = (self.average.log() + at_least_float32(parameters)).split(self.layers.sizes, dim=1)
        return torch.cat([layer.log_softmax(dim=1) for layer in layers], dim=1)
