"""What the spread of an ensemble tells: bands of its histograms, and whether Geant4 lies in them as often as it should.

The members are taken as draws from the distribution of all trainings. If the truth were one more draw, the difference
between it and their mean would be covered at the nominal rate; less means that the members share an error, which no
spread can show, and more that they differ by more than they are wrong.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

LEVELS = (0.68, 0.95)
MIN_ENTRIES = 10  # bins in which the members have fewer entries on average are left out: their counts are not Gaussian


class Band(NamedTuple):
    """Fractions of showers per bin, (B,): mean and sample standard deviation of the members, mean statistical error."""

    mean: Array
    spread: Array
    statistical: Array


class Calibration(NamedTuple):
    """Pulls of the reference in the bins that were used, (K,), and their fraction in the band of each of `LEVELS`."""

    pulls: Array
    coverage: tuple[float, ...]

    def __str__(self) -> str:
        n = max(len(self.pulls), 1)
        parts = [
            f"{100 * found:.0f} ± {100 * np.sqrt(level * (1 - level) / n):.0f} % in the {100 * level:.0f} % band"
            for found, level in zip(self.coverage, LEVELS, strict=True)
        ]
        return f"the reference lies in the ensemble's bands in {' and '.join(parts)} ({len(self.pulls)} bins)"


def histogram_bands(counts: Sequence[Array]) -> Band:
    """Mean and spread of one histogram over the members of an ensemble, from the entries per bin (B,) of each."""
    fractions, variances = zip(*map(_fractions, counts), strict=True)
    return Band(np.mean(fractions, axis=0), np.std(fractions, axis=0, ddof=1), np.sqrt(np.mean(variances, axis=0)))


def calibrate(members: Sequence[Sequence[Array]], reference: Sequence[Array]) -> Calibration:
    """Measures how often the reference lies within the bands of an ensemble, over the bins of several histograms.

    The variance of the difference is spread^2 (1 + 1/M), for one more draw and for the mean of M, plus the part of the
    reference's statistical variance that the members do not have, too. As the spread is known from M members only, the
    bands are those of Student's t with the degrees of freedom of Welch and Satterthwaite. Bins of one histogram are
    not independent, so the error of the coverage is a lower bound.

    Args:
        members: for each member the entries per bin of each histogram.
        reference: the entries per bin of each histogram.
    """
    pulls, limits = [], []
    for own, *counts in zip(reference, *members, strict=True):
        used = np.mean(counts, axis=0) >= MIN_ENTRIES
        band = histogram_bands(counts)
        fractions, variance = _fractions(own)
        known = np.maximum(variance - band.statistical**2, 0)
        estimated = np.maximum(band.spread**2, 1e-30) * (1 + 1 / len(members))
        freedom = (len(members) - 1) * ((known + estimated) / estimated) ** 2
        pulls.append(((fractions - band.mean) / np.sqrt(known + estimated))[used])
        limits.append([stats.t.ppf((1 + level) / 2, freedom[used]) for level in LEVELS])
    all_pulls = np.concatenate(pulls)
    inside = np.abs(all_pulls) <= np.concatenate(limits, axis=1)
    return Calibration(all_pulls, tuple(inside.mean(axis=1).tolist()))


def _fractions(counts: Array) -> tuple[Array, Array]:
    """Fraction of the entries per bin and its multinomial variance, each of shape (B,)."""
    total = max(float(counts.sum()), 1.0)
    fractions = counts / total
    return fractions, fractions * (1 - fractions) / total
