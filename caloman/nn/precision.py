"""Full precision inside of mixed precision."""

from contextlib import AbstractContextManager, nullcontext

import torch


def full_precision(device: str) -> AbstractContextManager[object]:
    """Switches autocast off on a type of device: a product in half precision is not undone by its inverse."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
