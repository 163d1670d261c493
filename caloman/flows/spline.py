"""The monotone rational-quadratic spline as one pure function.

References:
    Durkan et al., Neural Spline Flows (arXiv:1906.04032).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from caloman.nn.precision import at_least_float32

MIN_BIN = 1e-3
MIN_DERIVATIVE = 1e-3
UNIT_SLOPE = math.log(math.expm1(1 - MIN_DERIVATIVE))


def rational_quadratic_spline(
    inputs: Tensor, widths: Tensor, heights: Tensor, derivatives: Tensor, bound: float, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Maps [-bound, bound] onto itself with K rational-quadratic pieces, and is the identity outside.

    All parameters are unconstrained; zeros give the identity. The computation runs in float32 or wider whatever the
    precision of the inputs, because the quadratic loses all digits in half precision.

    Args:
        inputs: values, shape (*).
        widths: logits of the bin widths, shape (*, K).
        heights: logits of the bin heights, shape (*, K).
        derivatives: slopes at the K - 1 inner knots before softplus, shape (*, K - 1).
        bound: half the side of the box.
        inverse: apply the inverse instead.

    Returns:
        The outputs and the logarithms of the derivatives of the applied direction, both of shape (*).
    """
    inputs = at_least_float32(inputs)
    # bins in front of the entries: kernels then run over long rows instead of a handful of bins
    logits = torch.stack([widths.movedim(-1, 0), heights.movedim(-1, 0)])
    derivatives = derivatives.movedim(-1, 0)
    piece = _choose(inputs, logits.to(inputs.dtype), derivatives.to(inputs.dtype), bound, inverse)
    outputs, log_slope = piece.inverse(inputs) if inverse else piece.forward(inputs)
    inside = inputs.abs() < bound
    return torch.where(inside, outputs, inputs), torch.where(inside, log_slope, torch.zeros_like(inputs))


class _Piece(NamedTuple):
    """The piece of each input; all of shape (*).

    In units of half a bin, positions and places run from -1 to 1, clamped: a NaN outside would poison the gradient,
    although it is not selected.

    Args:
        x: middle of the bin.
        y: middle of its image.
        width: half the width of the bin.
        height: half the height of its image.
        left: half the slope at the left end, where that of the diagonal is 1.
        right: the same at the right end.
    """

    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    left: Tensor
    right: Tensor

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        position = ((inputs - self.x) / self.width).clamp(-1, 1)
        cross = (1 - position.square()) / 2
        place = (position + (self.left - self.right) * cross) / (1 + (self.left + self.right - 1) * cross)
        return self.y + self.height * place, self._log_slope(position)

    def inverse(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        place = ((inputs - self.y) / self.height).clamp(-1, 1)
        before, after = 1 + place, 1 - place
        u = self.left * after - self.right * before
        position = (place - u) / (1 + (u.square() + before * after).sqrt())  # without cancellation, and never 0 / 0
        return self.x + self.width * position, -self._log_slope(position)

    def _log_slope(self, position: Tensor) -> Tensor:
        before, after = 1 + position, 1 - position
        cross = before * after / 2
        numerator = self.left * after.square() / 2 + cross + self.right * before.square() / 2
        return (self.height / self.width * numerator).log() - 2 * (1 + (self.left + self.right - 1) * cross).log()


def _choose(inputs: Tensor, logits: Tensor, derivatives: Tensor, bound: float, inverse: bool) -> _Piece:
    """The pieces of inputs (*), from logits of widths and heights (2, K, *) and derivatives (K - 1, *)."""
    n_bins = logits.shape[1]
    sizes = 2 * bound * (1 - MIN_BIN * n_bins) * logits.softmax(dim=1) + 2 * bound * MIN_BIN
    ends = sizes.cumsum(dim=1) - bound
    index = (inputs >= ends[int(inverse), :-1]).sum(dim=0, keepdim=True, dtype=torch.int32).long()
    both = torch.cat([index, index]).unsqueeze(1)
    half = sizes.gather(1, both).squeeze(1) / 2
    x, y = ends.gather(1, both).squeeze(1) - half
    width, height = half
    knots = torch.cat([index, index + 1])
    slopes = F.softplus(_with_level_ends(derivatives).gather(0, knots) + UNIT_SLOPE) + MIN_DERIVATIVE
    left, right = slopes * (width / (2 * height))
    return _Piece(x, y, width, height, left, right)


def _with_level_ends(derivatives: Tensor) -> Tensor:
    """Derivatives (K - 1, *) between zeros, which stand for slope 1 at both ends of the box."""
    return F.pad(derivatives, (0, 0) * (derivatives.dim() - 1) + (1, 1))
