"""The monotone rational-quadratic spline as one pure function.

References:
    Durkan et al., Neural Spline Flows (arXiv:1906.04032).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_BIN = 1e-3
MIN_DERIVATIVE = 1e-3
_UNIT_SLOPE = math.log(math.expm1(1 - MIN_DERIVATIVE))


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
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    inputs = inputs.to(dtype)
    # bins on the first axis: kernels then run over long rows instead of a handful of bins
    widths, heights, derivatives = (t.to(dtype).movedim(-1, 0) for t in (widths, heights, derivatives))
    inside = inputs.abs() < bound
    # clamped before and selected after: a NaN in the unselected branch would poison the gradient
    values = inputs.clamp(-bound, bound).unsqueeze(0)

    x_sizes, x_ends = _bins(widths, bound)
    y_sizes, y_ends = _bins(heights, bound)
    level = torch.zeros_like(values)  # slope 1 at both ends of the box
    slopes = torch.cat([level, derivatives, level])

    ends = y_ends if inverse else x_ends
    index = (values >= ends[:-1]).sum(dim=0, keepdim=True, dtype=torch.int32).long()
    tables = (x_sizes, x_ends, y_sizes, y_ends, slopes[:-1], slopes[1:])
    w, x, h, y, d0, d1 = (table.gather(0, index) for table in tables)
    x, y, d0, d1 = x - w, y - h, _slope(d0), _slope(d1)
    s = h / w
    curvature = d0 + d1 - 2 * s
    if inverse:
        delta = values - y
        a = h * (s - d0) + delta * curvature
        b = h * d0 - delta * curvature
        root = (b * b + 4 * a * s * delta).clamp(min=1e-30).sqrt()  # not 0, where the slope of the root is infinite
        falls = b < 0  # then b + root cancels, and the other form of the root does not
        position = torch.where(falls, root - b, 2 * s * delta) / torch.where(falls, 2 * a, b + root)
        position = position.clamp(0, 1)
        outputs = x + w * position
    else:
        position = (values - x) / w
        outputs = y + h * _ratio(position, s, d0, curvature)
    outputs, log_slope = outputs.squeeze(0), _log_slope(position, s, d0, d1, curvature).squeeze(0)
    zero = torch.zeros_like(inputs)
    return torch.where(inside, outputs, inputs), torch.where(inside, -log_slope if inverse else log_slope, zero)


def _bins(logits: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Sizes and upper ends of the bins, both of shape (K, *)."""
    sizes = 2 * bound * (1 - MIN_BIN * len(logits)) * logits.softmax(dim=0) + 2 * bound * MIN_BIN
    return sizes, sizes.cumsum(dim=0) - bound


def _slope(derivative: Tensor) -> Tensor:
    return MIN_DERIVATIVE + F.softplus(derivative + _UNIT_SLOPE)


def _ratio(position: Tensor, s: Tensor, d0: Tensor, curvature: Tensor) -> Tensor:
    cross = position * (1 - position)
    return (s * position**2 + d0 * cross) / (s + curvature * cross)


def _log_slope(position: Tensor, s: Tensor, d0: Tensor, d1: Tensor, curvature: Tensor) -> Tensor:
    cross = position * (1 - position)
    numerator = d1 * position**2 + 2 * s * cross + d0 * (1 - position) ** 2
    return 2 * s.log() + numerator.log() - 2 * (s + curvature * cross).log()
