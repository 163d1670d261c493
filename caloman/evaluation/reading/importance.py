"""What gives generated showers away: a classifier of features, what it goes by, and the showers it is surest of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from caloman.evaluation.classifier import auc_error
from caloman.evaluation.reading.deviations import Residuals
from caloman.evaluation.schema import Telltale
from caloman.evaluation.trees import fit_halves

Array = NDArray[np.float64]

NEIGHBORS = 50  # showers of neighboring incident energy that a permutation exchanges features between
MIN_PRESENT = 100  # showers that must have a feature, such as the center of a layer, for it to count
N_TELLTALE = 2
GROUPS = 10  # parts of the showers that errors are taken from


@dataclass(frozen=True)
class TreeScores:
    """What boosted trees say of generated and Geant4 showers that they have not seen.

    Args:
        labels: 0 for generated showers, 1 for Geant4, shape (N,).
        log_ratios: ln p(Geant4) / p(generated), shape (N,).
        permuted: the same with the features of each group exchanged between showers of similar incident energy.
    """

    labels: NDArray[np.int64]
    log_ratios: Array
    permuted: Mapping[str, Array]

    @cached_property
    def auc(self) -> tuple[float, float]:
        """Area under the ROC curve and its error, that of guessing (Mann-Whitney)."""
        area, (m, n) = float(roc_auc_score(self.labels, self.log_ratios)), np.bincount(self.labels).tolist()
        return area, auc_error([area], (m, n), folds=1)

    @property
    def importances(self) -> dict[str, tuple[float, float]]:
        """Fall of the AUC without a group of features, and its error, the largest first."""
        own = self._areas(self.log_ratios)
        falls = {group: own - self._areas(scores) for group, scores in self.permuted.items()}
        found = {key: (float(fall.mean()), float(fall.std(ddof=1) / np.sqrt(GROUPS))) for key, fall in falls.items()}
        return dict(sorted(found.items(), key=lambda item: -item[1][0]))

    def telltale(self, positions: Mapping[str, NDArray[np.intp]]) -> dict[str, list[Telltale]]:
        """Generated showers that Geant4 would hardly make, and reference showers that the generator hardly makes, by
        the numbers that showers have in their samples.
        """
        found = {}
        for label, (name, sign) in enumerate([("generated", 1), ("reference", -1)]):
            ratios = self.log_ratios[self.labels == label]
            order = (sign * ratios).argsort()[:N_TELLTALE]
            showers = [Telltale(position=int(positions[name][i]), log_ratio=float(ratios[i])) for i in order]
            found[name] = showers
        return found

    def _areas(self, scores: Array) -> Array:
        """AUC of each part of the showers."""
        parts = [slice(part, None, GROUPS) for part in range(GROUPS)]
        return np.array([roc_auc_score(self.labels[rows], scores[rows]) for rows in parts])


def train(residuals: Residuals, energies: Sequence[Array]) -> TreeScores:
    """Trains trees on features in units of their spread and on incident energies [MeV], of reference and generated."""
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], [len(own) for own in energies])
    features = np.concatenate([residuals.reference, residuals.generated])
    features[:, np.isfinite(features).sum(axis=0) < MIN_PRESENT] = 0  # which trees cannot bin
    incident = np.log(np.concatenate(energies))
    groups = [feature.group for feature in residuals.features]
    columns = {name: np.flatnonzero([group == name for group in groups]) for name in dict.fromkeys(groups)}
    inputs = np.column_stack([features, incident])
    scores = np.empty(len(labels))
    permuted = {name: np.empty(len(labels)) for name in columns}
    for rows, trees in fit_halves(inputs, labels, rng):
        scores[rows] = trees.decision_function(inputs[rows])
        exchanged = rows[_exchange(incident[rows], rng)]
        for name, chosen in columns.items():
            changed = inputs[rows]
            changed[:, chosen] = features[np.ix_(exchanged, chosen)]
            permuted[name][rows] = trees.decision_function(changed)
    return TreeScores(labels, scores - np.log(len(energies[0]) / len(energies[1])), permuted)


def _exchange(energies: Array, rng: np.random.Generator) -> NDArray[np.intp]:
    """A permutation of showers among those of similar incident energy."""
    order = np.lexsort([rng.random(len(energies)), energies])
    result = np.empty_like(order)
    for start in range(0, len(order), NEIGHBORS):
        block = order[start : start + NEIGHBORS]
        result[block] = rng.permutation(block)
    return result
