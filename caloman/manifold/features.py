"""What the decoder of a `CoarseManifold` sees of layers: images and numbers of order one."""

import torch
import torch.nn.functional as F
from torch import Tensor

POWERS = 3
"""Powers of the depth, by which the effect of a direction may vary."""


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


def along(alpha: Tensor, depth: Tensor, numbers: Tensor) -> Tensor:
    """Products of cosine and sine of angles (M, cells), powers of depths (M,), and one or each number (M, C).

    Args:
        alpha: of each cell [rad].
        depth: from 0, the first layer, to 1, the last.
        numbers: what acts along a direction, such as the angle of the particle.

    Returns:
        Of shape (M, cells, 2 POWERS (1 + C)).
    """
    circle = torch.stack([alpha.cos(), alpha.sin()], dim=2)
    powers = torch.stack([(2 * depth - 1) ** power for power in range(POWERS)], dim=1)
    products = powers.unsqueeze(2) * F.pad(numbers, (1, 0), value=1.0).unsqueeze(1)
    return (circle.unsqueeze(3) * products.flatten(1)[:, None, None]).flatten(2)


def first_moments(images: Tensor) -> Tensor:
    """First moments in alpha of each ring of images (M, P, A, R).

    Returns:
        Towards cells of two bins in alpha, shape (M, A / 2, P R).
    """
    n_alpha = images.shape[2]
    bins = torch.arange(n_alpha, device=images.device)
    angles = (2 * torch.pi / n_alpha) * (bins[:, None] - 2 * bins[: n_alpha // 2] - 0.5)
    return (images.transpose(2, 3) @ angles.cos().to(images)).permute(0, 3, 1, 2).flatten(2)
