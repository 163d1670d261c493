"""Classifier tests: can a network tell showers of several samples apart, and by which likelihood ratio?

References:
    Lopez-Paz and Oquab, Revisiting classifier two-sample tests (arXiv:1610.06545); Krause and Shih, CaloFlow
    (arXiv:2106.05285); Das et al., How to understand limitations of generative networks (arXiv:2305.16774); Lim, Raman,
    Buckley and Shih, GalaxyFlow (arXiv:2211.11765); Krause et al., CaloChallenge 2022 (arXiv:2410.21611).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from torch import Tensor, nn

from caloman.evaluation.fitting import fit, predict, split
from caloman.evaluation.inputs import Inputs
from caloman.evaluation.presets import ClassifierPreset
from caloman.evaluation.schema import Trainings
from caloman.evaluation.trees import SETTINGS

Array = NDArray[np.float64]

QUALITIES = {
    "auc": lambda outputs, labels: float(roc_auc_score(labels, outputs[:, 0])),
    "accuracy": lambda outputs, labels: float(accuracy_score(labels, outputs[:, 0] > 0)),
}
"""What the best epoch has most of, by the name in the preset."""
NUMBERS = ("auc", "recalibrated_auc", "jsd", "accuracy", "mean_weight", "effective_fraction")
"""The numbers of a `Training`, for tables."""
OVERLAP = 1.5
"""Variance of a mean of areas from cross-validation over that of independent ones. Measured on pairs of Geant4 samples:
1.3 for boosted trees, 1.4 for small networks."""


@dataclass(frozen=True)
class Training:
    """One trained classifier, by what it says of the N showers that it is scored on.

    Args:
        labels: 0 for generated showers, 1 for the reference, shape (N,).
        logits: outputs of the network, shape (N,).
        probabilities: recalibrated probabilities of being a reference shower, shape (N,).
        log_ratios: calibrated log-likelihood ratios ln p_reference / p_generated, shape (N,).
    """

    labels: NDArray[np.int64]
    logits: Array
    probabilities: Array
    log_ratios: Array

    @property
    def n_scored(self) -> tuple[int, int]:
        """Number of scored showers, generated and reference."""
        n_reference = int(self.labels.sum())
        return len(self.labels) - n_reference, n_reference

    @cached_property
    def auc(self) -> float:
        """Area under the ROC curve of the network's own output."""
        return float(roc_auc_score(self.labels, self.logits))

    @cached_property
    def recalibrated_auc(self) -> float:
        """Area under the ROC curve of the recalibrated scores: the one of the challenge's tables."""
        return float(roc_auc_score(self.labels, self.probabilities))

    @property
    def jsd(self) -> float:
        """Jensen-Shannon divergence from the recalibrated scores, in units of ln 2.

        A lower bound, whatever the classifier, and so is 0, which guessing reaches.
        """
        return max(1 + self._balanced(self._log_likelihoods) / math.log(2), 0.0)

    @property
    def jsd_error(self) -> float:
        """Statistical error of the divergence from the number of scored showers."""
        squares = [self._log_likelihoods[self.labels == label].var() / n for label, n in enumerate(self.n_scored)]
        return math.sqrt(sum(squares)) / (2 * math.log(2))

    @property
    def accuracy(self) -> float:
        """Fraction of right decisions of the recalibrated scores, mean of both classes."""
        return self._balanced((self.probabilities > 0.5) == (self.labels == 1))

    @property
    def weights(self) -> Array:
        """Likelihood ratio of each generated shower, which would turn generated into reference showers."""
        return np.exp(self.log_ratios[self.labels == 0])

    @property
    def mean_weight(self) -> float:
        """Mean weight of generated showers; 1 if the classifier has learned the likelihood ratio."""
        return float(self.weights.mean())

    @property
    def effective_fraction(self) -> float:
        """Effective sample size of the weighted generated showers over their number; 1 for a perfect generator."""
        return float(self.weights.mean() ** 2 / np.square(self.weights).mean())

    @property
    def _log_likelihoods(self) -> Array:
        """Of the right label, by the recalibrated probabilities."""
        return np.log(np.where(self.labels == 1, self.probabilities, 1 - self.probabilities))

    def _balanced(self, values: NDArray) -> float:
        """Mean over both classes of the mean in each."""
        return float(np.mean([values[self.labels == label].mean() for label in (0, 1)]))


