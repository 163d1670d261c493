"""A flow that knows the distribution of every entry by itself before it ties the entries together."""

from collections.abc import Callable
from functools import partial

import torch

from caloman.flows.coupling import Coupling
from caloman.flows.elementwise import Spline
from caloman.flows.flow import Flow
from caloman.nn.mlp import ResidualMLP


class CopulaFlow(Flow):
    """A spline for each entry under the condition alone, and a flow of what that leaves: the dependence (Sklar).

    Edges, peaks and spikes that were filled belong to single entries. What couples entries need not be sharp then, and
    a small flow, which few data can train, is enough.

    Args:
        features: size of the vectors.
        context: size of the condition.
        flow: of the entries behind their splines.
        bins: pieces of each spline.
        bound: half the side of the splines' box.
        hidden: width of the network that gives the splines.
    """

    def __init__(
        self,
        features: int,
        context: int,
        flow: Callable[[int, int], Flow],
        bins: int = 16,
        bound: float = 5.0,
        hidden: int = 32,
    ) -> None:
        everything = torch.zeros(features, dtype=torch.bool)
        marginals = Coupling(everything, context, Spline(bins, bound), partial(ResidualMLP, hidden=hidden, blocks=1))
        super().__init__(features, [marginals, *flow(features, context).transforms])
