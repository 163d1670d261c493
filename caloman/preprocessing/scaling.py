"""Invertible rescalings with statistics that are fitted once and travel with the model as buffers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.nn.moments import mean_and_variance
from caloman.nn.precision import full_precision


class Scaling(nn.Module, ABC):
    """An invertible map of vectors (N, D) with fitted statistics; the identity until `fit`.

    Args:
        features: size D of the vectors.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    @abstractmethod
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fits the statistics on batches (n, D) of the training data."""

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Scales inputs (N, D)."""

    @abstractmethod
    def inverse(self, inputs: Tensor) -> Tensor:
        """Undoes `forward`."""

    @abstractmethod
    def log_det(self, inputs: Tensor) -> Tensor:
        """Logarithm of |det J| of `forward` at inputs (N, D), shape (N,)."""


class Standardize(Scaling):
    """Zero mean and unit variance per entry; a constant entry is only shifted."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def fit(self, batches: Iterable[Tensor]) -> None:
        mean, variance = mean_and_variance(batches)
        std = variance.sqrt()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6 * mean.abs() + 1e-12, std, torch.ones_like(std)))

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs - self.mean) / self.std

    def inverse(self, inputs: Tensor) -> Tensor:
        return inputs * self.std + self.mean

    def log_det(self, inputs: Tensor) -> Tensor:
        return -self.std.log().sum().expand(len(inputs))


class LogStandardize(Standardize):
    """Zero mean and unit variance of log(x + 1e-4), for entries from zero to many decades."""

    offset = 1e-4  # keeps zeros finite; entries well below it look alike

    def fit(self, batches: Iterable[Tensor]) -> None:
        super().fit((batch + self.offset).log() for batch in batches)

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward((inputs + self.offset).log())

    def inverse(self, inputs: Tensor) -> Tensor:
        return super().inverse(inputs).exp() - self.offset

    def log_det(self, inputs: Tensor) -> Tensor:
        return super().log_det(inputs) - (inputs + self.offset).log().sum(dim=1)


class Log(Scaling):
    """Natural logarithm of positive entries; nothing is fitted."""

    def fit(self, batches: Iterable[Tensor]) -> None: ...

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.log()

    def inverse(self, inputs: Tensor) -> Tensor:
        return inputs.exp()

    def log_det(self, inputs: Tensor) -> Tensor:
        return -inputs.log().sum(dim=1)


class Logit(Scaling):
    """logit(alpha + (1 - 2 alpha) x) for entries between 0 and 1; nothing is fitted.

    Args:
        features: size of the vectors.
        alpha: margin that keeps the logit finite.
    """

    def __init__(self, features: int, alpha: float = 1e-6) -> None:
        super().__init__(features)
        self.alpha = alpha

    def fit(self, batches: Iterable[Tensor]) -> None: ...

    def forward(self, inputs: Tensor) -> Tensor:
        scale = 1 - 2 * self.alpha
        return (self.alpha + scale * inputs).log() - (self.alpha + scale * (1 - inputs)).log()

    def inverse(self, inputs: Tensor) -> Tensor:
        return (inputs.sigmoid() - self.alpha) / (1 - 2 * self.alpha)

    def log_det(self, inputs: Tensor) -> Tensor:
        logits = self(inputs)
        log_slopes = math.log(1 - 2 * self.alpha) - F.logsigmoid(logits) - F.logsigmoid(-logits)
        return log_slopes.sum(dim=1)


class MaxAbs(Scaling):
    """Division by the largest absolute value of the training data, as in the published CaloMan code."""

    scale: Tensor

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.register_buffer("scale", torch.ones(()))

    def fit(self, batches: Iterable[Tensor]) -> None:
        self.scale.copy_(torch.stack([batch.abs().max() for batch in batches]).max())

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs / self.scale

    def inverse(self, inputs: Tensor) -> Tensor:
        return inputs * self.scale

    def log_det(self, inputs: Tensor) -> Tensor:
        return (-inputs.shape[1] * self.scale.log()).expand(len(inputs))


class Whiten(Scaling):
    """Zero mean and unit covariance, with directions of no variance left as they are."""

    mean: Tensor
    matrix: Tensor
    inverse_matrix: Tensor

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("matrix", torch.eye(features))
        self.register_buffer("inverse_matrix", torch.eye(features))

    def fit(self, batches: Iterable[Tensor]) -> None:
        count, total, products = 0, torch.zeros(()), torch.zeros(())
        for batch in batches:
            rows = batch.double()
            count, total, products = count + len(batch), total + rows.sum(0), products + rows.T @ rows
        mean = total / count
        variances, directions = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        std = torch.where(variances > 1e-12 * variances.max(), variances.clamp(min=0).sqrt(), 1.0)
        self.mean.copy_(mean)
        self.matrix.copy_(directions / std)
        self.inverse_matrix.copy_((directions * std).T)

    def forward(self, inputs: Tensor) -> Tensor:
        with full_precision(inputs.device.type):
            return (inputs - self.mean) @ self.matrix

    def inverse(self, inputs: Tensor) -> Tensor:
        with full_precision(inputs.device.type):
            return inputs.to(self.mean.dtype) @ self.inverse_matrix + self.mean

    def log_det(self, inputs: Tensor) -> Tensor:
        # the matrix is a rotation with scaled columns
        return self.matrix.norm(dim=0).log().sum().expand(len(inputs))
