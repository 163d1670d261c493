"""Two sets of points that are compared, their covariances, and jackknife errors of what is computed from them."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloman.errors import CalomanError

Array = NDArray[np.float64]

GROUPS = 10  # parts that the jackknife leaves out in turn; point i is in part i modulo this
MIN_POINTS = 2 * GROUPS
BLOCK = 8192  # points that are copied to double precision at a time


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


def with_error(values: Array) -> tuple[float, float]:
    """A number and its error, from it and what it is without each of the groups, shape (1 + G,)."""
    return float(values[0]), jackknife_error(values[1:])


def jackknife_error(left_out: ArrayLike) -> float:
    """Standard error of a number from its values without one of the groups each, shape (G,).

    Unlike a bootstrap it repeats no point, which would distort tests that assume a continuous distribution.
    """
    values = np.asarray(left_out, dtype=np.float64)
    return math.sqrt((len(values) - 1) * values.var())


@dataclass(frozen=True)
class Moments:
    """Number, sum of x, shape (D,), and sum of x x^T, shape (D, D), over points x that were shifted."""

    n: int
    total: Array
    gram: Array

    @classmethod
    def of(cls, points: NDArray, shift: Array, rows: NDArray[np.int64] | None = None) -> "Moments":
        """Sums over `points` (N, D) minus `shift` (D,): over all, or over those of the given row numbers, which may
        repeat. A point that is drawn several times is read once.
        """
        times = np.ones(len(points)) if rows is None else np.bincount(rows, minlength=len(points)).astype(np.float64)
        chosen = np.flatnonzero(times)
        total, gram = np.zeros(points.shape[1]), np.zeros((points.shape[1], points.shape[1]))
        for start in range(0, len(chosen), BLOCK):
            part = chosen[start : start + BLOCK]
            x = points[part] - shift
            total += times[part] @ x
            x *= np.sqrt(times[part])[:, None]
            gram += x.T @ x
        return cls(int(times.sum()), total, gram)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.n + other.n, self.total + other.total, self.gram + other.gram)

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(self.n - other.n, self.total - other.total, self.gram - other.gram)

    @property
    def mean(self) -> Array:
        """Mean of the shifted points, shape (D,)."""
        return self.total / self.n

    @property
    def covariance(self) -> Array:
        """Unbiased covariance, shape (D, D)."""
        return (self.gram - np.outer(self.total, self.mean)) / (self.n - 1)


def left_out(points: NDArray, shift: Array) -> list[Moments]:
    """Moments of all points, then of all without each group, for a jackknife."""
    groups = [Moments.of(points[group::GROUPS], shift) for group in range(GROUPS)]
    total = sum(groups[1:], groups[0])
    return [total, *(total - group for group in groups)]
