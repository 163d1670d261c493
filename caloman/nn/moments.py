"""Moments of more rows than fit into memory."""

from collections.abc import Iterable

import torch
from torch import Tensor


def mean_and_variance(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean (D,) and biased variance (D,) of batches of rows (n, D), in double precision."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        rows = batch.double()
        count, total, squares = count + len(batch), total + rows.sum(0), squares + rows.square().sum(0)
    mean = total / count
    return mean, (squares / count - mean.square()).clamp(min=0)
