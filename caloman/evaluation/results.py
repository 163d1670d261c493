"""What a comparison and a whole evaluation found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from caloman.evaluation.bands import Calibration
from caloman.evaluation.classifier import ClassifierTest, Posterior
from caloman.evaluation.equivalent import Equivalents
from caloman.evaluation.histograms import Histogram
from caloman.evaluation.learning import LearningCurve
from caloman.evaluation.measures import MEASURES
from caloman.evaluation.power import Power
from caloman.evaluation.presets import ClassifierPreset
from caloman.evaluation.reading import Reading
from caloman.evaluation.samples import Summary

Values = dict[str, tuple[float, float]]
"""Key of a measure -> value and error."""
ClosureTests = dict[str, Values]
"""Closure test -> level (low, high) -> AUC and its error."""


@dataclass(frozen=True)
class Comparison:
    """Two samples, both of Geant4 showers for a floor, and every number that was measured between them."""

    generated: Summary
    reference: Summary
    histograms: list[Histogram]
    classifiers: dict[str, ClassifierTest]
    values: Values

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of generated and of reference showers."""
        return len(self.generated.sample), len(self.reference.sample)

    @cached_property
    def identical(self) -> bool:
        """Whether both samples hold the same showers, in whatever order."""
        if self.sizes[0] != self.sizes[1]:
            return False
        observables = [summary.observables for summary in (self.generated, self.reference)]
        own, other = (o.layer_energies[np.lexsort([o.total_energy, o.incident_energies])] for o in observables)
        return bool(np.allclose(own, other, rtol=1e-6, atol=1e-6))


@dataclass(frozen=True)
class Floor:
    """Geant4 compared with Geant4, scaled to the numbers of showers (`sizes`) of another comparison.

    Distances between finite samples of one distribution are not 0 but go with 1/N + 1/M, or its root, for N and M
    showers; see `Measure.power`.
    """

    measured: Comparison
    sizes: tuple[int, int]

    @property
    def factor(self) -> float:
        """What 1/N + 1/M is multiplied with."""
        return sum(1 / n for n in self.sizes) / sum(1 / n for n in self.measured.sizes)

    @property
    def separations(self) -> list[tuple[float, float]]:
        """Separation power of every histogram and its error."""
        factors = (histogram.size_factor(self.factor) for histogram in self.measured.histograms)
        pairs = zip(self.measured.histograms, factors, strict=True)
        return [(f * histogram.separation, f * histogram.separation_error) for histogram, f in pairs]

    @property
    def values(self) -> Values:
        """Every number with its error."""
        scaled = {}
        for key, (value, error) in self.measured.values.items():
            factor = self.factor ** MEASURES[key].power
            scaled[key] = (factor * value, factor * error)
        return scaled | mean_separations(self.measured.histograms, self.separations)


@dataclass(frozen=True)
class Results:
    """Everything that an evaluation found.

    `comparisons` are with the reference, by name of the sample. `floor` took a file of its own if it is independent, or
    halves of the reference. `neighbors` is the number of showers that precision to coverage were measured with.
    `learning_curves`, `equivalents` and `readings` are by name of the sample too, `power` is for all of them.
    `closure_tests` (of the first sample), `posteriors` (one for each training) and `calibration` (of an ensemble) are
    empty or None if they were not asked for.
    """

    preset: ClassifierPreset
    modes: Sequence[str]
    seeds: Sequence[int]
    neighbors: int
    comparisons: dict[str, Comparison]
    floor: Comparison
    independent_floor: bool
    learning_curves: dict[str, LearningCurve]
    equivalents: dict[str, Equivalents]
    power: Power | None
    closure_tests: ClosureTests
    readings: Mapping[str, Reading]
    posteriors: Sequence[Posterior]
    calibration: Calibration | None

    @property
    def reference(self) -> Summary:
        """The reference."""
        return next(iter(self.comparisons.values())).reference


def mean_separations(histograms: Sequence[Histogram], separations: Sequence[tuple[float, float]]) -> Values:
    """Mean separation power of each observable over its layers or energies, from that of every histogram."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for histogram, separation in zip(histograms, separations, strict=True):
        groups.setdefault(f"separation_{histogram.binning.observable}", []).append(separation)
    means = {key: np.array(pairs).T for key, pairs in groups.items()}
    return {key: (float(np.mean(v)), float(np.sqrt((e**2).sum())) / len(e)) for key, (v, e) in means.items()}
