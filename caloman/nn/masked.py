"""Masked autoregressive networks: the outputs of an entry depend only on the entries before it.

References:
    Germain et al., MADE (arXiv:1502.03509).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedLinear(nn.Linear):
    """A linear layer with a mask of weights, the others of which stay zero.

    The mask is applied at each call while training, and once when the layer is switched to evaluation.

    Args:
        mask: True for the weights that remain, shape (outputs, inputs).
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def train(self, mode: bool = True) -> "MaskedLinear":
        if not mode:
            with torch.no_grad():
                self.weight.mul_(self.mask)
        return super().train(mode)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs, self.masked_weight(), self.bias)

    def masked_weight(self) -> Tensor:
        """The weights with zeros where the mask is False, shape (outputs, inputs)."""
        return self.weight * self.mask if self.training else self.weight


class MADE(nn.Module):
    """Masked network with several outputs per entry; those of the first entry depend on the condition alone.

    A masked linear layer joined by one of the condition, blocks of ReLU and masked linear layers, one more of each.
    Entry by entry it can be evaluated by `MADESequence`.

    Args:
        features: number D of entries.
        context: size of the condition; 0 for none.
        outputs: number P of outputs per entry.
        hidden: width.
        blocks: number of blocks: one layer each, or two with a skip connection if `residual`.
        residual: whether blocks add to their input.
        dropout: fraction of the hidden units dropped after each block in training.
    """

    def __init__(
        self,
        features: int,
        context: int,
        outputs: int,
        hidden: int = 64,
        blocks: int = 2,
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.features, self.outputs, self.residual = features, outputs, residual
        # a hidden unit of degree d sees the first d entries, and always the condition
        entries, lowest = torch.arange(features), 0 if context or features == 1 else 1
        self.degrees = degrees = lowest + torch.arange(hidden) % (features - lowest)
        square = degrees[:, None] >= degrees
        self.first = MaskedLinear(degrees[:, None] > entries)
        self.context = nn.Linear(context, hidden) if context else None
        self.blocks = nn.ModuleList(_block(square, residual, dropout) for _ in range(blocks))
        self.last = MaskedLinear((entries[:, None] >= degrees).repeat(outputs, 1))

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Maps inputs (N, D) under a condition (N, C) to (N, P * D), the first output of all entries first."""
        hidden = self.first(inputs)
        if self.context is not None:
            hidden = hidden + self.context(context)
        for block in self.blocks:
            hidden = hidden + block(hidden) if self.residual else block(hidden)
        return self.last(torch.relu(hidden))


def _block(mask: Tensor, residual: bool, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = [nn.ReLU(), MaskedLinear(mask)]
    if residual:
        layers += [nn.ReLU(), MaskedLinear(mask)]
    return nn.Sequential(*layers, nn.Dropout(dropout))


class MADESequence:
    """A MADE whose inputs become known one after the other, as in sampling.

    Each unit is computed once, as soon as its inputs are known: the whole sequence takes as many products as one call
    of the network. Buffers are filled in place: there is no gradient, and no dropout.

    Args:
        made: the network.
        rows: number N of vectors.
        context: condition (N, C).
    """

    def __init__(self, made: MADE, rows: int, context: Tensor | None = None) -> None:
        self.residual = made.residual
        degrees, units = made.degrees.sort(stable=True)
        units = units.to(made.first.bias.device)
        self.known = torch.searchsorted(
            degrees, torch.arange(made.features + 1), right=True
        ).tolist()  # units of degree i or less
        first = made.first.bias.new_zeros(rows, len(units)) + made.first.bias
        if made.context is not None:
            first = first + made.context(context)
        self.first_bias = first[:, units].T.contiguous()
        self.first = made.first.masked_weight()[units]
        hidden = [layer for layer in made.blocks.modules() if isinstance(layer, MaskedLinear)]
        self.hidden = [(layer.masked_weight()[units][:, units], layer.bias[units, None]) for layer in hidden]
        self.last = made.last.masked_weight().unflatten(0, (made.outputs, -1))[:, :, units].movedim(1, 0)
        self.last = self.last.contiguous()  # (D, P, hidden)
        self.last_bias = made.last.bias.unflatten(0, (made.outputs, -1)).T.unsqueeze(2)
        # the entry axis first: known entries are then one contiguous block
        self.inputs = first.new_empty(made.features, rows)
        self.activations = [torch.empty_like(self.first_bias) for _ in range(len(hidden) + 1)]
        self._compute(0, self.known[0], self.inputs[:0])

    def outputs(self, i: int) -> Tensor:
        """Outputs (P, N) of the i-th entry, when the entries before it are known."""
        known = self.known[i]
        return torch.addmm(self.last_bias[i], self.last[i, :, :known], self.activations[-1][:known])

    def append(self, i: int, values: Tensor) -> None:
        """Sets the i-th entry (N,)."""
        self.inputs[i] = values
        self._compute(self.known[i], self.known[i + 1], self.inputs[: i + 1])

    def _compute(self, start: int, stop: int, inputs: Tensor) -> None:
        """Computes the units of all layers between two positions, from the inputs (entries, N) that they see."""
        if start == stop:
            return
        new = torch.addmm(self.first_bias[start:stop], self.first[start:stop, : len(inputs)], inputs)
        skip = new
        for j, (weight, bias) in enumerate(self.hidden):
            self.activations[j][start:stop] = new.relu()
            new = torch.addmm(bias[start:stop], weight[start:stop, :stop], self.activations[j][:stop])
            if self.residual and j % 2:
                new = skip = skip + new
        self.activations[-1][start:stop] = new.relu()
