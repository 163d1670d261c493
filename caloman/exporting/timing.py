"""Times of functions."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


def seconds(function: Callable[[], object], calls: int = 1) -> float:
    """Wall time of some calls [s]."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return time.perf_counter() - start


def fastest(function: Callable[[], object], enough: float = 0.3) -> float:
    """Shortest wall time of at least two calls [s] that take about as long as `enough` [s], after one to warm up."""
    calls = max(2, round(enough / seconds(function)))
    return min(seconds(function) for _ in range(calls))


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Lets PyTorch use so many threads of the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
