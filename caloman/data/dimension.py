"""``caloman dimension``: how many coordinates showers need, as far as the distances of neighbors tell.

The estimates grow with the number of showers and depend on how their voxels are represented, so none of them stands
alone: they come as a table over both.

References:
    Levina and Bickel, Maximum likelihood estimation of intrinsic dimension (NIPS 2004), averaged as MacKay and
    Ghahramani commented on it; Facco et al., Sci. Rep. 7 (2017) 12140 (TwoNN).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logit
from sklearn.neighbors import NearestNeighbors
from tabulate import tabulate

from caloman.errors import CalomanError
from caloman.showers.geometry import Geometry
from caloman.showers.observables import apply_threshold
from caloman.showers.showers import Showers, find_geometry
from caloman.showers.slices import ShowerFiles, parse_slices

Array = NDArray[np.float64]

GROUPS = 10  # parts of the points that an error is taken from
LOGIT_MARGIN = 1e-6
KEPT = 0.9
"""TwoNN leaves the largest ratios out: its line is straight as long as the density is constant within a ratio."""


def neighbor_distances(points: ArrayLike, k: int) -> Array:
    """Distances of each point (N, D) to its k nearest others, ascending, shape (N, k).

    Raises:
        CalomanError: if there are too few points, or two of them are equal.
    """
    values = np.asarray(points)
    if len(values) <= k:
        raise CalomanError(f"{len(values)} points have no {k} neighbors each; give more points or a smaller k")
    distances = NearestNeighbors(n_neighbors=k).fit(values).kneighbors()[0].astype(np.float64)
    n_equal = np.count_nonzero(distances[:, 0] == 0)
    if n_equal:
        raise CalomanError(f"{n_equal} of {len(values)} points equal another one: keep one of each, for the estimators "
                           "divide by the distance of neighbors")  # fmt: skip
    return distances


def maximum_likelihood(distances: Array) -> float:
    """Dimension by Levina and Bickel from `neighbor_distances` (N, k): one over the mean of log(T_k / T_j), j < k.

    A mean of inverses is unbiased as it is; the k - 2 that some write for k - 1 corrects a mean of dimensions.
    """
    return float(1 / np.log(distances[:, -1:] / distances[:, :-1]).mean())


def two_nearest(distances: Array) -> float:
    """Dimension by TwoNN from `neighbor_distances` (N, 2 or more): slope of -log(1 - F) in log(T_2 / T_1)."""
    log_ratio = np.sort(np.log(distances[:, 1] / distances[:, 0]))
    kept = round(KEPT * len(log_ratio))
    x, y = log_ratio[:kept], -np.log1p(-np.arange(1, kept + 1) / len(log_ratio))
    return float(x @ y / (x @ x))


def with_error(estimator: Callable[[Array], float], distances: Array) -> tuple[float, float]:
    """An estimate from `neighbor_distances` (N, k) and its jackknife error.

    The error counts points as independent; those that share neighbors are not, so it is about a quarter too small.
    """
    group = np.arange(len(distances)) % GROUPS
    left_out = [estimator(distances[group != i]) for i in range(GROUPS)]
    return estimator(distances), float(np.std(left_out)) * (GROUPS - 1) ** 0.5


def _unit_sum(showers: Showers) -> NDArray[np.float32]:
    geometry = showers.geometry
    energies = geometry.layer_energies(showers.voxels, np.float32)
    energies[energies == 0] = 1
    return np.divide(showers.voxels, energies[:, geometry.voxel_layer], dtype=np.float32)


def _logit(showers: Showers) -> NDArray[np.float32]:
    margin = np.float32(LOGIT_MARGIN)
    return logit(margin + (1 - 2 * margin) * _unit_sum(showers).clip(0, 1))


REPRESENTATIONS: dict[str, Callable[[Showers], NDArray[np.float32]]] = {
    "incident": lambda showers: showers.voxels / showers.incident_energies[:, None],
    "layer": _unit_sum,
    "sqrt": lambda showers: np.sqrt(_unit_sum(showers)),
    "logit": _logit,
}
"""Name -> coordinates (N, V) of showers."""


@dataclass(frozen=True)
class Dimensions:
    """A table of estimates: of which showers, in which representation, from how many, and dimensions with errors."""

    rows: Sequence[tuple[str, str, int, dict[str, tuple[float, float]]]]

    def __str__(self) -> str:
        header = ["incident energies", "representation", "n", *self.rows[0][-1]]
        cells = [[*first, *(f"{d:.2f} ± {error:.2f}" for d, error in found.values())] for *first, found in self.rows]
        return tabulate(cells, header, "github", disable_numparse=True)


def dimension(
    files: str,
    dataset: str | None = None,
    representation: Sequence[str] = tuple(REPRESENTATIONS),
    k: Sequence[int] = (5, 10, 20),
    n: Sequence[int] = (1000, 2000, 4000),
    by_energy: bool = False,
    seed: int = 0,
) -> Dimensions:
    """Estimates the intrinsic dimension of showers by Levina and Bickel's maximum likelihood (MLE) and by TwoNN.

    Of showers that are equal, one takes part.

    Args:
        files: HDF5 file with showers; some of its rows, such as file.hdf5[0:1000]; or several joined by commas.
        dataset: dataset id (1-photons, 1-pions, 2, 3) or a binning .xml file; by default what the file names.
        representation: coordinates of a shower: voxels over the incident energy (incident), voxels over the energy of
            their layer (layer), and the square root or the logit of these.
        k: numbers of neighbors of the maximum likelihood.
        n: numbers of showers, drawn at random; as many as there are at most.
        by_energy: estimate for each octave of the incident energy by itself, as far as it has the showers.
        seed: of the draw.

    Raises:
        CalomanError: if a file is missing or damaged, has too few showers, or a choice is not possible.
    """
    for name in representation:
        if name not in REPRESENTATIONS:
            raise CalomanError(f"unknown representation {name!r}: choose of {', '.join(REPRESENTATIONS)}")
    if min(k) < 2 or min(n) <= 2 * max(k):
        raise CalomanError(f"k = {min(k)} to {max(k)} with n = {min(n)}: k must be at least 2, and n more than twice k")
    geometry = find_geometry(parse_slices(files)[0].path, dataset)
    with ShowerFiles(files, geometry) as opened:
        energies = opened.incident_energies()
    groups = np.floor(np.log2(energies)) if by_energy else np.zeros(len(energies))
    rows = []
    for group in np.unique(groups):
        label = f"{2.0**group:g} to {2.0 ** (group + 1):g} MeV" if by_energy else "all"
        chosen = np.flatnonzero(groups == group)
        sizes = [size for size in n if size <= len(chosen)]
        if len(chosen) < min(n):
            continue
        showers = _drawn(files, geometry, chosen, max(sizes), seed)
        for name in representation:
            points = REPRESENTATIONS[name](showers)
            for size in sizes:
                different = _different(points[:size])
                rows.append((label, name, len(different), _estimates(different, k)))
    if not rows:
        raise CalomanError(f"{files}: has fewer than {min(n)} showers{' in any octave' * by_energy}; lower --n")
    return Dimensions(rows)


def _drawn(files: str, geometry: Geometry, rows: NDArray[np.intp], n: int, seed: int) -> Showers:
    """Reads n of the showers with these row numbers, at random and in random order."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(rows, n, replace=False))
    parts, start = [], 0
    with ShowerFiles(files, geometry) as opened:
        for block in opened.blocks():
            inside = chosen[(chosen >= start) & (chosen < start + len(block))]
            parts.append(block[inside - start])
            start += len(block)
    showers = Showers.join(parts)
    apply_threshold(showers.voxels, geometry.threshold)
    return showers[np.random.default_rng(seed).permutation(n)]


def _different(points: NDArray[np.float32]) -> NDArray[np.float32]:
    _, first = np.unique([hash(row.tobytes()) for row in points], return_index=True)
    return points if len(first) == len(points) else points[np.sort(first)]


def _estimates(points: NDArray[np.float32], k: Sequence[int]) -> dict[str, tuple[float, float]]:
    distances = neighbor_distances(points, max(k))
    likelihoods = {f"MLE, k = {j}": with_error(maximum_likelihood, distances[:, :j]) for j in k}
    return {**likelihoods, "TwoNN": with_error(two_nearest, distances)}
