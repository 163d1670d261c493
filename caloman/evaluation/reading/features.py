"""Features of showers that a person can name: energy, hits, center and width of every layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from caloman.evaluation.binnings import LABELS, MOMENTS, format_energy
from caloman.evaluation.samples import Sample
from caloman.evaluation.summary import Summary
from caloman.showers.observables import Observables

Array = NDArray[np.float64]

BANDS = (0.1, 0.25, 0.5, 0.75, 0.95)
"""Shares of the hits of Geant4 below the limits between bands of hits, before these are rounded."""
ROUND = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Feature:
    """One number of a shower.

    Args:
        group: energies, hits, centers or widths.
        name: what it is, without the layer.
        layer: id of the layer; None for the whole shower.
        unit: mm for positions, or nothing for amounts, whose differences are relative.
        band: energies [MeV] of the hits that count, if not all do, from (included) and to (excluded).
    """

    group: str
    name: str
    layer: int | None = None
    unit: str = ""
    band: tuple[float, float] | None = None

    @property
    def title(self) -> str:
        """What it is, with the band."""
        if self.band is None:
            return self.name
        low, high = self.band
        if low == 0:
            return f"{self.name} below {format_energy(high)}"
        if not np.isfinite(high):
            return f"{self.name} above {format_energy(low)}"
        first, last = format_energy(low), format_energy(high)
        return f"{self.name} of {first.split()[0] if first.split()[1] == last.split()[1] else first} to {last}"


@dataclass(frozen=True)
class Table:
    """Features of N showers.

    Args:
        features: the F columns.
        values: shape (N, F); NaN where a layer is empty and so has no center or width.
        energies: incident energies [MeV], shape (N,).
        positions: numbers of the showers in their sample, shape (N,).
    """

    features: Sequence[Feature]
    values: Array
    energies: Array
    positions: NDArray[np.intp]


def tabulate(summary: Summary, bands: Sequence[float], limit: int) -> Table:
    """Returns the features of a sample, or of `limit` showers of it, drawn at random; hits are counted in `bands`."""
    sample = summary.sample.drawn(min(limit, len(summary.sample)))
    positions = np.flatnonzero(sample.rows[summary.sample.rows])
    observables = summary.observables[positions]
    columns = [*_energies(observables, sample), *_hits(sample, bands), *_shapes(observables, sample)]
    features, values = zip(*columns, strict=True)
    return Table(features, np.stack(values, axis=1), observables.incident_energies, positions)


def energy_bands(summary: Summary) -> list[float]:
    """Ends of bands of the voxel energy [MeV], round numbers."""
    shares = np.cumsum(summary.spectrum.sum(axis=0))
    ends = np.interp(BANDS, shares / max(shares[-1], 1), summary.spectrum_edges[1:])
    decades = 10.0 ** np.floor(np.log10(ends))
    inner = {
        float(decade * min(ROUND, key=lambda digit: abs(np.log(digit * decade / end))))
        for end, decade in zip(ends, decades, strict=True)
    }
    return [0.0, *sorted(end for end in inner if end > summary.sample.geometry.threshold), np.inf]


def _energies(observables: Observables, sample: Sample) -> Iterator[tuple[Feature, Array]]:
    incident = observables.incident_energies
    yield Feature("energies", LABELS["response"]), observables.total_energy / incident
    for column, layer in enumerate(sample.geometry.layers):
        yield Feature("energies", "energy", layer.id), observables.layer_energies[:, column] / incident


def _hits(sample: Sample, bands: Sequence[float]) -> Iterator[tuple[Feature, Array]]:
    """Numbers of hits of each layer, all of them and in each band."""
    starts = [columns.start for columns in sample.geometry.layer_slices]
    ends = [np.finfo(np.float32).smallest_subnormal, *map(np.float32, bands[1:-1])]  # voxels have been cut
    counts = [
        np.stack([np.add.reduceat(block.voxels >= end, starts, axis=1, dtype=np.int32) for end in ends], axis=2)
        for block in sample.blocks()
    ]
    above = np.concatenate(counts).astype(np.float64)  # shape (N, L, B)
    for column, layer in enumerate(sample.geometry.layers):
        yield Feature("hits", "hits", layer.id), above[:, column, 0]
        inside = -np.diff(above[:, column], axis=1, append=0)
        for number, band in enumerate(pairwise(bands)):
            yield Feature("hits", "hits", layer.id, band=band), inside[:, number]


def _shapes(observables: Observables, sample: Sample) -> Iterator[tuple[Feature, Array]]:
    """Centers and widths of the layers that have energy."""
    layers = sample.geometry.layers
    for name in MOMENTS:
        chosen = [i for i, layer in enumerate(layers) if layer.n_alpha > 1 or name.endswith("_r")]
        unit = "mm" if name in ("center_eta", "center_phi") else ""
        for column, position in enumerate(chosen):
            feature = Feature(f"{name.split('_')[0]}s", LABELS[name], layers[position].id, unit)
            empty = observables.layer_energies[:, position] <= 0
            yield feature, np.where(empty, np.nan, getattr(observables, name)[:, column])
