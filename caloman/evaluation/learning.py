"""How the AUC of a classifier grows with the number of showers that it learns from, and where it would end.

References:
    Raudys and Young, Results in statistical discriminant analysis, J. Multivariate Anal. 89 (2004) 1, for the error of
    a linear classifier that is learned from N points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import ndtr, ndtri

Array = NDArray[np.float64]

FACTORS = (2, 5, 10)
"""Multiples of the largest number of showers that the AUC is extrapolated to."""
DRAWS = 200
STARTS = (10.0, 100.0, 1000.0)
"""Complexities that a fit starts with."""


@dataclass(frozen=True)
class LearningCurve:
    """AUC of one classifier at growing numbers of showers.

    Args:
        showers: number of showers of each class, ascending.
        areas: AUC and its error at each of them.
    """

    showers: Sequence[int]
    areas: Sequence[tuple[float, float]]

    def at(self, showers: float) -> tuple[float, float]:
        """AUC expected with so many showers of each class, and its error from the errors of the measured ones."""
        value, *drawn = (expected_auc(showers, *parameters) for parameters in self._fits)
        low, high = np.percentile(drawn, (16, 84))
        return value, float(high - low) / 2

    @property
    def extrapolated(self) -> dict[int, tuple[float, float]]:
        """AUC and its error at several times the largest number of showers."""
        return {factor * self.showers[-1]: self.at(factor * self.showers[-1]) for factor in FACTORS}

    @cached_property
    def _fits(self) -> list[tuple[float, float]]:
        """Squared separation and complexity that fit the areas, and those that fit areas drawn within the errors."""
        values, errors = np.array(self.areas).T
        drawn = np.random.default_rng(0).normal(values, errors, (DRAWS, len(values)))
        return [_fit(np.array(self.showers), areas, errors) for areas in (values, *drawn)]


def expected_auc(showers: float, separation: float, complexity: float) -> float:
    """AUC of a linear classifier that was learned from so many points of each of two normal distributions.

    Args:
        showers: number of points of each class.
        separation: squared distance of the means in standard deviations, which decides the AUC of infinitely many.
        complexity: how many points the classifier needs for its number of parameters.
    """
    return float(_law(np.array(showers), separation, complexity))


def _law(showers: Array, separation: float, complexity: float) -> Array:
    learned = separation / np.sqrt(np.maximum(separation + complexity / showers, 1e-12))
    return ndtr(learned / np.sqrt(2))


def _fit(showers: Array, areas: Array, errors: Array) -> tuple[float, float]:
    largest = float(np.clip(areas.max(), 0.502, 1 - 1e-9))
    separation = 2 * ndtri(largest) ** 2

    def pulls(logs: Array) -> Array:
        return (_law(showers, *np.exp(logs)) - areas) / errors

    starts = [np.log([separation, complexity]) for complexity in STARTS]
    found = [least_squares(pulls, start, bounds=([-14.0, -3.0], [5.0, 14.0])) for start in starts[:1]]
    best = min(found, key=lambda result: result.cost)
    return tuple(np.exp(best.x).tolist())
