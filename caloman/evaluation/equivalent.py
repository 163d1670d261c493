"""How many Geant4 showers a generator is worth: the n at which they are as far from a reference as its showers are.

Squared distances of n Geant4 showers fall like 1/n to what the finite reference leaves. The line is fitted to
subsamples of different size, and the n at the generator's distance read off. The generated showers are finite
themselves, which is subtracted: 1/n = 1/n_read - 1/N for N generated ones. Errors come from leaving out a tenth of all
showers in turn. The resolution of an energy calibration on the reference, learned from n showers, is such a distance.

References:
    CMS Collaboration, CMS-DP-2026-049, for the quantity.
"""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloman.evaluation.binnings import energy_windows, within
from caloman.evaluation.distances import frechet_distances, largest_magnitude
from caloman.evaluation.downstream.calibration import calibration_resolutions, calibration_terms
from caloman.evaluation.inputs import high_level_inputs, relative_observables
from caloman.evaluation.pairs import GROUPS, with_error
from caloman.evaluation.samples import Sample
from caloman.evaluation.schema import Equivalent, EquivalentNumber, EquivalentWindow
from caloman.evaluation.summary import Summary
from caloman.evaluation.two_sample import kolmogorov_smirnov_distances, sliced_wasserstein_distances
from caloman.showers.observables import Observables

Array = NDArray[np.float64]

POINTS = 3
"""Fewest numbers of showers that a line is fitted to."""
SPLITS = (16, 8, 4, 2, 1)
"""Parts that the Geant4 showers are split into."""
PARTS = 4
"""Parts of a split that are measured, at most."""
SMALLEST_PART = 25
MIN_SHOWERS = SMALLEST_PART * SPLITS[-POINTS]
"""Fewest Geant4 showers for three points on a line; the Fréchet distance needs more."""
MOST_SHOWERS = 20_000


class Measure(NamedTuple):
    """A distance between samples: its label, the points (N, D) that represent showers, the distances from the reference
    with all points and without each tenth, which power of it falls like 1/n, and from how many points per dimension on.
    """

    label: str
    features: Callable[[Observables], NDArray[np.floating]]
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
}
"""The distances that equivalent numbers are read from; the first one makes the headline."""


def equivalents(generated: Summary, geant4: Summary, reference: Summary) -> Equivalent:
    """Measures how many Geant4 showers the generated ones are worth, of all and of each window of incident energies.

    Args:
        generated: generated showers.
        geant4: Geant4 showers that are independent of the reference, with the same spectrum.
        reference: Geant4 showers.
    """
    samples = [_by_energy(summary.observables[:MOST_SHOWERS]) for summary in (generated, geant4, reference)]
    windows = []
    for window in energy_windows(reference.observables.incident_energies):
        inside = [observables[within(window, observables)] for observables in samples]
        if min(map(len, inside)) >= MIN_SHOWERS:
            windows.append(EquivalentWindow(window=list(window), measures=_by_distance(*inside)))
    overall = _by_distance(*samples)
    for key, found in overall.items():
        found["label"] = MEASURES[key].label
    first, *others = overall.values()
    worth = f"worth {'' if first['at_least'] else 'about '}{first['words']} Geant4 showers by {first['label']}"
    return Equivalent(
        statement=", ".join([worth, *(f"{other['words']} by {other['label']}" for other in others)]),
        training_showers=_training_showers(generated.sample),
        measures=overall,
        windows=windows,
    )


def equivalent(generated: NDArray, geant4: NDArray, reference: NDArray, measure: Measure) -> EquivalentNumber:
    """Reads off how many of the Geant4 points (M, D) are as far from the reference (K, D) as generated ones (N, D)."""
    splits = _splits(len(geant4), geant4.shape[1], measure)
    parts = [[geant4[first::k] for first in range(min(k, PARTS))] for k in splits]
    curve = np.array([np.mean([measure.distances(reference, part) for part in split], axis=0) for split in parts])
    distances = measure.distances(reference, generated)
    left = np.array([1.0, *[1 - 1 / GROUPS] * GROUPS])
    sizes = len(geant4) / np.array(splits)
    # squared distances have about the same relative error, over the root of the number of parts
    weights = sizes * np.sqrt([len(split) for split in parts])
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
    showers = round(1 / (max(value, 0.0) + 2 * error if at_least else value))
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


def _by_distance(generated: Observables, geant4: Observables, reference: Observables) -> dict[str, EquivalentNumber]:
    found = {}
    for key, measure in MEASURES.items():
        x, y, z = (measure.features(observables) for observables in (generated, geant4, reference))
        if len(_splits(len(y), y.shape[1], measure)) >= POINTS:
            scale = largest_magnitude(z) if key == "fpd" else np.where(z.std(axis=0) > 0, z.std(axis=0), 1)
            found[key] = equivalent(x / scale, y / scale, z / scale, measure)
    return found


def _splits(n_showers: int, dimensions: int, measure: Measure) -> list[int]:
    """Numbers of parts that are large enough for the distance to fall like its power says."""
    least = max(SMALLEST_PART, measure.least * dimensions)
    return [k for k in SPLITS if n_showers >= k * least]


def _by_energy(observables: Observables) -> Observables:
    """Ordered by energy, equal energies at random, so that every k-th shower has the spectrum of all."""
    tie = np.random.default_rng(0).random(len(observables))
    return observables[np.lexsort([tie, observables.incident_energies])]


def _training_showers(sample: Sample) -> int | None:
    """Number of showers that the generator was trained on, if the sample records it."""
    found = sample.attributes("training_showers") - {"", "0"}
    return int(min(found)) if len(found) == 1 and re.fullmatch("[0-9]{1,18}", min(found)) else None


def _rounded(number: float, error: float) -> int:
    """A number to two digits of its error."""
    return int(round(number, 1 - math.floor(math.log10(max(error, 1)))))
