"""Distances between two sets of feature vectors: Fréchet (FPD) and kernel (KPD) physics distance.

References:
    Kansal et al., On the evaluation of generative models in high energy physics (arXiv:2211.10295), and jetnet 0.2.5,
    whose numbers `fpd` and `kpd` reproduce; Krause et al., CaloChallenge 2022 (arXiv:2410.21611) for the sample sizes.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import curve_fit

from caloman.evaluation.pairs import Array, Moments, checked_pair, left_out, with_error

FPD_SIZES = (1 / np.linspace(1 / 10_000, 1 / 50_000, 10)).astype(np.int32)
FPD_DRAWS = 20
KPD_SIZE = 10_000
KPD_DRAWS = 10
KPD_DEGREE = 4
KPD_INTERVAL = (16.275, 83.725)
KERNEL_TILE = 1000


def fpd(reference: ArrayLike, generated: ArrayLike, seed: int = 42) -> tuple[float, float]:
    """Fréchet physics distance as in the CaloChallenge, and the error of its extrapolation.

    Fréchet distances of samples that are drawn with replacement, 20 for each of 10 sizes, extrapolated in 1/size. That
    does not remove the bias of finite files: compare only at equal numbers of showers.

    Args:
        reference: feature vectors, shape (N, D); features are divided by their largest magnitude here.
        generated: feature vectors, shape (M, D).
        seed: of the draws.

    Raises:
        CalomanError: if the arrays do not fit each other or hold NaN.
    """
    x, y = checked_pair(reference, generated)
    scale, shift = largest_magnitude(x), x.mean(axis=0, dtype=np.float64)
    rng = np.random.default_rng(seed)
    values = []
    for size in FPD_SIZES:
        draws = []
        for _ in range(FPD_DRAWS):
            first = Moments.of(x, shift, rng.choice(len(x), size=size))
            second = Moments.of(y, shift, rng.choice(len(y), size=size))
            draws.append(_frechet(first, second, scale))
        values.append(np.mean(draws))
    # the bounded fit may stop before the optimum; this is the call that the published numbers come from
    bounds = ([0, 0], [np.inf, np.inf])
    parameters, covariance = curve_fit(lambda x, start, slope: start + slope * x, 1 / FPD_SIZES, values, bounds=bounds)
    return float(parameters[0]), float(np.sqrt(covariance[0, 0]))


def frechet_distance(reference: ArrayLike, generated: ArrayLike) -> tuple[float, float]:
    """Fréchet distance of all points, with arguments as `fpd`, and its jackknife error.

    In seconds it measures what `fpd` does in minutes.
    """
    return with_error(frechet_distances(reference, generated))


def frechet_distances(reference: ArrayLike, generated: ArrayLike) -> Array:
    """What `frechet_distance` reduces: with all points, then without each tenth, shape (1 + GROUPS,)."""
    x, y = checked_pair(reference, generated)
    scale, shift = largest_magnitude(x), x.mean(axis=0, dtype=np.float64)
    pairs = zip(left_out(x, shift), left_out(y, shift), strict=True)
    return np.array([_frechet(first, second, scale) for first, second in pairs])


def kpd(reference: ArrayLike, generated: ArrayLike, seed: int = 42) -> tuple[float, float]:
    """Kernel physics distance as in the CaloChallenge: median over draws, and half of their central 68 % interval.

    The squared maximum mean discrepancy with the kernel (x y / D + 1)^4 of 10 000 points each, drawn with replacement.
    Arguments are as for `fpd`.
    """
    x, y = checked_pair(reference, generated)
    scale = largest_magnitude(x) * np.sqrt(x.shape[1])
    values = []
    for draw in range(KPD_DRAWS):
        rng = np.random.default_rng(seed + 1000 * draw)
        first, second = (_drawn(points, scale, rng) for points in (x, y))
        within = (_kernel_sum_within(*points) / (KPD_SIZE * (KPD_SIZE - 1)) for points in (first, second))
        values.append(sum(within) - 2 * _kernel_sum(*first, *second) / KPD_SIZE**2)
    low, high = np.percentile(values, KPD_INTERVAL)
    return float(np.median(values)), float(high - low) / 2


def largest_magnitude(points: NDArray) -> Array:
    """Largest magnitude of each feature, 1 where all are 0, shape (D,)."""
    largest = np.abs(points).max(axis=0).astype(np.float64)
    return np.where(largest == 0, 1, largest)


def _frechet(first: Moments, second: Moments, scale: Array) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^1/2) of points divided by `scale`.

    C1 C2 has the eigenvalues of the symmetric R^T C2 R with C1 = R R^T, which are found without complex numbers, also
    where covariances are singular.
    """
    difference = (first.mean - second.mean) / scale
    covariance, other = (moments.covariance / np.outer(scale, scale) for moments in (first, second))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    product = np.linalg.eigvalsh(root.T @ other @ root)
    overlap = np.sqrt(np.maximum(product, 0)).sum()
    return float(difference @ difference + np.trace(covariance) + np.trace(other) - 2 * overlap)


def _drawn(points: NDArray, scale: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Points drawn with replacement, each once, and how often it was drawn."""
    rows, counts = np.unique(rng.choice(len(points), size=KPD_SIZE), return_counts=True)
    return points[rows] / scale, counts.astype(np.float64)


def _kernel_sum_within(points: Array, counts: Array) -> float:
    """Sum of the kernel over all pairs of different draws."""
    total = -float(counts @ (np.einsum("ij,ij->i", points, points) + 1) ** KPD_DEGREE)
    for start in range(0, len(points), KERNEL_TILE):
        rows, later = slice(start, start + KERNEL_TILE), slice(start + KERNEL_TILE, None)
        total += _kernel_sum(points[rows], counts[rows], points[rows], counts[rows])
        total += 2 * _kernel_sum(points[rows], counts[rows], points[later], counts[later])
    return total


def _kernel_sum(first: Array, counts: Array, second: Array, other_counts: Array) -> float:
    """Sum of the kernel over all pairs of draws."""
    total = 0.0
    for i in range(0, len(first), KERNEL_TILE):
        for j in range(0, len(second), KERNEL_TILE):
            rows, columns = slice(i, i + KERNEL_TILE), slice(j, j + KERNEL_TILE)
            tile = first[rows] @ second[columns].T
            tile += 1
            np.square(tile, out=tile)
            np.square(tile, out=tile)
            total += float(counts[rows] @ tile @ other_counts[columns])
    return total
