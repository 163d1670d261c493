"""What every conditional density can do."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from torch import Tensor

from caloman.flows.transform import Sampler


class Distribution(Sampler, ABC):
    """A conditional density of vectors; samples are a function of given noise.

    Args:
        features: size D of the vectors.
        noise_dim: number of standard normal numbers for one sample.
    """

    def __init__(self, features: int, noise_dim: int) -> None:
        super().__init__()
        self.features = features
        self.noise_dim = noise_dim

    @abstractmethod
    def log_prob(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Logarithm of the density at inputs (N, D) under a context (N, C), shape (N,)."""

    @abstractmethod
    def sample(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        """Turns standard normal noise (N, noise_dim) into samples (N, D) under a context (N, C)."""

    def log_prob_of_noise(self, noise: Tensor) -> Tensor:
        """Logarithm of the standard normal density at noise (N, D), shape (N,)."""
        return -0.5 * (noise.square().sum(dim=1) + self.features * math.log(2 * math.pi))

    def loss(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Training loss on inputs (N, D) under a context (N, C): the mean of -log p, unless redefined."""
        return -self.log_prob(inputs, context).mean()

    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor | None]]]) -> None:
        """Sets statistics, if there are any, from batches of vectors (n, D) and contexts (n, C)."""
