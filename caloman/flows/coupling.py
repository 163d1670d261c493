"""Coupling transforms: one half of the vector sets the map of the other half.

References:
    Dinh et al., Real NVP (arXiv:1605.08803); Durkan et al., Neural Spline Flows (arXiv:1906.04032).
"""

import torch
from torch import Tensor, nn

from caloman.flows.elementwise import Elementwise
from caloman.flows.transform import Conditioned, Step
from caloman.nn.mlp import PlainMLP, ResidualMLP


class Coupling(Conditioned):
    """A coupling transform that starts as the identity.

    Args:
        mask: True for the entries that pass unchanged and condition the others, shape (D,).
        context: size of the condition; 0 for none.
        elementwise: map of the other entries.
        hidden: width of the conditioner.
        blocks: number of its blocks.
        residual: whether they have skip connections and two layers each, or are single layers.
    """

    kept: Tensor
    moved: Tensor
    order: Tensor

    def __init__(
        self,
        mask: Tensor,
        context: int,
        elementwise: Elementwise,
        hidden: int = 64,
        blocks: int = 2,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.elementwise = elementwise
        kept, moved = mask.nonzero().squeeze(1), (~mask).nonzero().squeeze(1)
        self.register_buffer("kept", kept, persistent=False)
        self.register_buffer("moved", moved, persistent=False)
        self.register_buffer("order", torch.cat([kept, moved]).argsort(), persistent=False)
        network = ResidualMLP if residual else PlainMLP
        self.conditioner = network(len(kept), context, len(moved) * elementwise.n_parameters, hidden, blocks)
        nn.init.zeros_(self.conditioner.last.weight)
        nn.init.zeros_(self.conditioner.last.bias)

    def step(self, inputs: Tensor, context: Tensor | None = None, inverse: bool = False) -> Step:
        kept, moved = inputs.index_select(1, self.kept), inputs.index_select(1, self.moved)
        raw = self.conditioner(kept, context)
        parameters = raw.unflatten(1, (self.elementwise.n_parameters, -1)).movedim(1, -1)
        moved, log_slopes = self.elementwise(moved, parameters, inverse)
        return Step(torch.cat([kept, moved], dim=1).index_select(1, self.order), log_slopes.sum(dim=1), raw)
