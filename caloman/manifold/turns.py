"""What `LayerDraws` knows of the layers that it draws, what its network says of them, and where voxels are."""

from typing import NamedTuple

from torch import Tensor

from caloman.manifold.coordinates import Coarse

PAIR = 2
"""Bins of alpha in a cell of the network: the checkerboard is the same in all cells."""
NEVER = -1e4
"""Logit of what cannot be: a hit, or a core, where there is no voxel."""


class Turn(NamedTuple):
    """What is known when M layers are drawn; the odd ones are turned by a bin of alpha, see `aligned`.

    Args:
        planes: images that the network sees, shape (M, P, A, R).
        scalars: numbers that it sees, shape (M, S).
        layer: their numbers, shape (M,).
        left: hits and shares of energy that are not given away yet, both of shape (M, Z).
        number: of the draw, shape (M,); it is for voxels of this color and of higher ones.
        energies: of the layers (M,) [MeV].
    """

    planes: Tensor
    scalars: Tensor
    layer: Tensor
    left: Coarse
    number: Tensor
    energies: Tensor

    def at(self, rows: Tensor) -> "Turn":
        """Some of the layers, whose numbers are (K,)."""
        planes, scalars, layer, left, number, energies = self
        left = Coarse(left.hits[rows], left.shares[rows])
        return Turn(planes[rows], scalars[rows], layer[rows], left, number[rows], energies[rows])

    @property
    def mean(self) -> Tensor:
        """Mean share of a hit in each zone (M, Z)."""
        return self.left.shares / self.left.hits.clamp(min=1)

    @property
    def log_unit(self) -> Tensor:
        """Logarithm of the energy of this hit [MeV]."""
        return (self.mean * self.energies.unsqueeze(1)).clamp(min=1e-30).log()


class Outputs(NamedTuple):
    """What the network says of the voxels of M layers.

    Args:
        logits: of a hit, shape (M, A, R).
        sizes: numbers of the distribution of its size, shape (M, cells, 5, PAIR, R).
        bins: numbers of the bins of small hits, shape (M, cells, bins).
    """

    logits: Tensor
    sizes: Tensor
    bins: Tensor


class Places(NamedTuple):
    """Numbers of P voxels among all in M layers: of the voxel, its layer, its zone and its ring; all of shape (P,)."""

    voxel: Tensor
    row: Tensor
    zone: Tensor
    ring: Tensor
