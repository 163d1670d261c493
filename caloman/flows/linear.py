"""Linear transforms that mix the entries between couplings."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.flows.transform import Transform


class Permutation(Transform):
    """A fixed random order of the entries.

    Args:
        features: size of the vectors.
    """

    order: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("order", torch.randperm(features))

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return inputs.index_select(1, self.order.argsort()), inputs.new_zeros(inputs.shape[0])

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return inputs.index_select(1, self.order), inputs.new_zeros(inputs.shape[0])


class LULinear(Transform):
    """A square matrix in LU form that starts as the identity.

    The matrix acts in the direction of generation, which is therefore a product; only training solves for it.

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
        with _full_precision(inputs.device.type):
            outputs = inputs.to(self.bias.dtype) @ (lower @ upper).T + self.bias
        return outputs, log_det.expand(inputs.shape[0])


def _full_precision(device: str) -> AbstractContextManager[object]:
    """Switches autocast off: a product in half precision would not undo the solves of the other direction."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
