"""Precision, recall, density and coverage of generated points, from balls around each point.

References:
    Kynkäänniemi et al. (arXiv:1904.06991); Naeem et al. (arXiv:2002.09797), and prdc 0.2; Krause et al., CaloChallenge
    2022 (arXiv:2410.21611) for the features.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import gen_batches

from caloman.evaluation.pairs import checked_pair
from caloman.evaluation.samples import Sample

Floats = NDArray[np.float32]

NEIGHBORS = 5
TILE = 2**24  # distances that are held at a time
COPIED = 1000  # points that are copied at a time: of 10 000 showers of dataset 3 a second copy would take 2 GB
SAME = 1e-5  # squared distances below this fraction of the largest squared norm are rounding errors of equal points


def prdc_legacy_inputs(sample: Sample) -> Floats:
    """Returns log10 of all voxels [MeV], those without energy as if they had 0.1 MeV, shape (N, V).

    The official features. In datasets 2 and 3 they rank an empty voxel above one with 0.02 MeV, so that they serve to
    reproduce the published table and not to draw conclusions about physics.
    """
    inputs = np.full((len(sample), sample.geometry.n_voxels), np.log10(0.1), dtype=np.float32)
    start = 0
    for block in sample.blocks():
        np.log10(block.voxels, out=inputs[start : start + len(block)], where=block.voxels > 0)
        start += len(block)
    return inputs


def prdc(reference: ArrayLike, generated: ArrayLike, k: int = NEIGHBORS) -> dict[str, tuple[float, float]]:
    """Precision, recall, density and coverage, each with its error.

    A ball around a point reaches to the k-th nearest other point of the same set. Precision is the fraction of
    generated points in any ball of the reference, recall the fraction of reference points in any generated ball,
    density the mean number of reference balls around a generated point over k, and coverage the fraction of reference
    points whose nearest generated point is in their ball. Errors are the standard errors of these means over points,
    which a bootstrap of the points converges to; neighborhoods count as given.

    Args:
        reference: points, shape (N, D).
        generated: points, shape (M, D).
        k: which neighbor decides the radius.

    Raises:
        CalomanError: if the arrays do not fit each other or hold NaN.
    """
    x, y = (np.asarray(points, dtype=np.float32) for points in checked_pair(reference, generated))
    reference_radii, generated_radii = squared_radii(x, k), squared_radii(y, k)
    balls = np.zeros(len(y))
    recalled = np.zeros(len(x), dtype=bool)
    nearest = np.full(len(x), np.inf, dtype=np.float32)
    for rows in _row_blocks(len(y), len(x)):
        distances = squared_distances(y[rows], x)
        balls[rows] = np.count_nonzero(distances < reference_radii, axis=1)
        recalled |= (distances < generated_radii[rows, None]).any(axis=0)
        np.minimum(nearest, distances.min(axis=0), out=nearest)
    return {
        "precision": _mean(balls > 0),
        "recall": _mean(recalled),
        "density": _mean(balls / k),
        "coverage": _mean(nearest < reference_radii),
    }


def squared_radii(points: Floats, k: int) -> Floats:
    """Squared distance of each point (N, D) to its k-th nearest other point, shape (N,)."""
    radii = np.empty(len(points), dtype=np.float32)
    for rows in _row_blocks(len(points), len(points)):
        distances = squared_distances(points[rows], points)
        numbers = np.arange(rows.start, rows.stop)
        distances[numbers - rows.start, numbers] = np.inf
        distances.partition(k - 1, axis=1)
        radii[rows] = distances[:, k - 1]
    return radii


def squared_distances(first: Floats, second: Floats) -> Floats:
    """Squared Euclidean distances of points (N, D) and (M, D), shape (N, M); exactly 0 between equal ones."""
    distances = np.empty((len(first), len(second)), dtype=np.float32)
    center = second[:COPIED].mean(axis=0)  # smaller norms, smaller rounding errors
    first = first - center
    norms, largest = _squared_norms(first), 0.0
    for columns in gen_batches(len(second), COPIED):
        part = second[columns] - center
        others = _squared_norms(part)
        distances[:, columns] = norms[:, None] + others - 2 * (first @ part.T)
        largest = max(largest, others.max())
    distances[distances < SAME * max(largest, norms.max())] = 0
    return distances


def _squared_norms(points: Floats) -> Floats:
    return np.einsum("ij,ij->i", points, points)


def _row_blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Consecutive rows of a table of distances that fit in memory."""
    return gen_batches(n_rows, max(1, min(COPIED, TILE // n_columns)))


def _mean(values: NDArray) -> tuple[float, float]:
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))
