"""How many Geant4 showers a generator is worth: the n at which they are as far from a reference as its showers are.

Squared distances of n Geant4 showers fall like 1/n to what the finite reference leaves. The line is fitted to
subsamples of different size, and the n at the generator's distance read off. The generated showers are finite
themselves, which is subtracted: 1/n = 1/n_read - 1/N for N generated ones. Errors come from leaving out a tenth of all
showers in turn. The resolution of an energy calibration on the reference, learned from n showers, is such a distance.
So is the KS distance of the score of boosted trees that tell generated showers from the reference: the observable that
the generator has worst of all.

References:
    CMS Collaboration, CMS-DP-2026-049, for the quantity.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloman.evaluation.binnings import Window, energy_windows
from caloman.evaluation.distances import frechet_distances, largest_magnitude
from caloman.evaluation.downstream.calibration import calibration_resolutions, calibration_terms
from caloman.evaluation.inputs import (
    collect,
    condition_columns,
    detailed_inputs,
    high_level_inputs,
    relative_observables,
)
from caloman.evaluation.pairs import GROUPS, with_error
from caloman.evaluation.samples import Sample
from caloman.evaluation.schema import Equivalent, EquivalentNumber, EquivalentWindow
from caloman.evaluation.summary import Summary
from caloman.evaluation.trees import fit_halves
from caloman.evaluation.two_sample import kolmogorov_smirnov_distances, sliced_wasserstein_distances
from caloman.showers.observables import Observables

Array = NDArray[np.float64]

POINTS = 3  # fewest numbers of showers that a line is fitted to
SPLITS = (16, 8, 4, 2, 1)  # parts that the Geant4 showers are split into
SMALLEST_PART = 25
MIN_SHOWERS = SMALLEST_PART * SPLITS[-POINTS]
"""Fewest Geant4 showers for three points on a line; the Fréchet distance needs more."""
MOST_SHOWERS = 20_000


class Measure(NamedTuple):
    """A distance between samples: its label, the points (N, D) that represent showers (None for scores), the distances
    from the reference with all points and without each tenth, which power of it falls like 1/n, and from how many
    points per dimension on.
    """

    label: str
    features: Callable[[Observables], NDArray[np.floating]] | None
    distances: Callable[[NDArray, NDArray], Array]
    power: int
    least: int = 0


MEASURES = {
    "ks": Measure("mean KS distance", relative_observables, kolmogorov_smirnov_distances, 2),
    "fpd": Measure("FPD", high_level_inputs, frechet_distances, 1, least=4),
    "sliced_wasserstein": Measure(
        "sliced Wasserstein distance", relative_observables, partial(sliced_wasserstein_distances, directions=50), 2
    ),
    "calibration": Measure("resolution of a calibration", calibration_terms, calibration_resolutions, 2, least=20),
    "classifier": Measure("score of boosted trees", None, kolmogorov_smirnov_distances, 2),
}
"""The distances that equivalent numbers are read from; the first one makes the headline."""


@dataclass(frozen=True)
class Points:
    """Showers in the order of their incident energies.

    Args:
        energies: incident energies [MeV], shape (N,).
        by_distance: the points that represent them, shape (N, D), by key of the distance.
    """

    energies: NDArray[np.floating]
    by_distance: dict[str, NDArray]

    def __len__(self) -> int:
        return len(self.energies)

    def within(self, window: Window) -> "Points":
        """Those in a window of the incident energy."""
        rows = slice(*np.searchsorted(self.energies, window))
        return Points(self.energies[rows], {key: points[rows] for key, points in self.by_distance.items()})


def equivalents(generated: Summary, geant4: Summary, reference: Summary) -> Equivalent:
    """Measures how many Geant4 showers the generated ones are worth, of all and of each window of incident energies.

    Args:
        generated: generated showers.
        geant4: Geant4 showers that are independent of the reference, with the same spectrum.
        reference: Geant4 showers.
    """
    summaries = generated, geant4, reference
    scores = _scores([summary.sample.first(MOST_SHOWERS) for summary in summaries])
    samples = [_points(summary.observables[:MOST_SHOWERS], own) for summary, own in zip(summaries, scores, strict=True)]
    windows = []
    for window in energy_windows(reference.observables.incident_energies):
        inside = [sample.within(window) for sample in samples]
        if min(map(len, inside)) >= MIN_SHOWERS:
            windows.append(EquivalentWindow(window=list(window), measures=_by_distance(*inside)))
    overall = _by_distance(*samples)
    for key, found in overall.items():
        found["label"] = MEASURES[key].label
    first = next(iter(overall.values()))
    return Equivalent(
        statement=f"worth {'' if first['at_least'] else 'about '}{first['words']} Geant4 showers by {first['label']}",
        training_showers=_training_showers(generated.sample),
        measures=overall,
        windows=windows,
    )


def equivalent(generated: NDArray, geant4: NDArray, reference: NDArray, measure: Measure) -> EquivalentNumber:
    """Reads off how many of the Geant4 points (M, D) are as far from the reference (K, D) as generated ones (N, D)."""
    splits = _splits(len(geant4), geant4.shape[1], measure)
    curve = np.array(
        [np.mean([measure.distances(reference, geant4[first::k]) for first in range(k)], axis=0) for k in splits]
    )
    distances = measure.distances(reference, generated)
    left = np.array([1.0, *[1 - 1 / GROUPS] * GROUPS])
    sizes = len(geant4) / np.array(splits)
    # squared distances have about the same relative error, over the root of the number of parts
    weights = sizes * np.sqrt(splits)
    lines = [
        np.polyfit(1 / (sizes * part), values, 1, w=weights)
        for part, values in zip(left, (curve**measure.power).T, strict=True)
    ]
    slope, rest = np.transpose(lines)
    inverse = with_error((distances**measure.power - rest) / slope - 1 / (len(generated) * left))
    points = zip(sizes.astype(int).tolist(), curve[:, 0].tolist(), strict=True)
    return equivalent_number(inverse, float(distances[0]), list(points))


def equivalent_number(
    inverse: tuple[float, float], distance: float, curve: Sequence[tuple[int, float]]
) -> EquivalentNumber:
    """A number of showers by its inverse and the error of that, or a lower limit at two errors if these contain 0."""
    value, error = inverse
    at_least = value <= 2 * error
    showers = max(round(1 / (max(value, 0.0) + 2 * error if at_least else value)), 1)
    spread = None if at_least else round(error / value**2)
    return EquivalentNumber(
        showers=showers,
        error=spread,
        at_least=at_least,
        words=f"at least {_rounded(showers, showers)}"
        if spread is None
        else f"{_rounded(showers, spread)} ± {_rounded(spread, spread)}",
        distance=distance,
        curve=[{"showers": n, "distance": own} for n, own in curve],
    )


def _by_distance(generated: Points, geant4: Points, reference: Points) -> dict[str, EquivalentNumber]:
    found = {}
    for key, measure in MEASURES.items():
        x, y, z = (sample.by_distance[key] for sample in (generated, geant4, reference))
        if len(_splits(len(y), y.shape[1], measure)) >= POINTS:
            scale = largest_magnitude(z) if key == "fpd" else _widths(x, y, z)
            found[key] = equivalent(x / scale, y / scale, z / scale, measure)
    return found


def _widths(generated: NDArray, geant4: NDArray, reference: NDArray) -> NDArray:
    """Widths (D,) of reference points, but not far below those of all: a window may leave a layer empty."""
    widths = np.maximum(reference.std(axis=0), 0.1 * np.concatenate([generated, geant4, reference]).std(axis=0))
    return np.where(widths > 0, widths, 1)


def _splits(n_showers: int, dimensions: int, measure: Measure) -> list[int]:
    """Numbers of parts that are large enough for the distance to fall like its power says."""
    least = max(SMALLEST_PART, measure.least * dimensions)
    return [k for k in SPLITS if n_showers >= k * least]


def _points(observables: Observables, scores: Array) -> Points:
    """Ordered by energy, equal energies at random, so that every k-th shower has the spectrum of all."""
    order = np.lexsort([np.random.default_rng(0).random(len(observables)), observables.incident_energies])
    ordered = observables[order]
    by_distance = {key: m.features(ordered) if m.features else scores[order] for key, m in MEASURES.items()}
    return Points(ordered.incident_energies, by_distance)


def _scores(samples: Sequence[Sample]) -> list[Array]:
    """Scores (N, 1) of generated, other Geant4 and reference showers by trees that know the first and the last ones.

    Each shower is scored by one of two sets of trees, which has not seen it.
    """
    inputs = collect(detailed_inputs, samples, condition_columns(samples))
    generated, geant4, reference = np.split(inputs.values, np.cumsum(inputs.sizes)[:-1])
    known, other = np.concatenate([generated, reference]), np.empty(len(geant4))
    labels = np.repeat([0, 1], [len(generated), len(reference)])
    scores = np.empty(len(known))
    for part, (rows, trees) in enumerate(fit_halves(known, labels, np.random.default_rng(0))):
        scores[rows] = trees.decision_function(known[rows])
        other[part::2] = trees.decision_function(geant4[part::2])
    return [own[:, None] for own in (scores[labels == 0], other, scores[labels == 1])]


def _training_showers(sample: Sample) -> int | None:
    """Number of showers that the generator was trained on, if the sample records it."""
    found = sample.attributes("training_showers") - {"", "0"}
    return int(min(found)) if len(found) == 1 and re.fullmatch("[0-9]{1,18}", min(found)) else None


def _rounded(number: float, error: float) -> int:
    """A number to two digits of its error."""
    return int(round(number, 1 - math.floor(math.log10(max(error, 1)))))
