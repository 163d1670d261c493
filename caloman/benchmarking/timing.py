"""Time and memory of a generator: the protocol of the CaloChallenge, and where the time goes."""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from caloman.benchmarking.engines import Generate
from caloman.exporting.timing import seconds
from caloman.models import FactorizedShowerModel, ManifoldShape, ShowerModel
from caloman.rivals import FlowShape

SECONDS = 1.0  # how long a run takes, about, where the number of showers is free


@dataclass(frozen=True)
class Timing:
    """Wall time of some complete runs, from the drawing of the noise to showers in the memory of the host.

    Args:
        batch: showers per call.
        showers: showers per run.
        mean: of the runs [ms per shower].
        std: their population standard deviation.
        fastest: of the runs, which other programs on the machine disturbed least.
        processor: time that cores worked in the run with the least of it [ms per shower]; waiting for a core that is
            shared with others is not in it, nor is the work of a GPU.
        peak_gb: largest memory of the process, or of the device if that is a GPU, during the runs [GB].
    """

    batch: int
    showers: int
    mean: float
    std: float
    fastest: float
    processor: float
    peak_gb: float


def measure(
    generate: Generate, model: ShowerModel, conditions: Tensor, runs: int, showers: int | None = None
) -> Timing:
    """Times a generator at one batch of conditions (N, C).

    Args:
        generate: makes the showers.
        model: what they are made of, which tells the noise.
        conditions: those of each batch.
        runs: number of complete runs.
        showers: number of showers in each, in whole batches; by default as many as take about a second.
    """
    batch = len(conditions)

    def call() -> None:
        generate(torch.randn(batch, model.noise_dim, device=conditions.device), conditions)

    with torch.inference_mode():
        call()  # compiles, and fills caches
        needed = max(1, round(SECONDS / seconds(call))) if showers is None else -(-showers // batch)
        with _peak_memory(conditions.device) as peak:
            wall, processor = np.array([_clocks(call, needed) for _ in range(runs)]).T * 1e3 / (needed * batch)
    numbers = (wall.mean(), wall.std(), wall.min(), processor.min())
    mean, std, fastest, least = map(float, numbers)
    return Timing(batch, needed * batch, mean, std, fastest, least, peak[0] / 1e9)


def _clocks(call: Callable[[], object], times: int) -> tuple[float, float]:
    """Wall time and processor time of some calls [s]."""
    before = time.process_time()
    wall = seconds(call, times)
    return wall, time.process_time() - before


def conditions_at(model: ShowerModel, rows: int, place: float | None = None) -> Tensor:
    """Conditions (rows, C) of the trained ranges, at a place from 0 (lowest energy) to 1 (highest), or anywhere."""
    shape = (rows, len(model.conditions))
    places = torch.rand(shape) if place is None else torch.full(shape, place)
    return torch.from_numpy(model.conditions.at(places.numpy())).to(model.device)


def stream_weights(model: ShowerModel, runs: int) -> tuple[float, float]:
    """Processor time to read all weights once, as their sum does [ms], the least of some; and their size [GB]."""
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    def call() -> None:
        weights.sum().item()

    call()
    return 1e3 * min(_clocks(call, 1)[1] for _ in range(max(10, runs))), weights.nbytes / 1e9


def shares(model: ShowerModel, conditions: Tensor, runs: int) -> dict[str, float]:
    """Where the time of generation goes: part of the model -> percentage, the parts' sum being 100."""
    clock = dict.fromkeys(_parts(model), 0.0)
    with torch.inference_mode(), _timed(_parts(model), clock, conditions.device):
        noise = torch.randn(len(conditions), model.noise_dim, device=conditions.device)
        model(noise, conditions)
        clock.update(dict.fromkeys(clock, 0.0))
        total = seconds(lambda: _finished(model(noise, conditions)), runs)
    clock["rest"] = total - sum(clock.values())
    return {name: 100 * taken / total for name, taken in clock.items()}


def _parts(model: ShowerModel) -> dict[str, tuple[nn.Module, str]]:
    """Name -> module and method."""
    if not isinstance(model, FactorizedShowerModel):
        return {}
    parts: dict[str, tuple[nn.Module | None, str]] = {"energy model": (model.energy, "forward")}
    if isinstance(model.shape, ManifoldShape):
        parts["latent flow"] = (model.shape.density, "sample")
        parts["residual flow"] = (model.shape.residual, "sample")
        parts["decoder"] = (model.shape.autoencoder, "decode")
    elif isinstance(model.shape, FlowShape):
        parts["voxel flow"] = (model.shape.density, "sample")
    parts["inverse transform"] = (model.transform, "inverse")
    return {name: (module, method) for name, (module, method) in parts.items() if module is not None}


@contextmanager
def _timed(parts: Mapping[str, tuple[nn.Module, str]], clock: dict[str, float], device: torch.device) -> Iterator[None]:
    """Adds the time of each call of the parts to the clock."""

    def wrap(name: str, method: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def timed(*arguments: Tensor) -> Tensor:
            start = time.perf_counter()
            result = _finished(method(*arguments))
            clock[name] += time.perf_counter() - start
            return result

        return timed

    for name, (module, method) in parts.items():
        module.__dict__[method] = wrap(name, getattr(module, method))
    try:
        yield
    finally:
        for module, method in parts.values():
            del module.__dict__[method]


def _finished(result: Tensor) -> Tensor:
    if result.is_cuda:
        torch.cuda.synchronize(result.device)
    return result


@contextmanager
def _peak_memory(device: torch.device) -> Iterator[list[float]]:
    """Gives a list that holds the largest memory of the block [bytes] when the block ends."""
    peak: list[float] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.append(torch.cuda.max_memory_allocated(device))
    else:
        with suppress(OSError):  # only Linux forgets earlier peaks
            Path("/proc/self/clear_refs").write_text("5")
        yield peak
        peak.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
