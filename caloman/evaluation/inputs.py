"""What the classifiers see of each shower: all voxels, voxels within their layer, observables, or more of these, and
the conditions of its incident particle.

References:
    Krause and Shih, CaloFlow (arXiv:2106.05285); Krause et al., CaloChallenge 2022 (arXiv:2410.21611).
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.evaluation.samples import Sample, common_conditions
from caloman.showers.conditions import known
from caloman.showers.observables import Observables, compute_observables
from caloman.showers.showers import Showers

Array = NDArray[np.float32]

MEMORY_LIMIT = 2**30  # inputs with more bytes than this are kept in a temporary file
CHECKED_ROWS = 4096


@dataclass(frozen=True)
class Inputs:
    """Inputs of all classes, one row per shower.

    Args:
        values: the classes one after the other, in memory or mapped from a temporary file, shape (N, D).
        sizes: number of showers of each class, N in total.

    Raises:
        CalomanError: if a value is not finite.
    """

    values: Array
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        for start in range(0, len(self.values), CHECKED_ROWS):
            wrong = np.argwhere(~np.isfinite(self.values[start : start + CHECKED_ROWS]))
            if len(wrong):
                row, column = wrong[0] + [start, 0]
                label = self.labels[row]
                raise CalomanError(
                    f"classifier inputs: {self.values[row, column]} in column {column} of shower "
                    f"{row - sum(self.sizes[:label])} of sample {label}; every input must be a finite number"
                )

    @classmethod
    def of(cls, *classes: NDArray[np.floating]) -> "Inputs":
        """Joins inputs in memory, one array of shape (N_class, D) for each class."""
        return cls(np.concatenate(classes, dtype=np.float32), tuple(map(len, classes)))

    def without_last(self) -> tuple["Inputs", "Inputs"]:
        """All classes but the last one, and that."""
        start = sum(self.sizes[:-1])
        return Inputs(self.values[:start], self.sizes[:-1]), Inputs(self.values[start:], self.sizes[-1:])

    @property
    def n_features(self) -> int:
        """Number of inputs of a shower, D."""
        return int(self.values.shape[1])

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Number of each shower's class, shape (N,)."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


def condition_columns(samples: Sequence[Sample]) -> Array:
    """The conditions beside the energy that all samples have, as numbers for classifiers; a sample is a class.

    Sine and cosine of periodic conditions, one column per category, and others as they are, shape (N, K).
    """
    columns: list[NDArray[np.floating]] = []
    for name in common_conditions(samples):
        values = np.concatenate([sample.column(name) for sample in samples])
        kind = known(name).kind
        if kind == "periodic":
            columns += [np.sin(values), np.cos(values)]
        else:
            columns += [values == category for category in np.unique(values)] if kind == "category" else [values]
    return np.array(columns, np.float32).reshape(-1, sum(map(len, samples))).T


def high_level_inputs(observables: Observables) -> Array:
    """Returns the official vector of observables, energies [MeV] as log10, lengths in 100 mm, shape (N, F)."""
    o = observables
    columns = [
        *(np.log10(o.incident_energies)[:, None], np.log10(o.layer_energies + 1e-8)),
        *(o.center_eta / 100, o.center_phi / 100, o.width_eta / 100, o.width_phi / 100),
        *(np.log10(o.total_energy + 1e-8)[:, None], o.sparsity, o.center_r / 100, o.width_r / 100),
    ]
    return np.concatenate(columns, axis=1, dtype=np.float32)


def relative_observables(observables: Observables) -> Array:
    """Returns observables at their incident energy, shape (N, F - 1): energies as a fraction of it, lengths in mm."""
    o = observables
    energies = o.incident_energies[:, None]
    columns = [
        *(o.layer_energies / energies, o.total_energy[:, None] / energies, o.sparsity),
        *(o.center_r, o.width_r, o.center_eta, o.center_phi, o.width_eta, o.width_phi),
    ]
    return np.concatenate(columns, axis=1, dtype=np.float32)


def low_level_inputs(block: Showers) -> list[Array]:
    """Log10 of the incident energy [MeV], and every voxel over it."""
    incident = block.incident_energies[:, None]
    return [np.log10(incident), block.voxels / incident]


def normed_inputs(block: Showers) -> list[Array]:
    """Log10 of the incident energy [MeV], every voxel over its layer's energy, and log10 of the layer energies [MeV].

    The official script divides voxels without threshold by layer energies with one, so that a layer may not sum to one.
    Here the voxels have been cut, as for the other classifiers.
    """
    energies = block.geometry.layer_energies(block.voxels)
    shares = block.voxels / (energies + 1e-16).astype(np.float32)[:, block.geometry.voxel_layer]
    return [np.log10(block.incident_energies[:, None]), shares, np.log10(energies + 1e-8)]


def detailed_inputs(block: Showers) -> list[NDArray[np.floating]]:
    """Log10 of the incident energy [MeV], `relative_observables`, of each layer the smallest hit [MeV], the share of
    the largest hit and the mean logarithm of the hits.
    """
    starts = [columns.start for columns in block.geometry.layer_slices]
    voxels, hit = block.voxels, block.voxels > 0
    n_hits = np.add.reduceat(hit, starts, axis=1, dtype=np.int64)
    logs = np.log(voxels, out=np.zeros_like(voxels), where=hit)
    smallest = np.minimum.reduceat(np.where(hit, voxels, np.inf), starts, axis=1)
    largest = np.maximum.reduceat(voxels, starts, axis=1)
    energies = np.maximum(block.geometry.layer_energies(voxels), 1e-16)
    return [
        np.log10(block.incident_energies[:, None]),
        relative_observables(compute_observables([block], threshold=0.0)),
        *(np.where(n_hits > 0, smallest, 0), largest / energies),
        np.add.reduceat(logs, starts, axis=1) / np.maximum(n_hits, 1),
    ]


def collect(
    columns: Callable[[Showers], list[Array]], samples: Sequence[Sample], conditions: Array | None = None
) -> Inputs:
    """Passes over samples, each a class, and joins the columns of their showers with `conditions` (N, K)."""
    sizes, start = tuple(map(len, samples)), 0
    given = np.empty((sum(sizes), 0), np.float32) if conditions is None else conditions
    values = np.empty((0, 0), np.float32)
    for block in chain.from_iterable(sample.blocks() for sample in samples):
        rows = slice(start, start := start + len(block))
        found = [*columns(block), given[rows]]
        if not values.size:
            values = _empty((sum(sizes), sum(part.shape[1] for part in found)))
        np.concatenate(found, axis=1, out=values[rows])
    return Inputs(values, sizes)


def _empty(shape: tuple[int, int]) -> Array:
    """An array in memory, or one in a temporary file that disappears together with the array."""
    n_bytes = 4 * shape[0] * shape[1]
    if n_bytes <= MEMORY_LIMIT:
        return np.empty(shape, dtype=np.float32)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise CalomanError(
            f"{folder}: only {free // 2**20} MiB are free there, but classifier inputs need {n_bytes // 2**20} MiB; "
            "make space or set the environment variable TMPDIR to another folder"
        )
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=shape)
