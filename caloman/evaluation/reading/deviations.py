"""By how much features of generated showers differ from those of Geant4 at the same incident energy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from caloman.evaluation.reading.features import Feature, Table
from caloman.evaluation.samples import distinct_values

Array = NDArray[np.float64]

N_WINDOWS = 20
MIN_SHOWERS = 20  # showers of each sample that a window of the incident energy must have to count
CLIP = 5.0
SMALLEST_VARIANCE = 1e-12
LEVEL = 1e-3  # chance that any one of the deviations of two samples of Geant4 is called significant


@dataclass(frozen=True)
class Deviation:
    """A difference between generated and Geant4 showers.

    Args:
        kind: shift (of the mean), spread (of the standard deviation) or correlation.
        features: the feature, or the two that are correlated.
        size: relative difference, infinite where Geant4 has nothing; of positions [mm] and correlations the difference.
        significance: difference in standard errors.
        reference: what the reference has, of a correlation.
    """

    kind: str
    features: tuple[Feature, ...]
    size: float
    significance: float
    reference: float = 0.0

    @property
    def error(self) -> float:
        return abs(self.size / self.significance) if self.significance else 0.0


@dataclass(frozen=True)
class Residuals:
    """Features in units of the spread that Geant4 showers have at the same incident energy, clipped.

    Args:
        features: the F columns.
        reference: shape (N, F).
        generated: shape (M, F).
        unit: what a residual of 1 is, relative to the mean or [mm], shape (F,).
    """

    features: Sequence[Feature]
    reference: Array
    generated: Array
    unit: Array


def standardize(reference: Table, generated: Table) -> Residuals:
    """Subtracts the mean of the reference at the same incident energy and divides by its standard deviation."""
    edges = _window_edges(reference.energies, min(len(reference.energies), len(generated.energies)))
    windows = [np.searchsorted(edges, table.energies) for table in (reference, generated)]
    residuals = [np.full_like(table.values, np.nan) for table in (reference, generated)]
    relative = np.full_like(generated.values, np.nan)
    for window in range(len(edges) + 1):
        one, other = (own == window for own in windows)
        if min(one.sum(), other.sum()) < MIN_SHOWERS:
            continue
        present = np.isfinite(reference.values[one]).sum(axis=0) >= MIN_SHOWERS
        mean, std = np.full(len(present), np.nan), np.full(len(present), np.nan)
        mean[present] = np.nanmean(reference.values[one][:, present], axis=0)
        std[present] = np.nanstd(reference.values[one][:, present], axis=0)
        scale = np.maximum(std, 1e-9 * np.maximum(np.abs(mean), 1))
        for rows, table, result in zip((one, other), (reference, generated), residuals, strict=True):
            result[rows] = np.clip((table.values[rows] - mean) / scale, -CLIP, CLIP)
        size = np.array([1.0 if feature.unit else m for feature, m in zip(reference.features, mean, strict=True)])
        relative[other] = np.where(std > 0, size / scale, np.nan)
    return Residuals(reference.features, residuals[0], residuals[1], _mean(relative))


def deviations(residuals: Residuals) -> Iterator[Deviation]:
    """Shifts and spreads of every feature, and the correlations of the energies of any two layers."""
    x, y = residuals.reference, residuals.generated
    for feature, unit, shift, error in zip(residuals.features, residuals.unit, *_difference(x, y), strict=True):
        size = shift / unit if unit > 0 else np.copysign(np.inf, shift)
        yield Deviation("shift", (feature,), size, shift / error)
    centered: list[Array] = [values - _mean(values) for values in (x, y)]
    squares = [np.square(values) for values in centered]
    variances = [_mean(values) for values in squares]
    for feature, spread, error, own, other in zip(residuals.features, *_difference(*squares), *variances, strict=True):
        if own > 0 and other > 0:
            yield Deviation("spread", (feature,), np.sqrt(other / own) - 1, spread / error)
    layers = [i for i, f in enumerate(residuals.features) if f.group == "energies" and f.layer is not None]
    scales = [np.sqrt(np.where(variance > 0, variance, np.inf)) for variance in variances]
    scaled: list[Array] = [values / scale for values, scale in zip(centered, scales, strict=True)]
    for a, b in combinations(layers, 2):
        products = [np.multiply(values[:, [a]], values[:, [b]]) for values in scaled]
        (difference,), (error,) = _difference(*products)
        pair = residuals.features[a], residuals.features[b]
        yield Deviation("correlation", pair, difference, difference / error, _mean(products[0])[0])


def significant(found: Sequence[Deviation]) -> list[Deviation]:
    """The deviations that two samples of Geant4 would hardly have, at a level that allows for their number."""
    threshold = limit(found)
    return [deviation for deviation in found if abs(deviation.significance) > threshold]


def limit(found: Sequence[Deviation]) -> float:
    """Significance beyond which a deviation is not chance, given their number."""
    return float(norm.isf(LEVEL / 2 / max(len(found), 1)))


def _window_edges(energies: Array, fewest: int) -> Array:
    """Limits between windows of the incident energy: between those that occur, or with equal numbers of showers, of
    which the smaller sample has enough.
    """
    values = distinct_values(energies)
    if values is None:
        windows = min(N_WINDOWS, max(fewest // (2 * MIN_SHOWERS), 1))
        return np.quantile(energies, np.linspace(0, 1, windows + 1)[1:-1])
    known: Array = values.astype(np.float64)
    return np.sqrt(known[1:] * known[:-1])


def _difference(reference: Array, generated: Array) -> tuple[Array, Array]:
    """Difference of the means of each column and its error, each of shape (F,)."""
    means = [_mean(values) for values in (reference, generated)]
    variance: Array = np.zeros(len(means[0]))
    for values, mean in zip((reference, generated), means, strict=True):
        variance += _mean((values - mean) ** 2) / np.maximum(np.isfinite(values).sum(axis=0), 1)
    return means[1] - means[0], np.sqrt(np.maximum(variance, SMALLEST_VARIANCE))


def _mean(values: Array) -> Array:
    """Mean of each column without NaN; 0 for a column of NaN."""
    return np.nansum(values, axis=0) / np.maximum(np.isfinite(values).sum(axis=0), 1)
