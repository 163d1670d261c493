"""What every invertible transform of a flow can do."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Transform(nn.Module, ABC):
    """An invertible map of vectors under a condition: `forward` leads from data to noise, `inverse` generates."""

    why_not_exportable: str | None = None
    """Why `inverse` cannot be part of an exported graph, and what to export instead; None if it can."""

    @abstractmethod
    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps data (N, D) under a context (N, C) towards noise; returns (N, D) and log |det J| of shape (N,)."""

    @abstractmethod
    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps noise (N, D) under a context (N, C) towards data; returns (N, D) and log |det J| of shape (N,)."""