@dataclass(frozen=True)
class ClassifierTest:
    """Classifier two-sample test over repeated trainings.

    Args:
        trainings: each with its own split and initialization.
        recalibrated: whether the area of the recalibrated scores is quoted, or that of the networks' own outputs.
        folds: how many of them are scored on different showers.
    """

    trainings: tuple[Training, ...]
    recalibrated: bool
    folds: int = 1

    @property
    def document(self) -> Trainings:
        """What metrics.json keeps of it."""
        numbers = [{number: getattr(training, number) for number in NUMBERS} for training in self.trainings]
        return Trainings(scored_showers=list(self.n_scored), trainings=numbers)

    @property
    def n_scored(self) -> tuple[int, int]:
        """Number of showers that every training is scored on, generated and reference."""
        return self.trainings[0].n_scored

    @property
    def auc(self) -> tuple[float, float]:
        """Mean of the quoted area under the ROC curve and its error; see `auc_error`."""
        values = [training.recalibrated_auc if self.recalibrated else training.auc for training in self.trainings]
        return float(np.mean(values)), auc_error(values, self.n_scored, self.folds)

    @property
    def jsd(self) -> tuple[float, float]:
        """Mean of the divergence and its error: the standard deviation, but no less than the statistical error."""
        values = [training.jsd for training in self.trainings]
        return float(np.mean(values)), max(float(np.std(values)), self.trainings[0].jsd_error)


def auc_error(areas: Sequence[float], n_scored: tuple[int, int], folds: int) -> float:
    """Error of the mean of areas under the ROC curve that were found with different parts of the same showers.

    It is the error of the mean of the `folds` that are scored on different showers, but no less than that of guessing
    (Mann-Whitney). `OVERLAP` is for showers that train one classifier and are scored by another: their fluctuations
    count twice. Areas of one fold are scored on the same showers, so that repeating them does not make them better.
    """
    n, m = n_scored
    independent = min(folds, len(areas))
    guessing = math.sqrt((n + m + 1) / (12 * n * m)) * (math.sqrt(OVERLAP) if independent > 1 else 1)
    return max(float(np.std(areas)), guessing) / math.sqrt(independent)


class Trainer(Protocol):
    """Trains one classifier; see `train_classifier`."""

    def __call__(self, inputs: Inputs, preset: ClassifierPreset, seed: int, *, fold: int) -> Training: ...


class Posterior(NamedTuple):
    """Mean log-posteriors of n samples: which of several generators would a classifier take Geant4 showers for?

    Args:
        reference: mean of ln p_i over the reference showers, shape (n,); -ln n if the classifier guesses.
        consistency: mean of ln p_j over the scored showers of sample i, shape (n, n); the diagonal should be the
            maximum of its row, or the classifier confuses the samples.
    """

    reference: Array
    consistency: Array


def train_classifier(
    inputs: Inputs, preset: ClassifierPreset, seed: int, network: Callable[[], nn.Module], fold: int = 0
) -> Training:
    """Trains one network to tell two classes apart.

    Args:
        inputs: two classes, generated and reference.
        preset: settings.
        seed: decides initialization and batches, and together with `fold` the split.
        network: makes a network with one output and random initial weights.
        fold: number of the training; see `caloman.evaluation.fitting.split`.

    Raises:
        CalomanError: if a sample is too small to be split.
    """
    judge, parts = fit(inputs, preset, seed, network, QUALITIES[preset.select_by], fold)
    known, new = ((predict(judge, inputs, rows)[:, 0], rows) for rows in (parts.select, parts.score))
    return _calibrated(inputs, known, new)


