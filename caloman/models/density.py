"""A distribution together with the scaling of its variables and of its condition."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from caloman.flows import Distribution
from caloman.preprocessing.scaling import Scaling, Standardize, Whiten


class Density(nn.Module):
    """An energy-conditioned density p(x | c) on scaled variables.

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
        super().__init__()
        self.scaling = scaling(features)
        self.context_scaling = context_scaling(context)
        self.flow = flow(features, context)
        self.noise_dim = self.flow.noise_dim

    @property
    def one_pass_sampling(self) -> bool:
        """Whether sampling takes a fixed number of operations, not one pass for each entry."""
        return self.flow.one_pass_sampling

    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Fits the scalings, and what the flow takes from data, on batches of x (n, D) and c (n, C)."""
        self.scaling.fit(x for x, _ in batches())
        self.context_scaling.fit(c for _, c in batches())
        self.flow.fit(lambda: ((self.scaling(x), self.context_scaling(c)) for x, c in batches()))

    def log_prob(self, x: Tensor, context: Tensor) -> Tensor:
        """Log-density of the scaled x (N, D) under contexts (N, C), shape (N,)."""
        return self.flow.log_prob(self.scaling(x), self.context_scaling(context))

    def loss(self, x: Tensor, context: Tensor) -> Tensor:
        """What training minimizes on x (N, D) under contexts (N, C)."""
        return self.flow.loss(self.scaling(x), self.context_scaling(context))

    def sample(self, noise: Tensor, context: Tensor) -> Tensor:
        """Turns standard normal noise (N, noise_dim) into x (N, D)."""
        return self.scaling.inverse(self.flow.sample(noise, self.context_scaling(context)))
