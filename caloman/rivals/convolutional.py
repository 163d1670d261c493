"""Coupling flows on planes (alpha, r): neighbors are squeezed into channels, and convolutions condition on them.

References:
    Kingma & Dhariwal, Glow (arXiv:1807.03039); convolutional L2LFlows (arXiv:2405.20407).
"""

import math
from functools import partial

import torch
from torch import Tensor

from caloman.errors import CalomanError
from caloman.flows.coupling import Coupling
from caloman.flows.elementwise import Spline
from caloman.flows.flow import Flow
from caloman.flows.linear import ActNorm, LULinear, Permutation
from caloman.flows.transform import Transform
from caloman.rivals.planes import PlaneNetwork, squeeze


class Squeeze(Permutation):
    """The order of cells with all cells of a channel together.

    Args:
        shape: alpha and r of the plane.
        factors: bins of alpha and r whose blocks become channels.
    """

    def __init__(self, shape: tuple[int, int], factors: tuple[int, int]) -> None:
        super().__init__(math.prod(shape))
        self.order = squeeze(torch.arange(math.prod(shape))[None], shape, factors).flatten().argsort()


class ChannelMixing(Transform):
    """One trained matrix for the channels of every cell, at first the identity: Glow's 1x1 convolution.

    Args:
        channels: number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.matrix = LULinear(channels)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._apply_to_cells(inputs, inverse=False)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._apply_to_cells(inputs, inverse=True)

    def _apply_to_cells(self, inputs: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        cells = inputs.unflatten(1, (self.channels, -1)).transpose(1, 2)
        outputs, log_det = self.matrix.step(cells.flatten(0, 1), inverse=inverse)[:2]
        return outputs.reshape(cells.shape).transpose(1, 2).flatten(1), log_det.reshape(cells.shape[:2]).sum(1)


class ConvolutionalCouplingFlow(Flow):
    """Spline couplings of channels, conditioned by convolutions that are circular in alpha.

    Unlike with a checkerboard, no convolution visits a cell in vain. Couplings move one half of the channels in turn.
    They are symmetric under turns by whole blocks; ActNorm is not.

    Args:
        features: number of voxels of the plane.
        context: size of the condition: some planes of the same shape; 0 for none.
        shape: alpha and r of the plane.
        squeeze: bins of alpha and r whose blocks become channels.
        transforms: number of couplings.
        bins: pieces of the spline.
        bound: half the side of the spline's box.
        hidden: channels of the conditioners.
        blocks: residual blocks of each conditioner.

    Raises:
        CalomanError: if shape or squeeze do not fit.
    """

    def __init__(
        self,
        features: int,
        context: int,
        shape: tuple[int, int],
        squeeze: tuple[int, int] = (2, 1),
        transforms: int = 4,
        bins: int = 8,
        bound: float = 5.0,
        hidden: int = 32,
        blocks: int = 2,
    ) -> None:
        channels = math.prod(squeeze)
        if math.prod(shape) != features or context % features:
            raise CalomanError(f"shape = {shape} does not fit {features} voxels under {context} numbers")
        if shape[0] % squeeze[0] or shape[1] % squeeze[1] or channels < 2:
            raise CalomanError(
                f"squeeze = {squeeze} does not cut shape = {shape} into equal blocks of at least two bins"
            )
        network = partial(PlaneNetwork, shape=shape, factors=squeeze, hidden=hidden, blocks=blocks)
        first_half = torch.arange(features, device="cpu") < channels // 2 * (features // channels)
        chain: list[Transform] = [Squeeze(shape, squeeze)]
        for i in range(transforms):
            mask = first_half if i % 2 == 0 else ~first_half
            coupling = Coupling(mask, context, Spline(bins, bound), network)
            chain += [ActNorm(features), coupling, ChannelMixing(channels)]
        super().__init__(features, chain)
