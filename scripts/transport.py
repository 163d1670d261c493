"""The distance of two samples by optimal transport, as a loss.

References:
    Feydy et al., Interpolating between optimal transport and MMD using Sinkhorn divergences (arXiv:1810.08278).
"""

import math

import torch
from torch import Tensor

SHRINKING = 2.0  # of the weight of the entropy from step to step; 1.4 would come within .1 % of the limit, 2 within 1 %


def sinkhorn_divergence(x: Tensor, y: Tensor, blur: float) -> Tensor:
    """Half the squared distance by optimal transport between samples, with entropy and without its bias; a scalar.

    Args:
        x: points (N, D), which get a gradient.
        y: points (M, D).
        blur: length below which distances are smeared; its square is the weight of the entropy.
    """
    return _transport(x, y, blur) - (_transport(x, x, blur) + _transport(y, y, blur)) / 2


def _transport(x: Tensor, y: Tensor, blur: float) -> Tensor:
    """Dual value of the transport with entropy; the gradient through its last step is that of the optimum."""
    cost = torch.cdist(x, y).square() / 2
    f, g = cost.new_zeros(len(x)), cost.new_zeros(len(y))
    weight, largest = blur**2, float(cost.detach().max())
    with torch.no_grad():
        for i in range(max(0, math.ceil(math.log(largest / weight, SHRINKING))), -1, -1):
            now = weight * SHRINKING**i  # from the size of the samples down: converges in few steps
            f, g = (f + _soft_minimum(cost, g, now)) / 2, (g + _soft_minimum(cost.T, f, now)) / 2
    return _soft_minimum(cost, g, weight).mean() + g.mean()


def _soft_minimum(cost: Tensor, potential: Tensor, weight: float) -> Tensor:
    """Smooth minimum over the columns of cost - potential, shape (rows,)."""
    return -weight * (((potential - cost) / weight).logsumexp(dim=1) - math.log(cost.shape[1]))
