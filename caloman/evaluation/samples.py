"""The showers of a file, or of several, that take part in a comparison, and one pass over them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloman.files import sha256
from caloman.showers.conditions import ENERGY, Columns
from caloman.showers.geometry import Geometry
from caloman.showers.observables import apply_threshold
from caloman.showers.showers import Showers
from caloman.showers.slices import ShowerFiles, parse_slices, recorded_sources

Array = NDArray[np.float64]

MAX_DISCRETE_ENERGIES = 32


@dataclass(frozen=True)
class Sample:
    """Rows of shower files.

    Args:
        files: the HDF5 file, or several and slices of them; see `caloman.showers.slices`.
        geometry: the voxel mesh.
        energies: incident energies of all showers of the files [MeV], shape (N_files,).
        rows: which of them belong to the sample, shape (N_files,).
        conditions: of all showers of the files beside the energy, by name, each of shape (N_files,).
    """

    files: str | Path
    geometry: Geometry
    energies: NDArray[np.float32]
    rows: NDArray[np.bool_]
    conditions: Columns

    @classmethod
    def open(cls, files: str | Path, geometry: Geometry) -> "Sample":
        """Returns the sample of all showers of the files."""
        with ShowerFiles(files, geometry) as opened:
            energies, conditions = opened.incident_energies(), opened.conditions()
        return cls(files, geometry, energies, np.ones(len(energies), dtype=bool), conditions)

    def __len__(self) -> int:
        return int(self.rows.sum())

    @property
    def name(self) -> str:
        """Names of the files, with the rows that are used."""
        return ", ".join(f"{part.path.name}{part.rows}" for part in parse_slices(self.files))

    @cached_property
    def digests(self) -> list[str]:
        """SHA-256 of each file."""
        return [sha256(part.path) for part in parse_slices(self.files)]

    @property
    def sha256(self) -> str:
        """SHA-256 of the files, with the rows that are used."""
        parts = zip(self.digests, parse_slices(self.files), strict=True)
        return ", ".join(f"{digest}{part.rows}" for digest, part in parts)

    @property
    def origins(self) -> set[str]:
        """SHA-256 of the files, and of those that they were prepared from."""
        return set(self.digests).union(*(recorded_sources(part.path) for part in parse_slices(self.files)))

    def attributes(self, name: str) -> set[str]:
        """What the files record under a name, such as their ``generator``; empty strings where they do not."""
        with ShowerFiles(self.files, self.geometry) as opened:
            return {str(file.attributes.get(name, "")) for file in opened.files}

    @property
    def incident_energies(self) -> NDArray[np.float32]:
        """Incident energies of the sample [MeV], shape (N,)."""
        return self.energies[self.rows]

    def column(self, name: str) -> NDArray[np.float32]:
        """Values of a condition, shape (N,)."""
        return self.incident_energies if name == ENERGY.name else self.conditions[name][self.rows]

    def blocks(self) -> Iterator[Showers]:
        """Iterates over the showers in blocks; voxels below the geometry's threshold are zero."""
        return map(self._cut, self._as_stored())

    def _as_stored(self) -> Iterator[Showers]:
        start = 0
        with ShowerFiles(self.files, self.geometry) as opened:
            for block in opened.blocks():
                rows = self.rows[start : start + len(block)]
                start += len(block)
                chosen = block if rows.all() else block[rows]
                if len(chosen):
                    yield chosen

    def load(self, count: int) -> Showers:
        """Reads the first showers of the sample as they are stored, at most `count`."""
        blocks: list[Showers] = []
        for block in self._as_stored():
            blocks.append(block[: count - sum(map(len, blocks))])
            if sum(map(len, blocks)) == count:
                break
        return Showers.join(blocks)

    def shower(self, position: int) -> Showers:
        """Reads one shower of the sample; voxels below the geometry's threshold are zero."""
        row = int(np.flatnonzero(self.rows)[position])
        with ShowerFiles(self.files, self.geometry) as opened:
            return self._cut(opened.read(row, row + 1))

    def first(self, count: int | None) -> "Sample":
        """Returns the first showers of the sample, or all of them."""
        if count is None:
            return self
        return replace(self, rows=self.rows & (np.cumsum(self.rows) <= count))

    def mean_showers(self, groups: NDArray[np.bool_]) -> Array:
        """Mean energy of each voxel [MeV] in groups of showers (G, N), shape (G, V)."""
        totals, start = np.zeros((len(groups), self.geometry.n_voxels)), 0
        for block in self.blocks():
            totals += groups[:, start : start + len(block)].astype(np.float32) @ block.voxels
            start += len(block)
        return totals / np.maximum(groups.sum(axis=1, keepdims=True), 1)

    def drawn(self, count: int, seed: int = 0) -> "Sample":
        """Returns `count` showers of the sample, drawn at random without repetition, in the order of the files."""
        rows = np.zeros_like(self.rows)
        rows[np.random.default_rng(seed).choice(np.flatnonzero(self.rows), count, replace=False)] = True
        return replace(self, rows=rows)

    def halves(self) -> tuple["Sample", "Sample"]:
        """Returns every second shower, of each incident energy if these are few, and the others."""
        order = np.zeros(len(self.energies), dtype=int)
        for rows in self._groups():
            order[rows] = np.arange(len(rows))
        return tuple(replace(self, rows=self.rows & (order % 2 == parity)) for parity in (0, 1))  # type: ignore[return-value]

    def matched_to(self, energies: NDArray[np.float32]) -> "Sample":
        """Returns a sample of the same size as `energies` [MeV], or smaller where showers are lacking.

        If the incident energies are few, each is taken as often as it occurs in `energies`.
        """
        if distinct_values(energies) is None or distinct_values(self.incident_energies) is None:
            return self.first(len(energies))
        rows = np.zeros_like(self.rows)
        for group in self._groups():
            rows[group[: np.count_nonzero(energies == self.energies[group[0]])]] = True
        return replace(self, rows=rows)

    def _cut(self, showers: Showers) -> Showers:
        apply_threshold(showers.voxels, self.geometry.threshold)
        return showers

    def _groups(self) -> list[NDArray[np.intp]]:
        """Row numbers by incident energy; one group if the spectrum is continuous."""
        values = distinct_values(self.incident_energies)
        if values is None:
            return [np.flatnonzero(self.rows)]
        return [np.flatnonzero(self.rows & (self.energies == value)) for value in values]


@dataclass(frozen=True)
class LoadedSample(Sample):
    """Showers in memory as a sample."""

    showers: Showers

    @classmethod
    def of(cls, showers: Showers) -> "LoadedSample":
        """Returns the sample of all the showers."""
        rows = np.ones(len(showers), dtype=bool)
        return cls("", showers.geometry, showers.incident_energies, rows, showers.conditions, showers)

    def _as_stored(self) -> Iterator[Showers]:
        yield self.showers[self.rows]

    def attributes(self, name: str) -> set[str]:
        return set()


def common_conditions(samples: Sequence[Sample]) -> list[str]:
    """Names of the conditions beside the energy that all samples have, in alphabetical order."""
    return sorted(set.intersection(*(set(sample.conditions) for sample in samples)))


def distinct_values(energies: NDArray[np.generic]) -> NDArray[np.generic] | None:
    """Returns the energies, or values of another condition, that occur, ascending, or None if they are continuous."""
    values = np.unique(energies)
    return values if len(values) <= MAX_DISCRETE_ENERGIES < len(energies) or len(values) == 1 else None
