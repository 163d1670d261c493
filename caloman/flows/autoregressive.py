"""Autoregressive transforms: the map of each entry is set by the entries before it.

References:
    Papamakarios et al., MAF (arXiv:1705.07057); Kingma et al., IAF (arXiv:1606.04934);
    Durkan et al., Neural Spline Flows (arXiv:1906.04032).
"""

from typing import Literal

import torch
from torch import Tensor

from caloman.flows.elementwise import Elementwise
from caloman.flows.transform import Conditioned, Step
from caloman.nn.masked import MADE, MADESequence
from caloman.nn.mlp import start_at_zero

Direction = Literal["density", "sampling"]


class Autoregressive(Conditioned):
    """An autoregressive transform; it starts as the identity.

    One direction is a single pass through the conditioner; the other finds one entry after the other, with a gradient
    only while training. The elementwise map leads from data to noise in both cases, so that the raw parameters of the
    two kinds can be compared.

    Args:
        features: size D of the vectors.
        context: size of the condition; 0 for none.
        elementwise: map of the entries.
        direction: with a single pass: ``density`` conditions on data (MAF), ``sampling`` on noise (IAF).
        hidden: of the conditioner, as all that follow, see `MADE`.
    """

    def __init__(
        self,
        features: int,
        context: int,
        elementwise: Elementwise,
        direction: Direction = "density",
        hidden: int = 64,
        blocks: int = 2,
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.elementwise = elementwise
        self.on_noise = direction == "sampling"
        self.sampling_passes = 1 if self.on_noise else features
        self.conditioner = MADE(features, context, elementwise.n_parameters, hidden, blocks, residual, dropout)
        start_at_zero(self.conditioner.last)

    def step(self, inputs: Tensor, context: Tensor | None = None, inverse: bool = False) -> Step:
        if inverse == self.on_noise:
            raw = self.conditioner(inputs, context)
            return Step(*self._map(inputs, raw, inverse), raw)
        if (self.training and torch.is_grad_enabled()) or torch.compiler.is_exporting() or torch.jit.is_tracing():
            return self._by_passes(inputs, context, inverse)
        with torch.no_grad():
            return self._by_entries(inputs, context, inverse)

    def _map(self, inputs: Tensor, raw: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        parameters = raw.unflatten(1, (self.elementwise.n_parameters, -1)).movedim(1, -1)
        outputs, log_slopes = self.elementwise(inputs, parameters, inverse)
        return outputs, log_slopes.sum(dim=1)

    def _by_passes(self, inputs: Tensor, context: Tensor | None, inverse: bool) -> Step:
        """D passes with one more correct entry each. A gradient or a graph keeps them all: for few entries only."""
        outputs, log_det = torch.zeros_like(inputs), inputs.new_zeros(inputs.shape[0])
        for _ in range(inputs.shape[1]):
            outputs, log_det = self._map(inputs, self.conditioner(outputs, context), inverse)
        return Step(outputs, log_det)

    def _by_entries(self, inputs: Tensor, context: Tensor | None, inverse: bool) -> Step:
        """The same at the cost of one pass, without a gradient."""
        columns, log_det = inputs.T.contiguous(), inputs.new_zeros(len(inputs))
        sequence = MADESequence(self.conditioner, len(inputs), context)
        for i in range(len(columns)):
            values, log_slopes = self.elementwise(columns[i], sequence.outputs(i).movedim(0, -1), inverse)
            sequence.append(i, values)
            log_det = log_det + log_slopes
        return Step(sequence.inputs.T.contiguous(), log_det)
