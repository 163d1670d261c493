"""Whether an exported file gives the showers that the model gives, and how fast it is."""

import copy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloman.exporting.formats import Array, Run
from caloman.exporting.targets import Target
from caloman.exporting.timing import fastest, threads
from caloman.models import ShowerModel

BATCHES = (1, 2, 1000)
TIMED_BATCHES = (1, 100, 1000)
RELATIVE = 1e-4  # largest relative difference of voxels that are hit in both, and of layer energies
SWITCHED = 1e-5  # largest share of voxels that are a hit in one and nothing in the other
FEW = 3e-4  # largest share of the hits that differ by more, where the model has none between float32 and float64
STRAY = 10  # voxels that chance may add to either, so that a small mesh does not fail by one voxel at its hurdle
NOTHING = 1e-9
"""Voxels with less than this share of their shower are no hits; only a model without a threshold makes such."""


@dataclass(frozen=True)
class Parity:
    """Differences between two evaluations of the same showers.

    At the hurdle between a hit and nothing the size of a hit changes without bound with the last digit of a network's
    output, so a few voxels differ by more than `RELATIVE` between any two evaluations in float32. How many is a
    property of the model: about the same share differs between its evaluations in float32 and float64. The same holds
    for the energies of nearly empty layers, which a steep piece of a spline magnifies.

    Args:
        voxels: number of voxels that were compared.
        switched: share that is a hit in one and nothing in the other.
        beyond: share of the voxels hit in both that differ by more than `RELATIVE`.
        largest: largest relative difference of voxels hit in both.
        layers: largest relative difference of layer energies, in showers without a switch.
    """

    voxels: int
    switched: float
    beyond: float
    largest: float
    layers: float

    def holds(self, rounding: "Parity") -> bool:
        """Whether both are the same generator, one that differs by `rounding` between float32 and float64."""
        chance = STRAY / max(self.voxels, 1)
        few = self.beyond <= FEW + 4 * rounding.beyond + chance
        switched = self.switched <= SWITCHED + 4 * rounding.switched + chance
        return few and switched and self.layers <= max(RELATIVE, 4 * rounding.layers)

    def __str__(self) -> str:
        return (
            f"{self.voxels} voxels, {self.switched:.1e} switched, {self.beyond:.1e} of the hits differ by more than "
            f"{RELATIVE:g}, the largest by {self.largest:.1e}; layer energies by {self.layers:.1e}"
        )


def reference_inputs(model: ShowerModel, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise (rows, noise_dim) and conditions (rows, C), evenly spread over the trained ranges."""
    generator = np.random.default_rng(seed)
    conditions = model.conditions.at(generator.random((rows, len(model.conditions))))
    noise = generator.standard_normal((rows, model.noise_dim), dtype=np.float32)
    return torch.from_numpy(noise), torch.from_numpy(conditions)


def compare(expected: Array, actual: Array, voxel_layer: NDArray[np.int64]) -> Parity:
    """Compares showers (N, V) voxel by voxel; `voxel_layer` (V,) tells the layer of each."""
    a, b = _hits(expected), _hits(actual)
    membership = np.eye(voxel_layer.max() + 1)[voxel_layer]
    sums_a, sums_b = a @ membership, b @ membership
    both, switched = (a > 0) & (b > 0), (a > 0) != (b > 0)
    difference = np.where(np.isfinite(b), np.abs(a - b), np.inf)[both] / a[both]
    layers = np.abs(sums_a - sums_b) / np.where(sums_a > 0, sums_a, 1.0)
    return Parity(
        a.size,
        float(switched.mean()) if np.isfinite(b).all() else 1.0,
        float((difference > RELATIVE).mean()) if both.any() else 0.0,
        float(difference.max(initial=0.0)),
        float(layers[~switched.any(axis=1)].max(initial=0.0)),
    )


def _hits(showers: Array) -> NDArray[np.float64]:
    voxels = showers.astype(np.float64)
    return np.where(voxels < NOTHING * voxels.sum(axis=1, keepdims=True), 0.0, voxels)


def check(target: Target, run: Run, noise: Tensor, conditions: Tensor) -> tuple[Parity, list[Array]]:
    """Compares a file with its model at all `BATCHES` together; also returns what the model gives for the largest."""
    expected, found = [], []
    for batch in BATCHES:
        inputs = target.arguments(noise[:batch], conditions[:batch])
        outputs = run(*(tensor.numpy() for tensor in inputs))
        drawn = torch.from_numpy(outputs[1]) if len(outputs) > 1 else noise[:batch]  # a file tells what it drew itself
        expected.append(target.given(drawn, conditions[:batch]).numpy())
        found.append(outputs[0])
    layers = target.reorder(torch.from_numpy(target.model.geometry.voxel_layer)[None])[0].numpy()
    parity = compare(np.concatenate(expected), np.concatenate(found), layers)
    return parity, [expected[-1], *outputs[1:]]


def rounding(target: Target, noise: Tensor, conditions: Tensor) -> Parity:
    """How much the model differs between float64 and float32, the yardstick of what an export may differ."""
    wide = copy.deepcopy(target.model).double()(noise.double(), conditions.double())
    return compare(wide.numpy(), target.model(noise, conditions).numpy(), target.model.geometry.voxel_layer)


def measure(target: Target, run: Run, noise: Tensor, conditions: Tensor) -> dict[str, dict]:
    """Time per shower [ms] of model and file by batch size, on one thread."""
    table: dict[str, dict[str, float]] = {"eager": {}, "exported": {}}
    with threads(1):
        for batch in TIMED_BATCHES:
            inputs = target.arguments(noise[:batch], conditions[:batch])
            arrays = [tensor.numpy() for tensor in inputs]
            table["eager"][str(batch)] = 1e3 / batch * fastest(partial(target, *inputs))
            table["exported"][str(batch)] = 1e3 / batch * fastest(partial(run, *arrays))
    return table
