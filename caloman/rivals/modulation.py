"""Activations scaled, shifted and gated by a condition, without any effect at the start (adaLN-zero).

References:
    Peebles & Xie, DiT (arXiv:2212.09748).
"""

from torch import Tensor, nn

from caloman.nn.mlp import zero_linear


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
