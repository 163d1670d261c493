"""Invertible maps of single numbers, with parameters from a conditioner."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from caloman.flows.spline import rational_quadratic_spline
from caloman.nn.precision import is_traced

IN_CACHE = 10_000
"""Splines per thread whose intermediate results stay in the cache: 1.7 times as fast as 750 000 at once."""


class Elementwise(ABC):
    """A monotone map of each entry of a tensor under `n_parameters` numbers per entry; zeros give the identity."""

    n_parameters: int

    @abstractmethod
    def __call__(self, inputs: Tensor, parameters: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """Maps inputs (*) with parameters (*, n_parameters); returns outputs and log-derivatives, both (*)."""


class Affine(Elementwise):
    """Scale and shift, with the logarithm of the scale kept within (-3, 3)."""

    n_parameters = 2

    def __call__(self, inputs: Tensor, parameters: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """Maps inputs (*) with parameters (*, 2)."""
        dtype = torch.promote_types(inputs.dtype, torch.float32)
        raw, shift = parameters.to(dtype).unbind(dim=-1)
        log_scale = raw / (1 + raw.abs() / 3)
        if inverse:
            return (inputs - shift) * (-log_scale).exp(), -log_scale
        return inputs * log_scale.exp() + shift, log_scale


class Spline(Elementwise):
    """Rational-quadratic spline.

    Args:
        bins: number of pieces.
        bound: half the side of the box outside which the map is the identity.
    """

    def __init__(self, bins: int = 8, bound: float = 5.0) -> None:
        self.bins = bins
        self.bound = bound
        self.n_parameters = 3 * bins - 1

    def __call__(self, inputs: Tensor, parameters: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """Maps inputs (*) with parameters (*, 3 bins - 1)."""
        if torch.is_grad_enabled() or inputs.device.type != "cpu" or is_traced():
            return self._map(inputs, parameters, inverse)
        rows = max(1, IN_CACHE * torch.get_num_threads() // max(1, inputs.shape[1:].numel()))
        parts = zip(inputs.split(rows), parameters.split(rows), strict=True)
        outputs, log_slopes = zip(*(self._map(*part, inverse) for part in parts), strict=True)
        return torch.cat(outputs), torch.cat(log_slopes)

    def _map(self, inputs: Tensor, parameters: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        widths, heights, derivatives = parameters.split([self.bins, self.bins, self.bins - 1], dim=-1)
        return rational_quadratic_spline(inputs, widths, heights, derivatives, self.bound, inverse)
