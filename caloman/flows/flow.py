"""Normalizing flows: a chain of transforms on a standard normal distribution."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from caloman.flows.coupling import Coupling
from caloman.flows.elementwise import Affine, Elementwise, Spline
from caloman.flows.linear import LULinear, Permutation
from caloman.flows.transform import Transform


class Flow(nn.Module):
    """A conditional density.

    Args:
        features: size D of the vectors.
        transforms: from data to noise.
    """

    transforms: nn.ModuleList

    def __init__(self, features: int, transforms: Sequence[Transform]) -> None:
        super().__init__()
        self.features = features
        self.transforms = nn.ModuleList(transforms)

    def log_prob(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """Logarithm of the density at inputs (N, D) under a context (N, C), shape (N,)."""
        noise, log_prob = inputs, inputs.new_zeros(len(inputs))
        for transform in self.transforms:
            noise, log_det = transform(noise, context)
            log_prob = log_prob + log_det
        return log_prob - 0.5 * (noise.square().sum(dim=1) + self.features * math.log(2 * math.pi))

    def sample(self, noise: Tensor, context: Tensor | None = None) -> Tensor:
        """Turns standard normal noise (N, D) into samples (N, D) under a context (N, C)."""
        outputs = noise
        for transform in self.transforms[::-1]:
            outputs, _ = transform.inverse(outputs, context)  # type: ignore[operator]
        return outputs


class CouplingFlow(Flow):
    """Alternating couplings with linear mixing between them; starts as a permutation of the identity.

    Args:
        features: size of the vectors.
        context: size of the condition; 0 for none.
        transforms: number of couplings.
        elementwise: map of the coupled entries: ``spline`` (C-RQS) or ``affine`` (RealNVP).
        bins: pieces of the spline.
        bound: half the side of the spline's box.
        hidden: width of the residual conditioners.
        blocks: blocks of each conditioner.
        mixing: between couplings: a random permutation with or without a trained matrix in LU form.

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
        mixing: Literal["lu", "permutation"] = "lu",
    ) -> None:
        kind: Elementwise = Spline(bins, bound) if elementwise == "spline" else Affine()
        chain: list[Transform] = []
        for i in range(transforms):
            mask = (torch.arange(features) % 2 == i % 2) & (features > 1)
            chain += [Coupling(mask, context, kind, hidden, blocks), Permutation(features)]
            chain += [LULinear(features)] if mixing == "lu" else []
        super().__init__(features, chain)
