"""Normalizing flows: chains of transforms on a standard normal distribution, and two kinds of them."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from caloman.flows.autoregressive import Autoregressive, Direction
from caloman.flows.coupling import Coupling
from caloman.flows.distribution import Distribution
from caloman.flows.elementwise import Affine, Elementwise, Spline
from caloman.flows.linear import ActNorm, LULinear, Permutation
from caloman.flows.transform import Step, Transform
from caloman.nn.mlp import PlainMLP, ResidualMLP


class Flow(Distribution):
    """A conditional density made of invertible transforms.

    Args:
        features: size D of the vectors, and of the noise.
        transforms: from data to noise.
    """

    transforms: nn.ModuleList

    def __init__(self, features: int, transforms: Sequence[Transform]) -> None:
        super().__init__(features, features)
        self.transforms = nn.ModuleList(transforms)

    def log_prob(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        noise, log_prob = inputs, inputs.new_zeros(len(inputs))
        for transform in self.transforms:
            noise, log_det = transform(noise, context)
            log_prob = log_prob + log_det
        return log_prob + self.log_prob_of_noise(noise)

    def sample(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        outputs = noise
        for transform in self.transforms[::-1]:
            outputs, _ = transform.inverse(outputs, context)  # type: ignore[operator]
        return outputs

    def trace(self, inputs: Tensor, context: Tensor | None = None, inverse: bool = False) -> list[Step]:
        """What each transform does on the way from data (N, D) to noise, or from noise to data, in order of travel."""
        steps: list[Step] = []
        for transform in self.transforms[:: -1 if inverse else 1]:
            steps.append(transform.step(inputs, context, inverse))  # type: ignore[operator]
            inputs = steps[-1].outputs
        return steps

    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor | None]]]) -> None:
        """Sets each ActNorm, in the order of the transforms, from batches of data (n, D) and contexts (n, C)."""
        for index, transform in enumerate(self.transforms):
            if isinstance(transform, ActNorm):
                before = Flow(self.features, list(self.transforms[:index]))  # type: ignore[arg-type]
                transform.fit([x, *(step.outputs for step in before.trace(x, c))][-1] for x, c in batches())


class CouplingFlow(Flow):
    """Pairs of couplings with linear mixing. Each pair moves every entry once; it starts as a permutation.

    The two halves change roles within a pair, and a permutation after it draws new halves at random.

    Args:
        features: size of the vectors.
        context: size of the condition; 0 for none.
        transforms: number of couplings.
        elementwise: map of the coupled entries: ``spline`` (C-RQS) or ``affine`` (RealNVP).
        bins: pieces of the spline.
        bound: half the side of the spline's box.
        hidden: width of the conditioners.
        blocks: blocks of each conditioner.
        residual: whether blocks have skip connections and two layers each, or are single layers.
        mixing: ``permutation`` after each pair, or ``lu``: also a trained matrix in LU form after each coupling.
        actnorm: put an ActNorm before each coupling.

    References:
        Durkan et al., Neural Spline Flows (arXiv:1906.04032).
    """

    def __init__(
        self,
        features: int,
        context: int = 0,
        transforms: int = 4,
        elementwise: Literal["spline", "affine"] = "spline",
        bins: int = 8,
        bound: float = 5.0,
        hidden: int = 64,
        blocks: int = 2,
        residual: bool = True,
        mixing: Literal["lu", "permutation"] = "lu",
        actnorm: bool = False,
    ) -> None:
        kind = _elementwise(elementwise, bins, bound)
        network = partial(ResidualMLP if residual else PlainMLP, hidden=hidden, blocks=blocks)
        chain: list[Transform] = []
        for i in range(transforms):
            mask = (torch.arange(features, device="cpu") % 2 == i % 2) & (features > 1)
            chain += [ActNorm(features)] if actnorm else []
            chain += [Coupling(mask, context, kind, network)]
            chain += [Permutation(features)] if i % 2 else []
            chain += [LULinear(features)] if mixing == "lu" else []
        super().__init__(features, chain)


class AutoregressiveFlow(Flow):
    """Masked autoregressive transforms with permutations between them; starts as a permutation of the identity.

    Args:
        features: size of the vectors.
        context: size of the condition; 0 for none.
        transforms: number of autoregressive transforms.
        elementwise: map of the entries: ``spline`` (A-RQS) or ``affine`` (MAF).
        direction: with a single pass: ``density`` (MAF), or ``sampling`` (IAF), then the other takes D passes.
        bins: pieces of the spline.
        bound: half the side of the spline's box.
        hidden: width of the masked conditioners.
        blocks: blocks of each conditioner.
        residual: whether the blocks have skip connections.
        dropout: of the conditioners.
        mixing: between transforms: a random permutation with (``lu``) or without a trained matrix in LU form, the
            reversed order, or reversed and random in turn (``alternate``, as in CaloFlow).
        groups: sizes of consecutive groups of entries, such as layers, within which permutations stay.
        actnorm: put an ActNorm before each transform.

    References:
        Papamakarios et al., MAF (arXiv:1705.07057); Durkan et al., Neural Spline Flows (arXiv:1906.04032).
    """

    def __init__(
        self,
        features: int,
        context: int = 0,
        transforms: int = 4,
        elementwise: Literal["spline", "affine"] = "spline",
        direction: Direction = "density",
        bins: int = 8,
        bound: float = 5.0,
        hidden: int = 64,
        blocks: int = 2,
        residual: bool = False,
        dropout: float = 0.0,
        mixing: Literal["lu", "permutation", "reverse", "alternate"] = "permutation",
        groups: Sequence[int] | None = None,
        actnorm: bool = False,
    ) -> None:
        kind = _elementwise(elementwise, bins, bound)
        chain: list[Transform] = []
        for i in range(transforms):
            chain += [ActNorm(features)] if actnorm else []
            chain += [Autoregressive(features, context, kind, direction, hidden, blocks, residual, dropout)]
            chain += [Permutation(features, mixing == "reverse" or (mixing == "alternate" and i % 2 == 0), groups)]
            chain += [LULinear(features)] if mixing == "lu" else []
        super().__init__(features, chain)


def _elementwise(name: Literal["spline", "affine"], bins: int, bound: float) -> Elementwise:
    return Spline(bins, bound) if name == "spline" else Affine()


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
