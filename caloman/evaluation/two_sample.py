"""Two-sample tests on plain arrays (N, D) and (M, D): do both come from the same distribution?

Each returns a value and its error. Values of one dimension are averaged over dimensions, or their median is taken; the
errors come from leaving out a tenth of the points in turn, so that they contain correlations between dimensions.
Arrays that do not fit each other or hold NaN raise a `CalomanError`.

References:
    Coccaro et al., On the curse of dimensionality for normalizing flows (arXiv:2302.12024); Scholz and Stephens, J. Am.
    Stat. Assoc. 82 (1987) 918.
"""

import logging
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kstwo

from caloman.evaluation.pairs import GROUPS, Array, Moments, checked_pair, left_out, with_error

Reduction = Callable[..., Array]
Statistic = Callable[[Array, Array], float]

SMALLEST_VARIANCE = 1e-12
"""Columns whose variance is below this fraction of their mean square have no variance but rounding errors."""

log = logging.getLogger(__name__)


def all_tests(reference: NDArray, generated: NDArray) -> Iterator[tuple[str, tuple[float, float]]]:
    """All tests by name, on points (N, D) and (M, D) in units of the standard deviation in the reference."""
    std = reference.std(axis=0)
    scale = np.where(std > 0, std, 1)
    x, y = reference / scale, generated / scale
    p_values = kolmogorov_smirnov_of_dimensions(x, y)
    yield "ks_mean", reduced(p_values)
    yield "ks_median", reduced(p_values, np.median)
    for test in (anderson_darling, wasserstein, sliced_wasserstein):
        yield test.__name__, test(x, y)
    yield "correlations", correlation_distance(x, y)


def kolmogorov_smirnov(reference: ArrayLike, generated: ArrayLike, over: Reduction = np.mean) -> tuple[float, float]:
    """Two-sided Kolmogorov-Smirnov p-value (asymptotic) of each dimension: 1/2 on average for equal distributions.

    Many equal values, such as empty voxels, make it larger. `over` is ``np.mean`` or ``np.median`` of the dimensions.
    """
    return reduced(kolmogorov_smirnov_of_dimensions(reference, generated), over)


def kolmogorov_smirnov_of_dimensions(reference: ArrayLike, generated: ArrayLike) -> Array:
    """What `kolmogorov_smirnov` reduces: p-values with all points, then without each tenth, shape (D, 1 + GROUPS)."""
    return _of_dimensions(reference, generated, _ks_p_value)


def kolmogorov_smirnov_distances(reference: ArrayLike, generated: ArrayLike) -> Array:
    """Mean over dimensions of the largest distance of the distribution functions: with all points, then without each
    tenth, shape (1 + GROUPS,).
    """
    return _of_dimensions(reference, generated, _ks_distance).mean(axis=0)


def anderson_darling(reference: ArrayLike, generated: ArrayLike) -> tuple[float, float]:
    """Anderson-Darling two-sample statistic of each dimension, standardized: mean 0 and standard deviation 1 for equal
    distributions, and positive for others. A dimension in which all points are equal gives 0.
    """
    return reduced(_of_dimensions(reference, generated, _standardized_anderson_darling))


def wasserstein(reference: ArrayLike, generated: ArrayLike) -> tuple[float, float]:
    """Wasserstein distance W1 of each dimension, in the unit of the points."""
    return reduced(_of_dimensions(reference, generated, _wasserstein))


def sliced_wasserstein(
    reference: ArrayLike, generated: ArrayLike, directions: int = 100, seed: int = 0
) -> tuple[float, float]:
    """Mean Wasserstein distance W1 of the projections on random directions."""
    return with_error(sliced_wasserstein_distances(reference, generated, directions, seed))


def sliced_wasserstein_distances(
    reference: ArrayLike, generated: ArrayLike, directions: int = 100, seed: int = 0
) -> Array:
    """What `sliced_wasserstein` reduces: with all points, then without each tenth, shape (1 + GROUPS,)."""
    x, y = checked_pair(reference, generated)
    axes = np.random.default_rng(seed).standard_normal((x.shape[1], directions))
    axes /= np.linalg.norm(axes, axis=0)
    return _of_dimensions(x @ axes, y @ axes, _wasserstein).mean(axis=0)


def correlation_distance(reference: ArrayLike, generated: ArrayLike) -> tuple[float, float]:
    """Frobenius norm of the difference between the Pearson correlation matrices.

    A constant column is uncorrelated with any other; a warning is logged if there are some.
    """
    x, y = checked_pair(reference, generated)
    for name, points in (("reference", x), ("generated", y)):
        constant = np.count_nonzero(points.max(axis=0) == points.min(axis=0))
        if constant:
            log.warning("%d of %d columns of the %s points are constant", constant, points.shape[1], name)
    pairs = zip(*(left_out(points, points[0].astype(np.float64)) for points in (x, y)), strict=True)
    return with_error(np.array([np.linalg.norm(_correlations(x) - _correlations(y)) for x, y in pairs]))


