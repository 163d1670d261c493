"""From the outputs of a classifier to probabilities and likelihood ratios; both classes count the same.

References:
    Krause et al., CaloChallenge 2022 (arXiv:2410.21611); Das et al., How to understand limitations of generative
    networks (arXiv:2305.16774).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

Array = NDArray[np.float64]

SMALLEST_PROBABILITY = 1e-6


def recalibrate(logits: Array, labels: NDArray[np.int64], new: Array) -> Array:
    """Returns probabilities of label 1 by isotonic regression, as in the challenge.

    Args:
        logits: outputs for showers that the classifier was not trained on, shape (N,).
        labels: their labels, 0 or 1, shape (N,).
        new: outputs to calibrate, shape (M,).
    """
    weights = 1 / np.bincount(labels)[labels]
    limits = {"y_min": SMALLEST_PROBABILITY, "y_max": 1 - SMALLEST_PROBABILITY}
    regression = IsotonicRegression(out_of_bounds="clip", **limits)
    return regression.fit(expit(logits), labels, weights).predict(expit(new))


def log_ratios(logits: Array, labels: NDArray[np.int64], new: Array) -> Array:
    """Returns log-likelihood ratios ln p(x|1) / p(x|0) by logistic regression on the outputs (Platt).

    Smooth, because the outermost steps of an isotonic regression often hold showers of one class only: their ratio
    has no bound, and a single shower would decide the mean weight.

    Args:
        logits: outputs for showers that the classifier was not trained on, shape (N,).
        labels: their labels, 0 or 1, shape (N,).
        new: outputs to calibrate, shape (M,).
    """
    scale = max(float(np.abs(logits).max()), 1e-12)
    regression = LogisticRegression(class_weight="balanced").fit(logits[:, None] / scale, labels)
    return regression.decision_function(new[:, None] / scale)
