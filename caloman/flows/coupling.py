"""Coupling transforms: one half of the vector sets the map of the other half.

References:
    Dinh et al., Real NVP (arXiv:1605.08803); Durkan et al., Neural Spline Flows (arXiv:1906.04032).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from caloman.flows.elementwise import Elementwise
from caloman.flows.transform import Conditioned, Step
from caloman.nn.mlp import start_at_zero


class Coupling(Conditioned):
    """A coupling transform; it starts as the identity.

    Args:
        mask: True for the unchanged entries, which condition the others, shape (D,), on the CPU.
        context: size of the condition; 0 for none.
        elementwise: map of the other entries.
        network: makes the conditioner from the sizes of its input, condition and output; its layer `last` gives the
            output, the parameters of one kind together.
    """

    kept: Tensor
    moved: Tensor
    order: Tensor

    def __init__(
        self,
        mask: Tensor,
        context: int,
        elementwise: Elementwise,
        network: Callable[[int, int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.elementwise = elementwise
        kept, moved = mask.nonzero().squeeze(1), (~mask).nonzero().squeeze(1)
        self.register_buffer("kept", kept, persistent=False)
        self.register_buffer("moved", moved, persistent=False)
        self.register_buffer("order", torch.cat([kept, moved]).argsort(), persistent=False)
        self.conditioner = network(len(kept), context, len(moved) * elementwise.n_parameters)
        start_at_zero(self.conditioner.get_submodule("last"))

    def step(self, inputs: Tensor, context: Tensor | None = None, inverse: bool = False) -> Step:
        kept, moved = inputs.index_select(1, self.kept), inputs.index_select(1, self.moved)
        raw = self.conditioner(kept, context)
        parameters = raw.unflatten(1, (self.elementwise.n_parameters, -1)).movedim(1, -1)
        moved, log_slopes = self.elementwise(moved, parameters, inverse)
        return Step(torch.cat([kept, moved], dim=1).index_select(1, self.order), log_slopes.sum(dim=1), raw)
