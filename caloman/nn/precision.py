"""What a computation runs in: full precision inside of mixed precision, and recorded graphs."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(device: str) -> AbstractContextManager[object]:
    """Switches autocast off on a type of device: a product in half precision is not undone by its inverse."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def at_least_float32(values: Tensor) -> Tensor:
    """Values in single precision, or in double precision if they have it."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def is_traced() -> bool:
    """Whether a graph is recorded; it must hold for any number of rows."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