def correlation_matrix(points: ArrayLike) -> Array:
    """Pearson correlations of the columns of an array (N, D), shape (D, D): 1 with itself, 0 with a constant column."""
    x = np.asarray(points)
    return _correlations(Moments.of(x, x[0].astype(np.float64)))


def reduced(dimensions: Array, over: Reduction = np.mean) -> tuple[float, float]:
    """Mean or median over dimensions of values (D, 1 + GROUPS), and its error from those without a group."""
    return with_error(over(dimensions, axis=0))


def _of_dimensions(reference: ArrayLike, generated: ArrayLike, statistic: Statistic) -> Array:
    """A statistic of every dimension, with all points and without each of the groups, shape (D, 1 + GROUPS)."""
    x, y = checked_pair(reference, generated)
    return np.array([_with_and_without(a, b, statistic) for a, b in zip(x.T, y.T, strict=True)])


def _with_and_without(x: NDArray, y: NDArray, statistic: Statistic) -> list[float]:
    """A statistic of one dimension with all points, then without each group; sorts once."""
    points = np.concatenate([x, y])
    order = np.argsort(points)
    values = points[order].astype(np.float64)
    last = np.append(values[1:] > values[:-1], True)
    sample, number = order >= len(x), np.where(order >= len(x), order - len(x), order)
    category = 2 * (number % GROUPS) + sample
    # points of each group and sample up to each distinct value, shape (GROUPS, 2, number of values)
    counts = np.stack([np.cumsum(category == c)[last] for c in range(2 * GROUPS)]).reshape(GROUPS, 2, -1)
    total = counts.sum(axis=0)
    return [statistic(values[last], total), *(statistic(values[last], total - group) for group in counts)]


def _ks_distance(values: Array, counts: Array) -> float:
    first, second = counts / counts[:, -1:]
    return float(np.abs(first - second).max())


def _ks_p_value(values: Array, counts: Array) -> float:
    n, m = counts[:, -1].tolist()
    return float(kstwo.sf(_ks_distance(values, counts), round(n * m / (n + m))))


def _wasserstein(values: Array, counts: Array) -> float:
    first, second = counts / counts[:, -1:]
    return float(np.abs(first - second)[:-1] @ np.diff(values))


def _standardized_anderson_darling(values: Array, counts: Array) -> float:
    """Statistic A^2_akN of Scholz and Stephens, with distribution functions taken in the middle of equal values."""
    n, m = counts[:, -1].tolist()
    both = n + m
    equal = np.diff(counts, axis=1, prepend=0)
    first, second = (counts - equal / 2) / counts[:, -1:]
    n_equal = equal.sum(axis=0)
    middle = counts.sum(axis=0) - n_equal / 2
    weight = middle * (both - middle) - both * n_equal / 4
    terms = np.divide(n_equal * (first - second) ** 2, weight, out=np.zeros_like(weight), where=weight > 0)
    if not terms.any() and n_equal.max() == both:
        return 0.0
    return float(((both - 1) / both * n * m * terms.sum() - 1) / _anderson_darling_deviation(n, m))


@cache
def _anderson_darling_deviation(n: int, m: int) -> float:
    """Standard deviation of the two-sample statistic for equal distributions (Scholz and Stephens, equation 4)."""
    both = n + m
    inverse = 1 / n + 1 / m
    harmonic = np.cumsum(1 / np.arange(both - 1, 0, -1))
    h = float(harmonic[-1])
    g = float(np.sum(harmonic[:-1] / np.arange(2, both)))
    a = (4 * g - 6) + (10 - 6 * g) * inverse
    b = 4 * (2 * g - 4) + 16 * h + (2 * g - 14 * h - 4) * inverse - 8 * h + 4 * g - 6
    c = 4 * (6 * h + 2 * g - 2) + 2 * (4 * h - 4 * g + 6) + (2 * h - 6) * inverse + 4 * h
    d = 4 * (2 * h + 6) - 8 * h
    variance = (a * both**3 + b * both**2 + c * both + d) / ((both - 1.0) * (both - 2.0) * (both - 3.0))
    return float(np.sqrt(variance))


def _correlations(moments: Moments) -> Array:
    covariance, squares = moments.covariance, moments.gram.diagonal() / moments.n
    variance = covariance.diagonal()
    varies = variance > SMALLEST_VARIANCE * squares
    scale = np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1)), 0)
    matrix: Array = covariance * scale * scale[:, None]
    np.fill_diagonal(matrix, 1)
    return matrix
