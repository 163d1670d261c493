"""Continuous-time flows: a velocity field carries noise at time 0 to data at time 1.

References:
    Lipman et al., Flow Matching (arXiv:2210.02747); CaloDREAM (arXiv:2405.09629).
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from caloman.flows.distribution import Distribution

Field = Callable[[Tensor, float], Tensor]
Solver = Literal["midpoint", "heun"]


class VelocityNetwork(nn.Module):
    """Residual network whose blocks are scaled and shifted by time and condition (FiLM); it starts at zero.

    Args:
        features: size D of the vectors.
        context: size C of the condition; 0 for none.
        hidden: width.
        blocks: number of blocks, of two linear layers each.
        frequencies: number of sines and of cosines that tell the time.
    """

    multiples: Tensor

    def __init__(self, features: int, context: int, hidden: int, blocks: int, frequencies: int) -> None:
        super().__init__()
        self.register_buffer("multiples", math.pi * torch.arange(1, frequencies + 1), persistent=False)
        self.condition = nn.Sequential(
            nn.Linear(2 * frequencies + context, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.first = nn.Linear(features, hidden)
        self.films = nn.ModuleList(nn.Linear(hidden, 2 * hidden) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, elementwise_affine=False) for _ in range(blocks))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden)) for _ in range(blocks)
        )
        self.last = nn.Linear(hidden, features)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, points: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        """Velocities (N, D) at points (N, D) and times (N, 1) under a context (N, C)."""
        phases = time * self.multiples
        known = [phases.sin(), phases.cos(), *([] if context is None else [context])]
        condition = self.condition(torch.cat(known, dim=1))
        hidden = self.first(points)
        for film, norm, block in zip(self.films, self.norms, self.blocks, strict=True):
            scale, shift = film(condition).chunk(2, dim=1)
            hidden = hidden + block(norm(hidden) * (1 + scale) + shift)
        return self.last(hidden)


class FlowMatching(Distribution):
    """A density whose velocity field is learned by regression, on straight paths from noise to data.

    With noise z and data x at a random time t, the network at (1 - t) z + t x is trained towards x - z. Sampling takes
    a fixed number of steps. The density takes D derivatives per step, and is meant for few dimensions.

    Args:
        features: size D of the vectors.
        context: size of the condition; 0 for none.
        hidden: width of the velocity network.
        blocks: number of its residual blocks.
        frequencies: number of sines and of cosines that tell it the time.
        steps: from noise to data; each evaluates the network twice.
        solver: of second order: ``midpoint`` or ``heun``.
    """

    def __init__(
        self,
        features: int,
        context: int = 0,
        hidden: int = 256,
        blocks: int = 3,
        frequencies: int = 8,
        steps: int = 16,
        solver: Solver = "midpoint",
    ) -> None:
        super().__init__(features, features)
        self.network = VelocityNetwork(features, context, hidden, blocks, frequencies)
        self.steps = steps
        self.solver: Solver = solver

    def velocity(self, points: Tensor, time: float, context: Tensor | None = None) -> Tensor:
        """The velocity (N, D) at points (N, D) at one time, under a context (N, C)."""
        return self.network(points, points.new_full((len(points), 1), time), context)

    def loss(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Mean squared error of the velocity at random times of the paths from noise to inputs (N, D)."""
        time, noise = torch.rand_like(inputs[:, :1]), torch.randn_like(inputs)
        velocity = self.network((1 - time) * noise + time * inputs, time, context)
        return (velocity - (inputs - noise)).square().mean()

    def sample(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        return integrate(lambda x, t: self.velocity(x, t, context), noise, 0.0, 1.0, self.steps, self.solver)

    def log_prob(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Logarithm of the density at inputs (N, D): that of the noise they came from, minus the divergence on the way.

        The trace of the Jacobian is exact.
        """

        def field(state: Tensor, time: float) -> Tensor:
            velocity, divergence = _with_divergence(lambda x: self.velocity(x, time, context), state[:, :-1])
            return torch.cat([velocity, divergence.unsqueeze(1)], dim=1)

        start = torch.cat([inputs, inputs.new_zeros(len(inputs), 1)], dim=1)
        end = integrate(field, start, 1.0, 0.0, self.steps, self.solver)
        noise, log_det = end[:, :-1], end[:, -1]
        return log_det - 0.5 * (noise.square().sum(dim=1) + self.features * math.log(2 * math.pi))


def integrate(field: Field, state: Tensor, start: float, end: float, steps: int, solver: Solver) -> Tensor:
    """Carries a state (N, D) along a field from one time to another in equal steps of a second-order method."""
    step = (end - start) / steps
    for i in range(steps):
        time = start + i * step
        slope = field(state, time)
        if solver == "midpoint":
            slope = field(state + 0.5 * step * slope, time + 0.5 * step)
        else:
            slope = 0.5 * (slope + field(state + step * slope, time + step))
        state = state + step * slope
    return state


def _with_divergence(function: Callable[[Tensor], Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
    """Values (N, D) of a field at points (N, D), and its divergence (N,), by one derivative per dimension."""
    values, pull_back = torch.func.vjp(function, points)[:2]
    divergence = torch.zeros_like(points[:, 0])
    for i, direction in enumerate(torch.eye(points.shape[1], dtype=points.dtype, device=points.device)):
        divergence = divergence + pull_back(direction.expand_as(points))[0][:, i]
    return values, divergence
