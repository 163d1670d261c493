"""What the judge would have seen: the smallest distortions of Geant4 showers that boosted trees find."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from caloman.evaluation.classifier import auc_error, train_trees
from caloman.evaluation.distortions import DISTORTIONS, Name, distorted
from caloman.evaluation.inputs import Inputs, detailed_inputs
from caloman.evaluation.presets import QUICK
from caloman.evaluation.samples import LoadedSample, Sample
from caloman.showers.showers import Showers

SIGMAS = 3.0
"""Standard errors that an AUC must be above 1/2 to be seen."""
MIN_SHOWERS = 100
MOST_SHOWERS = 10_000
MOST_VOXELS = 2**26
"""Voxels in memory at a time."""
MOST_STEPS = 4
"""Sizes that are tried of each distortion, at most: each is twice or half the one before."""
LARGEST = 1.0
HALVES = replace(QUICK, train=0.5, select=0.1, folds=1)
"""One training that is scored on many showers, instead of several."""


@dataclass(frozen=True)
class Seen:
    """The smallest size of a distortion that is seen.

    Args:
        name: the distortion.
        size: its size, or None if none of those tried was seen.
        areas: AUC by size, of those tried.
    """

    name: Name
    size: float | None
    areas: dict[float, float]

    def __str__(self) -> str:
        size = max(self.areas) if self.size is None else self.size
        return ("not even " if self.size is None else "") + DISTORTIONS[self.name].words.format(f"{100 * size:.2g} %")


@dataclass(frozen=True)
class Power:
    """What boosted trees see with so many showers of each class, and the AUC they must reach for it."""

    showers: int
    auc: float
    seen: Sequence[Seen]

    def to_json(self) -> dict[str, Any]:
        """The same as a dictionary."""
        return {
            "classifier": "trees",
            "statement": str(self),
            "showers": self.showers,
            "auc": self.auc,
            "distortions": [
                {
                    "name": seen.name,
                    "words": str(seen),
                    "planted": DISTORTIONS[seen.name].size,
                    "seen": seen.size,
                    "tried": [{"size": size, "auc": area} for size, area in sorted(seen.areas.items())],
                }
                for seen in self.seen
            ],
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """What `to_json` returned."""
        seen = [
            Seen(found["name"], found["seen"], {tried["size"]: tried["auc"] for tried in found["tried"]})
            for found in content["distortions"]
        ]
        return cls(content["showers"], content["auc"], seen)

    def __str__(self) -> str:
        return f"With {self.showers} showers boosted trees would have seen {', '.join(map(str, self.seen))}."


def measure_power(geant4: Sample, reference: Sample, advance: Callable[[str], object]) -> Power:
    """Distorts Geant4 showers until boosted trees just see it, and calls `advance` before each distortion."""
    most = min(MOST_SHOWERS, MOST_VOXELS // reference.geometry.n_voxels)
    count = min(most, len(geant4), len(reference))
    showers, truth = geant4.load(count), detailed_inputs([reference.first(count)])
    size = round(count / QUICK.folds)
    limit = 0.5 + SIGMAS * auc_error([0.5] * QUICK.folds, (size, size), QUICK.folds)
    return Power(count, limit, [_seen(name, showers, truth, limit, advance) for name in DISTORTIONS])


def _seen(name: Name, showers: Showers, truth: Inputs, limit: float, advance: Callable[[str], object]) -> Seen:
    advance(f"distortion {name!r}")
    areas: dict[float, float] = {}
    for size in _sizes(DISTORTIONS[name].size, limit, areas):
        inputs = detailed_inputs([LoadedSample.of(distorted(showers, name, size))])
        areas[size] = train_trees(Inputs.of(inputs.values, truth.values), HALVES, seed=0).auc
    return Seen(name, _crossing(areas, limit), areas)


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
    sizes = sorted(areas)
    seen = [size for size in sizes if areas[size] > limit]
    unseen = [size for size in sizes if areas[size] <= limit and size < min(seen, default=0)]
    if not seen or not unseen:
        return seen[0] if seen else None
    low, high = max(unseen), min(seen)
    excess = [math.log(max(area - 0.5, (limit - 0.5) / 4)) for area in (areas[low], limit, areas[high])]
    return low * (high / low) ** ((excess[1] - excess[0]) / (excess[2] - excess[0]))
