"""What every invertible transform of a flow can do."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from caloman.flows.elementwise import Elementwise


class Step(NamedTuple):
    """What one transform did with its inputs.

    Args:
        outputs: shape (N, D).
        log_det: log |det J| of the applied direction, shape (N,).
        raw: outputs of the conditioner, shape (N, number of outputs); None without a conditioner.
    """

    outputs: Tensor
    log_det: Tensor
    raw: Tensor | None = None


class Transform(nn.Module, ABC):
    """An invertible map of vectors under a condition: `forward` leads from data to noise, `inverse` generates."""

    sampling_passes = 1
    """How many passes through its network `inverse` takes."""

    @abstractmethod
    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps data (N, D) under a context (N, C) toward noise; returns (N, D) and log |det J| of shape (N,)."""

    @abstractmethod
    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps noise (N, D) under a context (N, C) toward data; returns (N, D) and log |det J| of shape (N,)."""

    def step(self, inputs: Tensor, context: Tensor | None = None, inverse: bool = False) -> Step:
        """Either direction, together with the raw outputs of the conditioner."""
        return Step(*(self.inverse if inverse else self.forward)(inputs, context))


class Conditioned(Transform):
    """A transform with parameters from a network; it implements `step`."""

    elementwise: Elementwise

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.step(inputs, context)[:2]

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.step(inputs, context, inverse=True)[:2]

    @abstractmethod
    def step(self, inputs: Tensor, context: Tensor | None = None, inverse: bool = False) -> Step: ...


class Sampler(nn.Module):
    """A module from noise to samples."""

    @property
    def one_pass_sampling(self) -> bool:
        """Whether sampling takes one pass through each network, not one for each entry."""
        return self.sampling_passes == 1

    @property
    def sampling_passes(self) -> int:
        """The most passes through a network that sampling takes."""
        return max((part.sampling_passes for part in self.modules() if isinstance(part, Transform)), default=1)
