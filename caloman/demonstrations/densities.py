"""Densities in any number of dimensions, from published comparisons of flows.

References:
    Coccaro, Letizia, Reyes-Gonzalez, Torre, On the curse of dimensionality for normalizing flows (arXiv:2302.12024);
    the same authors at ACAT 2021.
"""

import math
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

Array = NDArray[np.float64]

CONSTANTS_SEED = 0  # of what defines a target; the points have seeds of their own


class Target(ABC):
    """A density of vectors with exact samples and values.

    Args:
        features: size D of the vectors.
    """

    def __init__(self, features: int) -> None:
        self.features = features

    @abstractmethod
    def sample(self, n: int, seed: int) -> Array:
        """Independent points, shape (n, D)."""

    @abstractmethod
    def log_prob(self, x: Array) -> Array:
        """Logarithm of the density at points (N, D), shape (N,)."""


class CorrelatedMixture(Target):
    """Three Gaussians with diagonal covariances; the dimensions are correlated through the common component.

    Args:
        features: size D of the vectors.

    References:
        arXiv:2302.12024, whose constants these are: NumPy's legacy generator gave them.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features)
        legacy = np.random.RandomState(CONSTANTS_SEED)
        self.means = 10 * legacy.random_sample((3, features))
        self.widths = legacy.random_sample((3, features))
        weights = legacy.random_sample(3)
        self.weights = weights / weights.sum()

    def sample(self, n: int, seed: int) -> Array:
        rng = np.random.default_rng(seed)
        component = rng.choice(len(self.weights), n, p=self.weights)
        return self.means[component] + self.widths[component] * rng.standard_normal((n, self.features))

    def log_prob(self, x: Array) -> Array:
        of_components = [
            _log_normal(x, *gaussian).sum(axis=1) for gaussian in zip(self.means, self.widths, strict=True)
        ]
        return logsumexp(np.log(self.weights) + np.stack(of_components, axis=1), axis=1)


class UncorrelatedMixture(Target):
    """A product of equal mixtures of two Gaussians in each dimension: 0.7 N(1.8, 0.2) + 0.3 N(3.3, 0.4).

    Args:
        features: size D of the vectors.

    References:
        ACAT 2021.
    """

    weights = np.array([0.7, 0.3])
    means = np.array([1.8, 3.3])
    widths = np.array([0.2, 0.4])

    def sample(self, n: int, seed: int) -> Array:
        rng = np.random.default_rng(seed)
        component = rng.choice(2, (n, self.features), p=self.weights)
        return self.means[component] + self.widths[component] * rng.standard_normal((n, self.features))

    def log_prob(self, x: Array) -> Array:
        of_components = np.log(self.weights) + _log_normal(x[..., None], self.means, self.widths)
        return logsumexp(of_components, axis=2).sum(axis=1)


class CorrelatedGaussian(Target):
    """One Gaussian with means from U(-1, 1) and a random lower triangular matrix that makes it from white noise.

    The talk leaves open how the matrix is drawn. Here the diagonal is from U(0.5, 1.5) and the rest from N(0, 1/D),
    with which the condition of the covariance stays moderate up to 1000 dimensions.

    Args:
        features: size D of the vectors.

    References:
        ACAT 2021.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features)
        rng = np.random.default_rng(CONSTANTS_SEED)
        self.mean = rng.uniform(-1, 1, features)
        below = np.tril(rng.standard_normal((features, features)), -1) / math.sqrt(features)
        self.scale = below + np.diag(rng.uniform(0.5, 1.5, features))

    def sample(self, n: int, seed: int) -> Array:
        return self.mean + np.random.default_rng(seed).standard_normal((n, self.features)) @ self.scale.T

    def log_prob(self, x: Array) -> Array:
        noise = solve_triangular(self.scale, (x - self.mean).T, lower=True).T
        return _log_normal(noise, 0, 1).sum(axis=1) - np.log(self.scale.diagonal()).sum()


def _log_normal(x: Array, mean: Array | float, width: Array | float) -> Array:
    return -0.5 * ((x - mean) / width) ** 2 - np.log(width) - 0.5 * math.log(2 * math.pi)
