"""How the AUC of a classifier grows with the number of showers that it learns from, and where it would end.

References:
    Raudys and Young, Results in statistical discriminant analysis, J. Multivariate Anal. 89 (2004) 1, for the error of
    a linear classifier that is learned from N points.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import ndtr, ndtri

from caloman.evaluation.inputs import Inputs
from caloman.evaluation.measures import number

Array = NDArray[np.float64]

SUBSAMPLES = (8, 4, 2)
"""Parts that the showers are divided into, two of which are measured."""
SMALLEST = 100
MIN_SHOWERS = SMALLEST * SUBSAMPLES[1]
"""Fewest showers of each class for a learning curve, so that it has three points."""
FACTORS = (2, 5, 10)
"""Multiples of the largest number of showers that the AUC is extrapolated to."""
DRAWS = 100
BOUNDS = ([-14.0, -3.0], [5.0, 14.0])
"""Of the logarithms of separation and complexity."""
START = 100.0
"""Complexity that a fit starts with."""


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

    def __str__(self) -> str:
        most = FACTORS[-1] * self.showers[-1]
        return f"with {most} showers the AUC of boosted trees would be {number(*self.at(most))}"

    def to_json(self) -> dict[str, Any]:
        """The measured points, and the AUC at several times the largest number of showers."""
        points = zip(self.showers, self.areas, strict=True)
        further = [(factor * self.showers[-1], self.at(factor * self.showers[-1])) for factor in FACTORS]
        return {
            "classifier": "trees",
            "statement": str(self),
            "points": [{"showers": n, "value": value, "error": error} for n, (value, error) in points],
            "extrapolated": [{"showers": n, "value": value, "error": error} for n, (value, error) in further],
        }

    @cached_property
    def _fits(self) -> list[tuple[float, float]]:
        """Squared separation and complexity that fit the areas, and those that fit areas drawn within the errors."""
        values, errors = np.array(self.areas).T
        drawn = np.random.default_rng(0).normal(values, errors, (DRAWS, len(values)))
        return [_fit(np.array(self.showers), areas, errors) for areas in (values, *drawn)]


def trainings(n_showers: int) -> int:
    """Number of subsamples for classes of so many showers; 0 if they are too few for a curve."""
    return 2 * sum(n_showers >= parts * SMALLEST for parts in SUBSAMPLES) if n_showers >= MIN_SHOWERS else 0


def subsamples(inputs: Inputs) -> Iterator[tuple[int, list[Inputs]]]:
    """Two disjoint subsamples of each size, with the number of showers of their smaller class."""
    numbers = np.concatenate([np.arange(size) for size in inputs.sizes])
    for parts in SUBSAMPLES:
        if min(inputs.sizes) >= parts * SMALLEST:
            chosen = [
                Inputs(inputs.values[numbers % parts == part], tuple(len(range(part, n, parts)) for n in inputs.sizes))
                for part in (0, 1)
            ]
            yield min(chosen[1].sizes), chosen


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

    separation, complexity = np.exp(least_squares(pulls, np.log([separation, START]), bounds=BOUNDS).x).tolist()
    return separation, complexity
