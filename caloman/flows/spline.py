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
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    inputs = inputs.to(dtype)
    # clamped before and selected after: a NaN in the unselected branch would poison the gradient
    values = inputs.clamp(-bound, bound).unsqueeze(0)
    # bins in front of the entries: kernels then run over long rows instead of a handful of bins
    logits = torch.stack([widths.movedim(-1, 0), heights.movedim(-1, 0)]).to(dtype)
    sizes = 2 * bound * (1 - MIN_BIN * logits.shape[1]) * logits.softmax(dim=1) + 2 * bound * MIN_BIN
    ends = sizes.cumsum(dim=1) - bound
    slopes = _with_level_ends(derivatives.movedim(-1, 0).to(dtype))

    index = (values >= ends[int(inverse), :-1]).sum(dim=0, keepdim=True, dtype=torch.int32).long()
    both = torch.cat([index, index]).unsqueeze(1)
    size = sizes.gather(1, both).squeeze(1)
    w, h = size.split(1)
    x, y = (ends.gather(1, both).squeeze(1) - size).split(1)
    d0, d1 = _slope(slopes.gather(0, torch.cat([index, index + 1]))).split(1)
    s = h / w
    curvature = d0 + d1 - 2 * s
    if inverse:
        delta = values - y
        a = h * (s - d0) + delta * curvature
        b = h * d0 - delta * curvature
        root = (b * b + 4 * a * s * delta).clamp(min=1e-30).sqrt()  # not 0, where the slope of the root is infinite
        falls = b < 0  # then b + root cancels, and the other form of the root does not
        position = torch.where(falls, root - b, 2 * s * delta) / torch.where(falls, 2 * a, b + root)
        position = position.clamp(0.0, 1.0)
        outputs = x + w * position
    else:
        position = (values - x) / w
        outputs = y + h * _ratio(position, s, d0, curvature)
    outputs, log_slope = outputs.squeeze(0), _log_slope(position, s, d0, d1, curvature).squeeze(0)
    zero = torch.zeros_like(inputs)
    inside = inputs.abs() < bound
    return torch.where(inside, outputs, inputs), torch.where(inside, -log_slope if inverse else log_slope, zero)


def _with_level_ends(derivatives: Tensor) -> Tensor:
    """Derivatives (K - 1, *) between zeros, which stand for slope 1 at both ends of the box."""
    return F.pad(derivatives, (0, 0) * (derivatives.dim() - 1) + (1, 1))


def _slope(derivative: Tensor) -> Tensor:
    return MIN_DERIVATIVE + F.softplus(derivative + UNIT_SLOPE)


def _ratio(position: Tensor, s: Tensor, d0: Tensor, curvature: Tensor) -> Tensor:
    cross = position * (1 - position)
    return (s * position**2 + d0 * cross) / (s + curvature * cross)


def _log_slope(position: Tensor, s: Tensor, d0: Tensor, d1: Tensor, curvature: Tensor) -> Tensor:
    cross = position * (1 - position)
    numerator = d1 * position**2 + 2 * s * cross + d0 * (1 - position) ** 2
    return 2 * s.log() + numerator.log() - 2 * (s + curvature * cross).log()
