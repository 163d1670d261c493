"""What the decoder of a `CoarseManifold` sees of layers: images and numbers of order one."""

import torch
from torch import Tensor


def aligned(planes: Tensor, layer: Tensor, back: bool = False) -> Tensor:
    """Planes (M, ..., A, R) with those of odd layers turned by a bin, so that neighbors differ along z, too."""
    is_odd = (layer % 2 == 1).reshape(-1, *([1] * (planes.dim() - 1)))
    return torch.where(is_odd, planes.roll(-1 if back else 1, -2), planes)


def brightness(energies: Tensor) -> Tensor:
    """A number of order one for each energy of the size of the unit, 0 for none."""
    return energies.log1p() / 3


def hits_feature(hits: Tensor, places: Tensor) -> Tensor:
    """The log-odds of a hit, with half a voxel of each kind added."""
    return (hits + 0.5).log() - (places - hits + 0.5).log()


def shares_feature(shares: Tensor) -> Tensor:
    """A number of order one for each share of energy."""
    return (shares + 1e-3).log() / 3
