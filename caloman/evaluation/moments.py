"""Mean and covariance of points, from sums that can be added and subtracted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloman.evaluation.pairs import GROUPS

Array = NDArray[np.float64]

BLOCK = 8192
"""Points that are copied to double precision at a time."""


@dataclass(frozen=True)
class Moments:
    """Sums over points x that were shifted.

    Args:
        n: number of points, repetitions included.
        total: sum of x, shape (D,).
        gram: sum of x x^T, shape (D, D).
    """

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


def group_moments(points: NDArray, shift: Array) -> list[Moments]:
    """Moments of each group of points for a jackknife."""
    return [Moments.of(points[group::GROUPS], shift) for group in range(GROUPS)]
