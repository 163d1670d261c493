"""How the AUC of a classifier grows with the number of showers that it learns from, and where it would end.

References:
    Raudys and Young, Results in statistical discriminant analysis, J. Multivariate Anal. 89 (2004) 1, for the error of
    a linear classifier that is learned from N points.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import ndtr, ndtri

from caloman.evaluation.inputs import Inputs
from caloman.evaluation.measures import number
from caloman.evaluation.schema import LearningCurve, Point

Array = NDArray[np.float64]

SUBSAMPLES = (8, 4, 2)  # parts that the showers are divided into, two of which are measured
SMALLEST = 100
MIN_SHOWERS = SMALLEST * SUBSAMPLES[1]  # fewest showers of each class for a learning curve, so that it has three points
FACTORS = (2, 5, 10)  # multiples of the largest number of showers that the AUC is extrapolated to
DRAWS = 100
BOUNDS = ([-14.0, -3.0], [5.0, 14.0])  # of the logarithms of separation and complexity
START = 100.0  # complexity that a fit starts with


def learning_curve(points: Sequence[Point]) -> LearningCurve:
    """Extrapolates the AUC of boosted trees from the measured points."""
    points = sorted(points, key=lambda point: point["showers"])
    further = extrapolated(points, [factor * points[-1]["showers"] for factor in FACTORS])
    most = number(further[-1]["value"], further[-1]["error"])
    statement = f"with {further[-1]['showers']} showers the AUC of boosted trees would be {most}"
    return LearningCurve(classifier="trees", statement=statement, points=list(points), extrapolated=further)


def extrapolated(points: Sequence[Point], showers: Sequence[int]) -> list[Point]:
    """AUCs expected at other numbers of showers of each class, with errors from those of the measured points."""
    sizes, areas, errors = (np.array([point[key] for point in points]) for key in ("showers", "value", "error"))
    drawn = np.random.default_rng(0).normal(areas, errors, (DRAWS, len(areas)))
    fits = [_fit(sizes, values, errors) for values in (areas, *drawn)]
    found = []
    for n in showers:
        value, *others = (expected_auc(n, *parameters) for parameters in fits)
        low, high = np.percentile(others, (16, 84))
        found.append(Point(showers=n, value=value, error=float(high - low) / 2))
    return found


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
