"""Two sets of points that are compared, and the statistical error of a number that was computed from them."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloman.errors import CalomanError

Array = NDArray[np.float64]

GROUPS = 10
"""Parts that the jackknife leaves out in turn; point i is in part i modulo this."""
MIN_POINTS = 2 * GROUPS


def checked_pair(reference: ArrayLike, generated: ArrayLike) -> tuple[NDArray, NDArray]:
    """Returns both as arrays of shape (N, D) and (M, D).

    Raises:
        CalomanError: if they have other shapes, too few points, or entries that are not finite.
    """
    first, second = np.asarray(reference), np.asarray(generated)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise CalomanError(f"cannot compare arrays of shape {first.shape} and {second.shape}: give (N, D) and (M, D)")
    for name, points in (("reference", first), ("generated", second)):
        if len(points) < MIN_POINTS or not points.shape[1]:
            raise CalomanError(
                f"the {name} array has shape {points.shape}: at least {MIN_POINTS} points of one dimension are needed"
            )
        # a sum is NaN or infinite if any entry is, and needs no temporary
        if not np.isfinite(points.sum(dtype=np.float64)):
            raise CalomanError(f"the {name} array holds NaN or infinite numbers: remove or correct these rows")
    return first, second


def jackknife_error(left_out: ArrayLike) -> float:
    """Standard error of a number from its values without one of the groups each, shape (G,).

    Unlike a bootstrap it repeats no point, which would distort tests that assume a continuous distribution.
    """
    values = np.asarray(left_out, dtype=np.float64)
    return math.sqrt((len(values) - 1) * values.var())
