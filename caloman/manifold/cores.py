"""Where most of the energy of a draw lies, which is chosen before its voxels."""

import torch
from torch import Tensor

from caloman.manifold.turns import NEVER, PAIR, Turn
from caloman.nn.cylinder import CircleNet
from caloman.nn.precision import at_least_float32


class CoreNet(CircleNet):
    """Chances of each bin in alpha to be the core of a draw: to have most of the energy in its group of rings.

    Voxels of one color are independent under what is known. Without a core, a cluster that starts in a layer would be
    drawn in several places, a part of it in each. The core is a function of the shower, as the coordinates are, so that
    likelihoods with cores are lower bounds of those of voxels.

    Args:
        inputs: numbers that the network sees of each cell of two bins.
        context: numbers that it sees besides.
        hidden: its channels.
        color: number of the draw of each voxel, shape (A, R).
        has_voxels: whether a layer has voxels in a bin, shape (L, A).
    """

    color: Tensor
    has_voxels: Tensor

    def __init__(self, inputs: int, context: int, hidden: int, color: Tensor, has_voxels: Tensor) -> None:
        super().__init__(inputs, context, PAIR, hidden, blocks=1)
        self.register_buffer("color", color, persistent=False)
        self.register_buffer("has_voxels", has_voxels, persistent=False)

    def of(self, shapes: Tensor, number: Tensor) -> Tensor:
        """Ones for the cores of the draws with the numbers (M,) of shapes (M, A, R).

        Returns:
            Of shape (M, A), all zero where there is no energy to draw.
        """
        number = number[:, None, None]
        is_drawn = (self.color >= number) & (self.color // PAIR == number // PAIR)
        energies = (shapes * is_drawn).sum(2)
        most = energies.amax(1, keepdim=True)
        return ((energies == most) & (most > 0)).to(shapes)

    def log_prob(self, core: Tensor, inputs: Tensor, turn: Turn) -> Tensor:
        """Logarithms (M,) of the chances of cores (M, A), 0 for none, from inputs (M, cells, inputs)."""
        return (self._log_chances(inputs, turn) * core).sum(1)

    def draw(self, uniform: Tensor, inputs: Tensor, turn: Turn) -> Tensor:
        """Cores (M, A) from uniform numbers (M, 1); none if there is no hit to draw."""
        chances = self._log_chances(inputs, turn).exp()
        ends = chances.cumsum(1)
        place = uniform * ends[:, -1:]
        is_core = (place < ends) & (place >= ends - chances)
        return (is_core & (turn.left.hits.sum(1, keepdim=True) > 0)).to(inputs)

    def _log_chances(self, inputs: Tensor, turn: Turn) -> Tensor:
        logits = at_least_float32(self(inputs, turn.scalars).flatten(1))
        return torch.where(self.has_voxels[turn.layer], logits, NEVER).log_softmax(1)
