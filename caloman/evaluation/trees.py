"""Boosted trees that classify showers by observables: as strong a judge as networks at a tenth of their time.

References:
    Friedman, Greedy function approximation, Ann. Statist. 29 (2001) 1189; scikit-learn's histogram-based version.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from torch import Tensor

from caloman.evaluation.fitting import split
from caloman.evaluation.inputs import Inputs
from caloman.evaluation.presets import ClassifierPreset

Array = NDArray[np.float64]

SETTINGS = {
    **{"max_iter": 100, "learning_rate": 0.1, "max_leaf_nodes": 8, "min_samples_leaf": 20},
    **{"l2_regularization": 1.0, "early_stopping": False, "random_state": 0},
}


def fit_trees(
    inputs: Inputs, preset: ClassifierPreset, seed: int, fold: int = 0
) -> tuple[tuple[Array, Tensor], tuple[Array, Tensor]]:
    """Trains boosted trees; returns logits and rows of the part to select with, and of the part to score.

    The number of trees is that with the largest AUC on the part to select with. Arguments are as for
    `caloman.evaluation.fitting.fit`.

    Raises:
        CalomanError: if a class is too small to be split.
    """
    parts = split(inputs.sizes, preset, seed, fold)
    trees = HistGradientBoostingClassifier(**SETTINGS)
    trees.fit(inputs.values[parts.train.numpy()], inputs.labels[parts.train.numpy()])
    known, new = (inputs.values[rows.numpy()] for rows in (parts.select, parts.score))
    labels = inputs.labels[parts.select.numpy()]
    best = int(np.argmax([roc_auc_score(labels, logits) for logits in trees.staged_decision_function(known)]))
    outputs = (next(islice(trees.staged_decision_function(x), best, None)).ravel() for x in (known, new))
    return tuple(zip(outputs, (parts.select, parts.score), strict=True))  # type: ignore[return-value]


def fit_halves(
    features: NDArray[np.floating], labels: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.intp], HistGradientBoostingClassifier]]:
    """Trains boosted trees on a random half of showers with features (N, F) and labels (N,), and on the other half.

    Yields the rows of a half with the trees that have not seen it, so that every shower is scored once.
    """
    half = rng.permutation(len(labels)) % 2
    for part in (0, 1):
        trees = HistGradientBoostingClassifier(**SETTINGS)
        yield np.flatnonzero(half == part), trees.fit(features[half != part], labels[half != part])
