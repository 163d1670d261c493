"""What the judge would have seen: the smallest distortions of Geant4 showers that boosted trees find."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from caloman.evaluation.classifier import auc_error, train_trees
from caloman.evaluation.distortions import DISTORTIONS, Name, distorted
from caloman.evaluation.inputs import Inputs, collect, detailed_inputs
from caloman.evaluation.presets import QUICK
from caloman.evaluation.samples import LoadedSample, Sample
from caloman.evaluation.schema import Distortion, Power
from caloman.showers.showers import Showers

SIGMAS = 3.0  # standard errors that an AUC must be above 1/2 to be seen
MIN_SHOWERS = 100
MOST_SHOWERS = 10_000
MOST_VOXELS = 2**26  # voxels in memory at a time
MOST_STEPS = 4  # sizes that are tried of each distortion, at most: each is twice or half the one before
LARGEST = 1.0
HALVES = replace(QUICK, train=0.5, select=0.1, folds=1)
"""One training that is scored on many showers, instead of several."""


def measure_power(geant4: Sample, reference: Sample, advance: Callable[[str], object]) -> Power:
    """Distorts Geant4 showers until boosted trees just see it, and calls `advance` before each distortion."""
    most = min(MOST_SHOWERS, MOST_VOXELS // reference.geometry.n_voxels)
    count = min(most, len(geant4), len(reference))
    showers, truth = geant4.load(count), collect(detailed_inputs, [reference.first(count)])
    size = round(count / QUICK.folds)
    limit = 0.5 + SIGMAS * auc_error([0.5] * QUICK.folds, (size, size), QUICK.folds)
    found = []
    for name in DISTORTIONS:
        advance(f"distortion {name!r}")
        found.append(_smallest(name, showers, truth, limit))
    words = ", ".join(distortion["words"] for distortion in found)
    statement = f"With {count} showers boosted trees would have seen {words}."
    return Power(classifier="trees", statement=statement, showers=count, auc=limit, distortions=found)


def _smallest(name: Name, showers: Showers, truth: Inputs, limit: float) -> Distortion:
    """Tries sizes of a distortion, and finds the one whose AUC is at the limit."""
    areas: dict[float, float] = {}
    planted = DISTORTIONS[name].size
    for size in _sizes(planted, limit, areas):
        inputs = collect(detailed_inputs, [LoadedSample.of(distorted(showers, name, size))])
        areas[size] = train_trees(Inputs.of(inputs.values, truth.values), HALVES, seed=0).auc
    seen = _crossing(areas, limit)
    words = DISTORTIONS[name].words.format(f"{100 * (max(areas) if seen is None else seen):.2g} %")
    return Distortion(
        name=name,
        words=f"not even {words}" if seen is None else words,
        planted=planted,
        seen=seen,
        tried=[{"size": size, "auc": area} for size, area in sorted(areas.items())],
    )


def _sizes(size: float, limit: float, areas: dict[float, float]) -> Iterator[float]:
    """Sizes to try, halved as long as they are seen or doubled as long as they are not."""
    yield size
    factor = 0.5 if areas[size] > limit else 2.0
    for _ in range(MOST_STEPS - 1):
        if (areas[size] > limit) != (factor < 1) or size >= LARGEST < factor:
            return
        size = min(factor * size, LARGEST)
        yield size


def _crossing(areas: dict[float, float], limit: float) -> float | None:
    """Size at which the AUC is at the limit, between the largest size that is not seen and the next one.

    The excess of the AUC over 1/2 is taken to be a power of the size.
    """
    seen = [size for size in areas if areas[size] > limit]
    unseen = [size for size in areas if areas[size] <= limit and size < min(seen, default=0)]
    if not seen or not unseen:
        return min(seen, default=None)
    low, high = max(unseen), min(seen)
    excess = [math.log(max(area - 0.5, (limit - 0.5) / 4)) for area in (areas[low], limit, areas[high])]
    return low * (high / low) ** ((excess[1] - excess[0]) / (excess[2] - excess[0]))
