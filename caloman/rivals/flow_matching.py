"""Continuous-time flows: a velocity field carries noise at time 0 to data at time 1.

References:
    Lipman et al., Flow Matching (arXiv:2210.02747); Albergo & Vanden-Eijnden (arXiv:2209.15571), for the arcs;
    CaloDREAM (arXiv:2405.09629).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from caloman.flows.distribution import Distribution
from caloman.rivals.velocity import VelocityMLP, VelocityNetwork

Field = Callable[[Tensor, float], Tensor]


class FlowMatching(Distribution):
    """A density with a velocity field learned by regression, on arcs from noise to data.

    With noise z and data x at a random time t, the network at cos(pi t / 2) z + sin(pi t / 2) x is trained toward the
    velocity there, over pi / 2. Of data with unit covariance all points on the way have it, too, and so have the
    targets: only what is not Gaussian is left to learn, and few steps are enough. Sampling takes a fixed number of
    steps. The density takes D derivatives per step, and is meant for few dimensions.

    Args:
        features: size D of the vectors.
        context: size of the condition; 0 for none.
        network: the velocity field.
        steps: of the midpoint method, from noise to data; each evaluates the network twice.
    """

    def __init__(
        self,
        features: int,
        context: int = 0,
        network: Callable[[int, int], VelocityNetwork] = VelocityMLP,
        steps: int = 16,
    ) -> None:
        super().__init__(features, features)
        self.network = network(features, context)
        self.steps = steps

    def velocity(self, points: Tensor, time: float, context: Tensor | None = None) -> Tensor:
        """The velocity (N, D) at points (N, D) at one time, under a context (N, C)."""
        return math.pi / 2 * self.network(points, points.new_full((len(points), 1), time), context)

    def loss(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Mean squared error of the network at random times of the paths to inputs (N, D), less that of zeros.

        The square of the target has no gradient, and its fluctuations would hide the best epoch.
        """
        time, noise = torch.rand_like(inputs[:, :1]), torch.randn_like(inputs)
        cos, sin = (math.pi / 2 * time).cos(), (math.pi / 2 * time).sin()
        velocity, target = self.network(cos * noise + sin * inputs, time, context), cos * inputs - sin * noise
        return (velocity * (velocity - 2 * target)).mean()

    def sample(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        return integrate(lambda x, t: self.velocity(x, t, context), noise, 0.0, 1.0, self.steps)

    def log_prob(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Logarithm of the density at inputs (N, D): that of the noise they came from, minus the divergence on the way.

        The trace of the Jacobian is exact.
        """

        def field(state: Tensor, time: float) -> Tensor:
            velocity, divergence = _with_divergence(lambda x: self.velocity(x, time, context), state[:, :-1])
            return torch.cat([velocity, divergence.unsqueeze(1)], dim=1)

        start = torch.cat([inputs, inputs.new_zeros(len(inputs), 1)], dim=1)
        end = integrate(field, start, 1.0, 0.0, self.steps)
        noise, log_det = end[:, :-1], end[:, -1]
        return log_det + self.log_prob_of_noise(noise)


def integrate(field: Field, state: Tensor, start: float, end: float, steps: int) -> Tensor:
    """Carries a state (N, D) along a field from one time to another in equal steps of the midpoint method."""
    step = (end - start) / steps
    for i in range(steps):
        time = start + i * step
        middle = state + 0.5 * step * field(state, time)
        state = state + step * field(middle, time + 0.5 * step)
    return state


def _with_divergence(function: Callable[[Tensor], Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
    """Values (N, D) of a field at points (N, D), and its divergence (N,), by one derivative per dimension."""
    values, pull_back = torch.func.vjp(function, points)[:2]
    divergence = torch.zeros_like(points[:, 0])
    for i, direction in enumerate(torch.eye(points.shape[1], dtype=points.dtype, device=points.device)):
        divergence = divergence + pull_back(direction.expand_as(points))[0][:, i]
    return values, divergence
