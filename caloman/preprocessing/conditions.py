"""Conditions beside the energy as the numbers that networks see."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from caloman.showers.conditions import Condition, Conditions


class ConditionEncoding(nn.Module):
    """Sine and cosine of periodic conditions, one column per category, and others scaled to -1..1 by their range.

    Nothing here is trained: the first layer of a network turns the columns of the categories into its own embedding.
    The energy is left to each model, as a logarithm in units of its own.

    Args:
        conditions: of the generator, trained.
    """

    def __init__(self, conditions: Conditions) -> None:
        super().__init__()
        self.conditions = conditions
        columns = ({"continuous": 1, "periodic": 2, "category": len(c.categories)}[c.kind] for c in conditions[1:])
        self.size = sum(columns)

    def extend(self, context: Tensor, conditions: Tensor) -> Tensor:
        """Appends the columns of conditions (N, number of conditions) to a context (N, C)."""
        if not self.size:
            return context
        columns = zip(self.conditions[1:], conditions[:, 1:].split(1, dim=1), strict=True)
        return torch.cat([context, *(part for column in columns for part in _encode(*column))], dim=1)


def _encode(condition: Condition, values: Tensor) -> Iterator[Tensor]:
    """Columns (N, 1) of values (N, 1)."""
    if condition.kind == "periodic":
        yield values.sin()
        yield values.cos()
    elif condition.kind == "category":
        yield from ((values == category).to(values.dtype) for category in condition.categories)
    else:
        low, high = condition.range or (-1.0, 1.0)
        yield (values - (low + high) / 2) / ((high - low) / 2 or 1.0)
