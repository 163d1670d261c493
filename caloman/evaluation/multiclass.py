"""Multi-class log-posterior: which of several generators would a classifier take Geant4 showers for?

References:
    Lim, Raman, Buckley and Shih, GalaxyFlow (arXiv:2211.11765); Krause et al., CaloChallenge 2022 (arXiv:2410.21611).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from caloman.evaluation.fitting import fit, predict
from caloman.evaluation.inputs import Inputs
from caloman.evaluation.presets import ClassifierPreset

Array = NDArray[np.float64]


class Posterior(NamedTuple):
    """Mean log-posteriors of n samples, by one trained classifier or over several.

    Args:
        reference: mean of ln p_i over the reference showers, shape (n,).
        consistency: mean of ln p_j over the scored showers of sample i, shape (n, n); the diagonal should be the
            maximum of its row, or the classifier confuses the samples.
    """

    reference: Array
    consistency: Array


@dataclass(frozen=True)
class LogPosterior:
    """Log-posterior of each sample over repeated trainings; higher is better.

    Args:
        trainings: each with its own split and initialization.
    """

    trainings: Sequence[Posterior]

    @property
    def mean(self) -> Posterior:
        """Mean over the trainings."""
        return Posterior(*(np.mean(values, axis=0) for values in zip(*self.trainings, strict=True)))

    @property
    def std(self) -> Array:
        """Standard deviation of the log-posterior of the reference over the trainings, shape (n,)."""
        return np.std([training.reference for training in self.trainings], axis=0)

    @property
    def guessing(self) -> float:
        """Log-posterior of a classifier that guesses, -ln n."""
        return -math.log(len(self.mean.reference))


def train_multiclass(
    inputs: Inputs, reference: Inputs, preset: ClassifierPreset, seed: int, network: Callable[[], nn.Module]
) -> Posterior:
    """Trains a classifier to tell the samples from one another and shows it the reference.

    Args:
        inputs: one class for each sample.
        reference: Geant4 showers, which belong to no class.
        preset: settings; the best epoch is that with the largest log-posterior of the right sample.
        seed: decides split, initialization and batches.
        network: makes a network with one log-probability for each class and random initial weights.

    Raises:
        CalomanError: if a sample is too small to be split.
    """
    judge, parts = fit(inputs, preset, seed, network, _log_posterior)
    scored, labels = predict(judge, inputs, parts.score), inputs.labels[parts.score.numpy()]
    return Posterior(
        reference=predict(judge, reference).mean(axis=0),
        consistency=np.stack([scored[labels == label].mean(axis=0) for label in range(len(inputs.sizes))]),
    )


def _log_posterior(outputs: Array, labels: NDArray[np.int64]) -> float:
    return float(np.take_along_axis(outputs, labels[:, None], axis=1).mean())
