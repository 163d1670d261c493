"""One photon or two: a classifier that learns from some showers, used on others, and the limit that it gives.

Two showers of nearly the same energy are added, the second one turned around the axis. They are told from single
showers of the summed energy, which the classifier does not know.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from sklearn.metrics import roc_auc_score, roc_curve

from caloman.evaluation.inputs import high_level_inputs
from caloman.evaluation.measures import MISTAKEN
from caloman.evaluation.trees import fit_halves
from caloman.showers.observables import compute_observables
from caloman.showers.showers import Showers

Array = NDArray[np.float64]

TURN = 0.25  # angle between the two showers, in turns
TOLERANCE = 0.05  # largest relative difference between the energy of a single shower and of a sum
PAIRINGS = 4
N_BINS = 8
CONFIDENCE = 1.92  # increase of -ln L at the upper end of a two-sided interval of 95 %


def overlap(train: Showers, test: Showers) -> dict[str, float]:
    """Learns to tell one photon from two, and looks for a signal of two photons among single ones.

    Returns:
        ``overlap_auc`` of the classifier on the test showers, and points of its ROC curve, ``overlap_found_10``: pairs
        that are found if 10 % of the single showers are taken for pairs; ``overlap_limit``, the upper limit on the
        fraction of pairs among single test showers, which have none, and ``overlap_fraction``, the fraction that fits
        best. All but the AUC are in per cent. The distributions of the score that are fitted are those of the showers
        that the classifier learned from. Means over several ways to pair showers.
    """
    found = [_paired(train, test, seed) for seed in range(PAIRINGS)]
    return {key: float(np.mean([numbers[key] for numbers in found])) for key in found[0]}


def _paired(train: Showers, test: Showers, seed: int) -> dict[str, float]:
    features, labels = _classes(train, seed)
    new, truth = _classes(test, seed)
    scores, tested = np.empty(len(labels)), np.zeros(len(truth))
    for rows, trees in fit_halves(features, labels, np.random.default_rng(seed)):
        scores[rows] = trees.decision_function(features[rows])
        tested += trees.decision_function(new) / 2
    edges = np.quantile(scores, np.linspace(0, 1, N_BINS + 1)[1:-1])
    templates = [_shares(scores[labels == label], edges) for label in (0, 1)]
    fraction, limit = fit_fraction(_counts(tested[truth == 0], edges), *templates)
    mistaken, recognized, _ = roc_curve(truth, tested)
    return {
        "overlap_auc": float(roc_auc_score(truth, tested)),
        **{f"overlap_found_{p}": 100 * float(np.interp(p / 100, mistaken, recognized)) for p in MISTAKEN},
        "overlap_limit": 100 * limit,
        "overlap_fraction": 100 * fraction,
    }


def fit_fraction(counts: Array, background: Array, signal: Array) -> tuple[float, float]:
    """Fits the fraction of signal to counts per bin (B,), and returns it with its upper limit at 95 % confidence.

    The fraction may be negative; the limit is the upper end of an interval around the best one that is not.

    Args:
        counts: number of showers in each bin.
        background: expected share of the background in each bin.
        signal: the same of the signal.
    """

    def loss(fraction: float) -> float:
        expected = np.maximum((1 - fraction) * background + fraction * signal, 1e-6)
        return -float(counts @ np.log(expected))

    excess_of_signal = np.maximum(signal - background, 1e-9)
    lowest = -float((background / excess_of_signal).min())  # no bin expects fewer than nothing
    best = float(minimize_scalar(loss, bounds=(lowest, 1), method="bounded").x)
    start = max(best, 0.0)

    def excess(fraction: float) -> float:
        return loss(fraction) - loss(start) - CONFIDENCE

    return best, float(brentq(excess, start, 1.0)) if excess(1.0) > 0 else 1.0


def _classes(showers: Showers, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Observables of single and of added showers, without the incident energy, and labels 0 and 1."""
    singles, doubles = single_and_double(showers, seed)
    inputs = [high_level_inputs(compute_observables([own]))[:, 1:] for own in (singles, doubles)]
    return np.concatenate(inputs), np.repeat([0, 1], [len(singles), len(doubles)])


def single_and_double(showers: Showers, seed: int) -> tuple[Showers, Showers]:
    """Returns single showers and sums of two, of other showers, with the same incident energies or nearly so."""
    order = np.random.default_rng(seed).permutation(len(showers))
    first, second, rest = (part[np.argsort(showers.incident_energies[part])] for part in np.array_split(order, 3))
    size = min(len(first), len(second))
    pairs, singles = _matched(
        showers.incident_energies[first[:size]] + showers.incident_energies[second[:size]],
        showers.incident_energies[rest],
    )
    one, other = (showers[own[:size][pairs]] for own in (first, second))
    added = Showers(one.incident_energies + other.incident_energies, one.voxels + turned(other), showers.geometry)
    return showers[rest[singles]], added


def turned(showers: Showers) -> NDArray[np.float32]:
    """Voxels of the showers turned around the axis by a quarter, or as nearly as the bins of a layer allow."""
    result = showers.voxels.copy()
    for layer, columns in zip(showers.geometry.layers, showers.geometry.layer_slices, strict=True):
        cells = showers.voxels[:, columns].reshape(len(showers), layer.n_alpha, layer.n_r)
        result[:, columns] = np.roll(cells, round(TURN * layer.n_alpha), axis=1).reshape(len(showers), -1)
    return result


def _matched(sums: NDArray, energies: NDArray) -> tuple[list[int], list[int]]:
    """Positions of sums and of single energies, both ascending, that agree within the tolerance, each used once."""
    pairs, j = [], 0
    for i, total in enumerate(sums):
        while j < len(energies) and energies[j] < total * (1 - TOLERANCE):
            j += 1
        if j < len(energies) and energies[j] <= total * (1 + TOLERANCE):
            pairs.append((i, j))
            j += 1
    return [i for i, _ in pairs], [j for _, j in pairs]


def _counts(scores: Array, edges: Array) -> Array:
    return np.bincount(np.searchsorted(edges, scores), minlength=N_BINS).astype(np.float64)


def _shares(scores: Array, edges: Array) -> Array:
    counts = _counts(scores, edges) + 0.5
    return counts / counts.sum()
