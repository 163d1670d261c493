"""Linear transforms that mix or scale the entries between the others."""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.flows.transform import Transform
from caloman.nn.moments import mean_and_variance
from caloman.nn.precision import full_precision


class Permutation(Transform):
    """A fixed order of the entries: random, or the reverse one.

    Args:
        features: size of the vectors.
        reverse: reverse instead of drawing at random.
        groups: sizes of consecutive groups, such as layers, within which the entries stay; one group if left out.

    Raises:
        CalomanError: if the groups do not add up to the features.
    """

    order: Tensor

    def __init__(self, features: int, reverse: bool = False, groups: Sequence[int] | None = None) -> None:
        super().__init__()
        if groups and sum(groups) != features:
            raise CalomanError(f"groups = {list(groups)} of a permutation add up to {sum(groups)}, not {features}")
        parts = torch.arange(features).split(list(groups or [features]))
        orders = [part.flip(0) if reverse else part[torch.randperm(len(part))] for part in parts]
        self.register_buffer("order", torch.cat(orders))

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return inputs.index_select(1, self.order.argsort()), inputs.new_zeros(inputs.shape[0])

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return inputs.index_select(1, self.order), inputs.new_zeros(inputs.shape[0])


class LULinear(Transform):
    """A square matrix in LU form; it starts as the identity.

    Generation multiplies by the matrix; only the density solves for it.

    Args:
        features: size of the vectors.
    """

    identity: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.lower = nn.Parameter(torch.zeros(features, features))
        self.upper = nn.Parameter(torch.zeros(features, features))
        self.raw_diagonal = nn.Parameter(torch.full((features,), math.log(math.expm1(1.0))))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("identity", torch.eye(features), persistent=False)

    def _factors(self) -> tuple[Tensor, Tensor, Tensor]:
        diagonal = F.softplus(self.raw_diagonal)
        return self.lower.tril(-1) + self.identity, self.upper.triu(1) + diagonal.diag(), diagonal.log().sum()

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper, log_det = self._factors()
        columns = (inputs.to(self.bias.dtype) - self.bias).T
        columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        outputs = torch.linalg.solve_triangular(upper, columns, upper=True).T
        return outputs, -log_det.expand(inputs.shape[0])

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper, log_det = self._factors()
        with full_precision(inputs.device.type):
            outputs = inputs.to(self.bias.dtype) @ (lower @ upper).T + self.bias
        return outputs, log_det.expand(inputs.shape[0])


class ActNorm(Transform):
    """Shift and scale of each entry. `fit` standardizes the data with them; training goes on from there.

    Args:
        features: size of the vectors.

    References:
        Kingma & Dhariwal, Glow (arXiv:1807.03039).
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.shift = nn.Parameter(torch.zeros(features))

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Sets shift and scale from batches (n, D) of its inputs."""
        mean, variance = mean_and_variance(batches)
        self.shift.copy_(mean)
        self.log_scale.copy_(variance.clamp(min=1e-12).log() / -2)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (inputs - self.shift) * self.log_scale.exp(), self.log_scale.sum().expand(len(inputs))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return inputs * (-self.log_scale).exp() + self.shift, -self.log_scale.sum().expand(len(inputs))
