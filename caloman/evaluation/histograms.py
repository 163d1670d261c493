"""Histograms of shower observables, and the separation power between two of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from caloman.evaluation.binnings import VOXEL_ENERGY, Binning
from caloman.evaluation.summary import Summary

Array = NDArray[np.float64]

N_BOOTSTRAP = 100


@dataclass(frozen=True)
class Histogram:
    """One observable of the reference and of the generated showers in the same bins.

    Args:
        binning: observable and edges.
        reference: entries per bin, shape (B,).
        generated: entries per bin, shape (B,).
        outside: entries outside the edges, of the reference and of the generated showers.
        groups: if showers have several entries, which are not independent: the entries per bin of groups of showers,
            of the reference and of the generated ones, each of shape (G, B).
    """

    binning: Binning
    reference: Array
    generated: Array
    outside: tuple[int, int]
    groups: tuple[Array, Array] | None = None

    @cached_property
    def separation(self) -> float:
        """Separation power between the two, from 0 (equal) to 1 (disjoint)."""
        return float(separation(self.reference, self.generated))

    @cached_property
    def separation_error(self) -> float:
        """Statistical error of the separation power: its standard deviation over bootstrap samples of the showers."""
        rng = np.random.default_rng(0)
        if self.groups is None:
            resampled = [_resampled(counts, rng) for counts in (self.reference, self.generated)]
        else:
            resampled = [_resampled(np.ones(len(groups)), rng) @ groups for groups in self.groups]
        return float(separation(*resampled).std())

    def fractions(self) -> list[tuple[Array, Array]]:
        """Fraction of the entries in each bin and its error, of both samples in order, each of shape (B,)."""
        pairs = zip((self.reference, self.generated), self.groups or (None, None), strict=True)
        return [_fractions(counts, groups) for counts, groups in pairs]

    def size_factor(self, factor: float) -> float:
        """What the separation power of equal distributions is multiplied with if 1/N + 1/M is, with `factor`.

        A bin with any entry adds (1/N + 1/M) / 4 on average: with p = q, (p - q)^2 / (p + q) / 2 has this mean. More
        showers also reach more bins: by as much for each factor of 2 as both samples together reach more than each.
        """
        occupied = [np.count_nonzero(counts) for counts in (self.reference, self.generated)]
        both = np.count_nonzero(self.reference + self.generated)
        growth = both / np.mean(occupied) if both else 1.0
        return factor * float(growth) ** -math.log2(factor)

    @property
    def outside_fractions(self) -> tuple[float, float]:
        """Fraction of entries outside the edges, of the reference and of the generated showers."""
        (lost, lost_too), kept, kept_too = self.outside, self.reference.sum(), self.generated.sum()
        return float(lost / max(lost + kept, 1)), float(lost_too / max(lost_too + kept_too, 1))


def separation(reference: Array, generated: Array) -> Array:
    """Separation power (triangular discrimination) of histograms, each normalized over its bins.

    A histogram without entries is disjoint from any other (1), and equal to another empty one (0).

    Args:
        reference: entries per bin, shape (..., B).
        generated: entries per bin, shape (..., B).
    """
    p, q = (counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1) for counts in (reference, generated))
    distance = 0.5 * np.sum((p - q) ** 2 / (p + q + 1e-16), axis=-1)
    one_empty = reference.any(axis=-1) ^ generated.any(axis=-1)
    return np.where(one_empty, 1.0, distance)


def fill_histograms(binnings: Sequence[Binning], reference: Summary, generated: Summary) -> list[Histogram]:
    """Fills the histograms of two samples."""
    return [_filled(binning, reference, generated) for binning in binnings]


def _filled(binning: Binning, reference: Summary, generated: Summary) -> Histogram:
    if binning.observable == VOXEL_ENERGY:
        own, other = reference.spectrum, generated.spectrum
        outside = reference.occupied - int(own.sum()), generated.occupied - int(other.sum())
        return Histogram(binning, own.sum(axis=0), other.sum(axis=0), outside, (own, other))
    values = [binning.values(summary.observables) for summary in (reference, generated)]
    first, second = (np.histogram(x, binning.edges)[0].astype(np.float64) for x in values)
    return Histogram(binning, first, second, (len(values[0]) - int(first.sum()), len(values[1]) - int(second.sum())))


def by_observable(histograms: Sequence[Histogram]) -> dict[str, list[int]]:
    """Positions of the histograms of each observable, over layers or energies, in order."""
    groups: dict[str, list[int]] = {}
    for position, histogram in enumerate(histograms):
        groups.setdefault(histogram.binning.observable, []).append(position)
    return groups


def _resampled(counts: Array, rng: np.random.Generator) -> Array:
    """Multinomial bootstrap samples of a histogram, shape (N_BOOTSTRAP, B)."""
    total = int(counts.sum())
    return rng.multinomial(total, counts / max(total, 1), size=N_BOOTSTRAP).astype(np.float64)


def _fractions(counts: Array, groups: Array | None) -> tuple[Array, Array]:
    """Fractions of the entries and their errors, from the groups of showers (G, B) if entries depend on one another."""
    total = max(counts.sum(), 1)
    fractions = counts / total
    if groups is None:
        return fractions, np.sqrt(counts) / total
    deviations = groups - fractions * groups.sum(axis=1, keepdims=True)
    return fractions, np.sqrt(np.square(deviations).sum(axis=0) * len(groups) / max(len(groups) - 1, 1)) / total
