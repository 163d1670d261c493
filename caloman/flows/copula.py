"""A flow with the distribution of each entry by itself first, and the dependence of the entries after that."""

from collections.abc import Callable
from functools import partial

import torch

from caloman.flows.coupling import Coupling
from caloman.flows.elementwise import Spline
from caloman.flows.flow import Flow
from caloman.nn.mlp import ResidualMLP


class CopulaFlow(Flow):
    """A spline for each entry under the condition alone, and a flow for the dependence of the entries (Sklar).

    Edges, peaks and dequantized spikes belong to single entries. The dependence is smooth then, and a small flow, for
    few data, is enough.

    Args:
        features: size of the vectors.
        context: size of the condition.
        flow: of the entries behind their splines.
    """

    def __init__(self, features: int, context: int, flow: Callable[[int, int], Flow]) -> None:
        everything = torch.zeros(features, dtype=torch.bool, device="cpu")
        marginals = Coupling(everything, context, Spline(bins=16), partial(ResidualMLP, hidden=32, blocks=1))
        super().__init__(features, [marginals, *flow(features, context).transforms])