def train_trees(inputs: Inputs, preset: ClassifierPreset, seed: int, fold: int = 0) -> Training:
    """Trains boosted trees to tell two classes apart, with arguments as `train_classifier`.

    The number of trees is that with the largest AUC on the part to select with.
    """
    parts = split(inputs.sizes, preset, seed, fold)
    train, select, score = (part.numpy() for part in parts)
    trees = HistGradientBoostingClassifier(**SETTINGS).fit(inputs.values[train], inputs.labels[train])
    known = list(trees.staged_decision_function(inputs.values[select]))
    best = int(np.argmax([roc_auc_score(inputs.labels[select], logits) for logits in known]))
    new = next(islice(trees.staged_decision_function(inputs.values[score]), best, None))
    return _calibrated(inputs, (known[best].ravel(), parts.select), (new.ravel(), parts.score))


def train_multiclass(
    inputs: Inputs,
    reference: Inputs,
    preset: ClassifierPreset,
    seed: int,
    network: Callable[[], nn.Module],
    fold: int = 0,
) -> Posterior:
    """Trains a classifier to tell the samples from one another and shows it the reference, which belongs to no class.

    Arguments are as for `train_classifier`, but there is one class for each sample, and the network has one
    log-probability for each class. The best epoch is that with the largest log-posterior of the right sample.
    """
    judge, parts = fit(inputs, preset, seed, network, _log_posterior, fold)
    scored, labels = predict(judge, inputs, parts.score), inputs.labels[parts.score.numpy()]
    return Posterior(
        reference=predict(judge, reference).mean(axis=0),
        consistency=np.stack([scored[labels == label].mean(axis=0) for label in range(len(inputs.sizes))]),
    )


def recalibrate(logits: Array, labels: NDArray[np.int64], new: Array) -> Array:
    """Probabilities of label 1 for `new` outputs (M,) by isotonic regression, as in the challenge; shape (M,).

    The regression is on `logits` (N,) of showers that the classifier was not trained on and their `labels`; both
    labels count the same. No probability is closer to 0 or 1 than n showers of a label can tell, 1 / (n + 2): the
    challenge's limit is 1e-6, so that a single shower on the wrong side of an outermost step costs 20 bits. The area
    under the ROC curve is the same.
    """
    counts = np.bincount(labels)
    smallest = 1 / (counts.min() + 2)
    regression = IsotonicRegression(y_min=smallest, y_max=1 - smallest, out_of_bounds="clip")
    return regression.fit(expit(logits), labels, 1 / counts[labels]).predict(expit(new))


def log_ratios(logits: Array, labels: NDArray[np.int64], new: Array) -> Array:
    """Log-likelihood ratios ln p(x|1) / p(x|0) by logistic regression (Platt), with arguments as `recalibrate`.

    Smooth, because the outermost steps of an isotonic regression often hold showers of one class only: their ratio
    has no bound, and a single shower would decide the mean weight.
    """
    scale = max(float(np.abs(logits).max()), 1e-12)
    regression = LogisticRegression(class_weight="balanced").fit(logits[:, None] / scale, labels)
    return regression.decision_function(new[:, None] / scale)


def _calibrated(inputs: Inputs, known: tuple[Array, Tensor], new: tuple[Array, Tensor]) -> Training:
    """What outputs say of new rows if they are calibrated by their values and the labels of known rows."""
    (logits, labels), (outputs, truth) = ((values, inputs.labels[rows.numpy()]) for values, rows in (known, new))
    return Training(truth, outputs, recalibrate(logits, labels, outputs), log_ratios(logits, labels, outputs))


def _log_posterior(outputs: Array, labels: NDArray[np.int64]) -> float:
    return float(np.take_along_axis(outputs, labels[:, None], axis=1).mean())
