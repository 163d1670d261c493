"""Networks for the velocity of points at a place and a time, under a condition; all start at zero.

References:
    Peebles & Xie, DiT (arXiv:2212.09748), for conditions that scale, shift and gate activations (adaLN-zero).
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.nn.mlp import MLP, zero_linear


class Modulation(nn.Module):
    """Scales and shifts normalized activations by the condition, and leaves them as they are at the start.

    Args:
        condition: size of the condition.
        hidden: size of the activations.
    """

    def __init__(self, condition: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden, elementwise_affine=False)
        self.film = zero_linear(condition, 2 * hidden)

    def forward(self, inputs: Tensor, condition: Tensor) -> Tensor:
        """Activations (N, ..., hidden) under conditions (N, ..., condition)."""
        scale, shift = self.film(condition).chunk(2, dim=-1)
        return self.norm(inputs) * (1 + scale) + shift


class Gated(nn.Module):
    """A residual branch x + gate * branch(modulated x) with a gate from the condition, closed at the start.

    Args:
        branch: maps activations to activations of the same shape.
        condition: size of the condition.
        hidden: size of the activations.
    """

    def __init__(self, branch: nn.Module, condition: int, hidden: int) -> None:
        super().__init__()
        self.branch = branch
        self.modulation = Modulation(condition, hidden)
        self.gate = zero_linear(condition, hidden)

    def forward(self, inputs: Tensor, condition: Tensor) -> Tensor:
        """Activations (N, ..., hidden) under conditions (N, ..., condition)."""
        return inputs + self.gate(condition) * self.branch(self.modulation(inputs, condition))


FREQUENCIES = 128  # number of sines and of cosines that tell the time
CONDITION = 256  # size of the vector with time and context in a `VelocityMLP`


class VelocityNetwork(nn.Module, ABC):
    """A velocity field on vectors."""

    @abstractmethod
    def forward(self, points: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        """Velocities (N, D) at points (N, D) and times (N, 1) from 0 to 1, under a context (N, C)."""


class Condition(nn.Module):
    """Time and context as one vector.

    Args:
        context: size C of the context; 0 for none.
        hidden: size of the vector.
    """

    frequencies: Tensor

    def __init__(self, context: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(0, 1.5, FREQUENCIES), persistent=False)
        self.time = MLP(2 * FREQUENCIES, [hidden], hidden, nn.SiLU)
        self.context = MLP(context, [hidden], hidden, nn.SiLU) if context else None

    def forward(self, time: Tensor, context: Tensor | None = None) -> Tensor:
        """Vectors (N, hidden) for times (N, 1) and contexts (N, C)."""
        phases = time * self.frequencies
        condition = self.time(torch.cat([phases.sin(), phases.cos()], dim=1))
        if self.context is not None:
            condition = condition + self.context(context)
        return F.silu(condition)


class VelocityMLP(VelocityNetwork):
    """Residual network on the whole vector.

    Args:
        features: size D of the vectors.
        context: size C of the condition; 0 for none.
        hidden: width; below D the network cannot tell all directions of the noise apart.
        blocks: number of residual branches, of two linear layers each.
    """

    def __init__(self, features: int, context: int, hidden: int = 512, blocks: int = 3) -> None:
        super().__init__()
        self.condition = Condition(context, CONDITION)
        self.first = nn.Linear(features, hidden)
        self.blocks = nn.ModuleList(
            Gated(MLP(hidden, [hidden], hidden, nn.SiLU), CONDITION, hidden) for _ in range(blocks)
        )
        self.modulation = Modulation(CONDITION, hidden)
        self.last = zero_linear(hidden, features)

    def forward(self, points: Tensor, time: Tensor, context: Tensor | None = None) -> Tensor:
        condition = self.condition(time, context)
        hidden = self.first(points)
        for block in self.blocks:
            hidden = block(hidden, condition)
        return self.last(F.silu(self.modulation(hidden, condition)))
