"""Densities on a manifold x = g(z): those of its coordinates z, per unit of volume within the manifold.

References:
    Brehmer and Cranmer, M-flows (arXiv:2003.13913), equation 8; Loaiza-Ganem et al. (arXiv:2204.07172) for other
    autoencoders.
"""

from collections.abc import Callable

import torch
from torch import Tensor

JITTER = 1e-12
"""Of the Gram matrix, relative to its mean diagonal: it keeps the logarithm finite if a coordinate has no effect."""
NUMBERS = 2**25
"""Entries of Jacobians in memory at a time."""


def jacobian(decode: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    """Derivatives of a decoder by forward mode, all coordinates at once, shape (N, d, D); it can be differentiated.

    Args:
        decode: latents (N, d) to points (N, D), each row by itself.
        latents: where, shape (N, d).
    """

    def push(direction: Tensor) -> Tensor:
        return torch.func.jvp(decode, (latents,), (direction.expand_as(latents),))[1]

    return torch.func.vmap(push, out_dims=1)(torch.eye(latents.shape[1], dtype=latents.dtype, device=latents.device))


def log_volume(decode: Callable[[Tensor], Tensor], latents: Tensor) -> Tensor:
    """Logarithm of the volume on the manifold per volume of the coordinates, log det(J^T J) / 2, shape (N,).

    Computed in double precision from the Jacobian; arguments are those of `jacobian`.
    """
    rows = jacobian(decode, latents).double()
    gram = rows @ rows.mT
    diagonal = gram.diagonal(dim1=1, dim2=2)
    jitter = (JITTER * diagonal.mean(dim=1, keepdim=True)).clamp(min=torch.finfo(gram.dtype).tiny)
    factor = torch.linalg.cholesky(gram + jitter.expand_as(diagonal).diag_embed())
    return factor.diagonal(dim1=1, dim2=2).log().sum(dim=1).to(latents.dtype)
