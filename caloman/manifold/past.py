"""What the decoder of a `CoarseManifold` remembers of the layers before one."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.showers.geometry import Geometry, Layer

MEMORY = 0.8
"""Weight of a layer in the memory, for each layer that follows it."""


class Past(nn.Module):
    """Images of the energy before a layer: in the last layer, in the one before that, and in a memory of all.

    They are in the rings of the layer to come. Where these are others than those before, energies are spread over them
    by area. The energy of a layer with a single bin in alpha is spread evenly over all.

    Args:
        geometry: the voxel mesh.
        grid: layers, bins in alpha and rings of the images, (L, A, R).
    """

    overlaps: Tensor

    def __init__(self, geometry: Geometry, grid: Sequence[int]) -> None:
        super().__init__()
        self.grid = tuple(grid)
        self.is_single = [layer.n_alpha == 1 for layer in geometry.layers]
        following = [*geometry.layers[1:], geometry.layers[-1]]
        self.is_equal = [
            layer.r_edges == other.r_edges for layer, other in zip(geometry.layers, following, strict=True)
        ]
        overlaps = [_overlaps(*pair, grid[2]) for pair in zip(geometry.layers, following, strict=True)]
        self.register_buffer("overlaps", torch.stack(overlaps), persistent=False)  # (L, R, R)

    def nothing(self, like: Tensor) -> Tensor:
        """The past of the first layer of showers, (N, 3, A, R), on the device of `like` (N, ...)."""
        return like.new_zeros(like.shape[0], 3, *self.grid[1:])

    def forward(self, past: Tensor, image: Tensor, layer: int) -> Tensor:
        """The past of the layer behind one, from its own past (N, 3, A, R) and its energies (N, A, R) [MeV]."""
        if self.is_single[layer]:
            image = image.mean(1, keepdim=True).expand_as(image)
        past = torch.stack([image, past[:, 0], MEMORY * past[:, 2] + image], dim=1)
        return past if self.is_equal[layer] else past @ self.overlaps[layer].to(past)

    def of_all(self, images: Tensor) -> Tensor:
        """The pasts of all layers of energies (N, L, A, R) [MeV], (N, L, 3, A, R)."""
        pasts = [self.nothing(images)]
        for layer, image in enumerate(images[:, :-1].unbind(1)):
            pasts.append(self(pasts[-1], image, layer))
        return torch.stack(pasts, dim=1)


def _overlaps(before: Layer, behind: Layer, size: int) -> Tensor:
    """Parts of the area of each ring that lie in each ring behind it, (R, R); what lies further out is in the last."""
    rings = torch.tensor(before.r_edges, dtype=torch.float64, device="cpu").square().unsqueeze(1)
    edges = torch.tensor([0.0, *behind.r_edges[1:-1], torch.inf], dtype=torch.float64, device="cpu").square()
    shared = torch.minimum(rings[1:], edges[1:]) - torch.maximum(rings[:-1], edges[:-1])
    return F.pad((shared.clamp(min=0) / rings.diff(dim=0)).float(), (0, size - behind.n_r, 0, size - before.n_r))
