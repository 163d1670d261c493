"""A distribution together with the scaling of its variables and of its condition."""

from collections.abc import Callable, Iterable

from torch import Tensor

from caloman.flows import Distribution
from caloman.preprocessing.scaling import Scaling, Standardize, Whiten


class Density(Distribution):
    """A conditional density p(x | c): a flow behind a scaling with fitted statistics.

    Args:
        features: size D of x.
        context: size C of c.
        flow: density of the scaled variables.
        scaling: of x, fitted before training.
        context_scaling: of c, likewise.
    """

    def __init__(
        self,
        features: int,
        context: int,
        flow: Callable[[int, int], Distribution],
        scaling: Callable[[int], Scaling] = Whiten,
        context_scaling: Callable[[int], Scaling] = Standardize,
    ) -> None:
        distribution = flow(features, context)
        super().__init__(features, distribution.noise_dim)
        self.scaling = scaling(features)
        self.context_scaling = context_scaling(context)
        self.flow = distribution

    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:  # type: ignore[override]
        """Fits the scalings, and the statistics of the flow, on batches of x (n, D) and c (n, C)."""
        self.scaling.fit(x for x, _ in batches())
        self.context_scaling.fit(c for _, c in batches())
        self.flow.fit(lambda: ((self.scaling(x), self.context_scaling(c)) for x, c in batches()))

    def log_prob(self, inputs: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        log_prob = self.flow.log_prob(self.scaling(inputs), self.context_scaling(context))
        return log_prob + self.scaling.log_det(inputs)

    def loss(self, inputs: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        """Loss of the flow on the scaled inputs (N, D) under a context (N, C).

        For a likelihood it differs from -log p by the log-determinant of the scaling, a constant in training.
        """
        return self.flow.loss(self.scaling(inputs), self.context_scaling(context))

    def sample(self, noise: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        return self.scaling.inverse(self.flow.sample(noise, self.context_scaling(context)))
