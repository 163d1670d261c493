"""Whether an exported file gives the showers that the model gives, and how fast it is."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from caloman.export.formats import Array, Run
from caloman.export.targets import Target
from caloman.models import ShowerModel

BATCHES = (1, 2, 1000)
TIMED_BATCHES = (1, 100, 1000)
RELATIVE = 1e-4
"""Largest relative difference of voxels that are hit in both."""
OF_LAYER = 1e-6
"""Largest difference in units of the layer's energy, the rounding of a float32 sum: near the hurdle between a hit and
nothing, the size of the smallest hits changes by more than `RELATIVE` when the network's outputs change in the last
digit."""
SWITCHED = 1e-5
"""Largest share of voxels that are a hit in one and nothing in the other."""


@dataclass(frozen=True)
class Parity:
    """Differences between two evaluations of the same showers.

    Args:
        voxels: number of voxels that were compared.
        switched: share that is a hit in one and nothing in the other.
        beyond: share of the voxels hit in both that differ by more than `RELATIVE`.
        largest: largest relative difference of voxels hit in both, apart from `OF_LAYER` of the layer's energy.
        layers: largest relative difference of layer energies, in showers without a switch.
    """

    voxels: int
    switched: float
    beyond: float
    largest: float
    layers: float

    @property
    def holds(self) -> bool:
        """Whether both are the same generator."""
        return self.switched <= SWITCHED and self.largest <= RELATIVE and self.layers <= RELATIVE

    def __str__(self) -> str:
        return (
            f"{self.voxels} voxels: {self.switched:.1e} switched, largest relative difference {self.largest:.1e} "
            f"({self.beyond:.1e} of the hits beyond {RELATIVE:g}), layer energies {self.layers:.1e}"
        )


def reference_inputs(model: ShowerModel, rows: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise (rows, noise_dim) and incident energies (rows, 1) [MeV], log-uniform in the trained range."""
    generator = np.random.default_rng(seed)
    low, high = np.clip(model.energy_range.cpu().numpy().astype(float), 1.0, 1e9)
    energies = low * (high / low) ** generator.random((rows, 1))
    noise = generator.standard_normal((rows, model.noise_dim), dtype=np.float32)
    return torch.from_numpy(noise), torch.from_numpy(energies.astype(np.float32))


def compare(expected: Array, actual: Array, voxel_layer: NDArray[np.int64]) -> Parity:
    """Compares showers (N, V) voxel by voxel; `voxel_layer` (V,) tells the layer of each."""
    a, b = expected.astype(np.float64), actual.astype(np.float64)
    membership = np.eye(voxel_layer.max() + 1)[voxel_layer]
    sums_a, sums_b = a @ membership, b @ membership
    both, switched = (a > 0) & (b > 0), (a > 0) != (b > 0)
    difference = np.where(np.isfinite(b), np.abs(a - b), np.inf)
    size = np.where(both, a, 1.0)
    excess = np.clip(difference - OF_LAYER * sums_a[:, voxel_layer], 0, None) / size
    layers = np.abs(sums_a - sums_b) / np.where(sums_a > 0, sums_a, 1.0)
    return Parity(
        a.size,
        float(switched.mean()) if np.isfinite(b).all() else 1.0,
        float((difference / size > RELATIVE)[both].mean()) if both.any() else 0.0,
        float(excess[both].max(initial=0.0)),
        float(layers[~switched.any(axis=1)].max(initial=0.0)),
    )


def check(target: Target, run: Run, noise: torch.Tensor, incident_energies: torch.Tensor) -> tuple[Parity, list[Array]]:
    """Compares a file with its model at all `BATCHES`; returns the worst parity and the outputs of the largest."""
    order = target.reorder(torch.from_numpy(target.model.geometry.voxel_layer)[None])[0].numpy()
    found = []
    for batch in BATCHES:
        inputs = target.arguments(noise[:batch], incident_energies[:batch])
        outputs = run(*(tensor.numpy() for tensor in inputs))
        if len(outputs) > 1:  # the file drew its noise itself and tells it
            showers = target.model(torch.from_numpy(outputs[1]), incident_energies[:batch])
        else:
            showers = target(*inputs)
        found.append(compare(showers.numpy(), outputs[0], order))
    return max(found, key=lambda parity: (not parity.holds, parity.voxels)), outputs


def time_per_shower(function: Callable[[], object], batch: int, repeats: int = 3) -> float:
    """Shortest time of a few calls, per shower [ms]."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times) / batch


def measure(target: Target, run: Run, noise: torch.Tensor, incident_energies: torch.Tensor) -> dict[str, dict]:
    """Time per shower [ms] of model and file by batch size, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    table: dict[str, dict[str, float]] = {"eager": {}, "exported": {}}
    try:
        for batch in TIMED_BATCHES:
            inputs = target.arguments(noise[:batch], incident_energies[:batch])
            arrays = [tensor.numpy() for tensor in inputs]
            table["eager"][str(batch)] = time_per_shower(lambda x=inputs: target(*x), batch)  # type: ignore[misc]
            table["exported"][str(batch)] = time_per_shower(lambda x=arrays: run(*x), batch)  # type: ignore[misc]
    finally:
        torch.set_num_threads(threads)
    return table


def as_dict(parity: Parity) -> dict[str, float]:
    """The figures of a comparison by name."""
    return asdict(parity)
