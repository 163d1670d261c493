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


def recalibrate(logits: Array, labels: NDArray[np.int64], new: Array) -> Array:
    """Returns probabilities of label 1 by isotonic regression, as in the challenge.

    None is closer to 0 or 1 than n showers of a label can tell, 1 / (n + 2). The challenge's limit is 1e-6, so that a
    single shower on the wrong side of an outermost step costs 20 bits. The area under the ROC curve is the same.

    Args:
        logits: outputs for showers that the classifier was not trained on, shape (N,).
        labels: their labels, 0 or 1, shape (N,).
        new: outputs to calibrate, shape (M,).
    """
    counts = np.bincount(labels)
    smallest = 1 / (counts.min() + 2)
    regression = IsotonicRegression(y_min=smallest, y_max=1 - smallest, out_of_bounds="clip")
    return regression.fit(expit(logits), labels, 1 / counts[labels]).predict(expit(new))


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
