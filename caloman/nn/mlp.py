"""Dense networks: plain, residual, and CaloMan's two-tower network."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def start_at_zero(layer: nn.Module) -> None:
    """Sets all parameters of a layer to zero: a network with this last layer starts with outputs of zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def zero_linear(features: int, out_features: int) -> nn.Linear:
    """A linear layer whose output starts at zero."""
    layer = nn.Linear(features, out_features)
    start_at_zero(layer)
    return layer


class MLP(nn.Sequential):
    """Linear layers with an activation between them.

    Args:
        features: size of the input.
        hidden: sizes of the hidden layers.
        out_features: size of the output.
        activation: module between the linear layers.
    """

    def __init__(
        self, features: int, hidden: Sequence[int], out_features: int, activation: type[nn.Module] = nn.ReLU
    ) -> None:
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise([features, *hidden]):
            layers += [nn.Linear(n_in, n_out), activation()]
        super().__init__(*layers, nn.Linear([features, *hidden][-1], out_features))


class PlainMLP(MLP):
    """Conditional network without skip connections: a linear layer, blocks of LeakyReLU and a linear layer, one more.

    Arguments are those of a `ResidualMLP`.
    """

    def __init__(self, features: int, context: int, out_features: int, hidden: int = 64, blocks: int = 2) -> None:
        super().__init__(features + context, [hidden] * (1 + blocks), out_features, nn.LeakyReLU)

    @property
    def last(self) -> nn.Linear:
        """The output layer."""
        return self[-1]  # type: ignore[return-value]

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Maps inputs (N, features) and context (N, context) to (N, out_features)."""
        return super().forward(inputs if context is None else torch.cat([inputs, context], dim=-1))


class ResidualMLP(nn.Module):
    """Conditional residual network: a linear layer, pre-activation blocks of two linear layers, a linear layer.

    Args:
        features: size of the input.
        context: size of the condition, joined to the input; 0 for none.
        out_features: size of the output.
        hidden: width of the blocks.
        blocks: number of blocks.
    """

    def __init__(self, features: int, context: int, out_features: int, hidden: int = 64, blocks: int = 2) -> None:
        super().__init__()
        self.first = nn.Linear(features + context, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
            for _ in range(blocks)
        )
        self.last = nn.Linear(hidden, out_features)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Maps inputs (N, features) and context (N, context) to (N, out_features)."""
        hidden = self.first(inputs if context is None else torch.cat([inputs, context], dim=-1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.last(torch.relu(hidden))


class ParallelMLP(nn.Module):
    """CaloMan's conditional network: a tower for the condition feeds every layer of the tower for the input.

    Layer i of the input tower sees its own activation joined to that of layer i + 1 of the condition tower.

    Args:
        features: size of the input.
        context: size of the condition.
        hidden: sizes of the hidden layers of both towers.
        out_features: size of the output.

    References:
        Cresswell et al., CaloMan (arXiv:2211.15380) and its published code.
    """

    def __init__(self, features: int, context: int, hidden: Sequence[int], out_features: int) -> None:
        super().__init__()
        widths = [features, *hidden]
        self.context_tower = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([context, *widths]))
        self.tower = nn.ModuleList(nn.Linear(2 * a, b) for a, b in pairwise(widths))
        self.last = nn.Linear(2 * widths[-1], out_features)

    def forward(self, inputs: Tensor, context: Tensor) -> Tensor:
        """Maps inputs (N, features) and context (N, context) to (N, out_features)."""
        hidden, condition = inputs, torch.relu(self.context_tower[0](context))
        for layer, context_layer in zip(self.tower, list(self.context_tower)[1:], strict=True):
            hidden = torch.relu(layer(torch.cat([hidden, condition], dim=-1)))
            condition = torch.relu(context_layer(condition))
        return self.last(torch.cat([hidden, condition], dim=-1))
