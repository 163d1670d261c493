"""What was found between two samples, and what Geant4 has in its place."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from caloman.evaluation.classifier import ClassifierTest
from caloman.evaluation.histograms import Histogram, by_observable
from caloman.evaluation.measures import MEASURES
from caloman.evaluation.reading import Reading
from caloman.evaluation.schema import Equivalent, LearningCurve, Trainings
from caloman.evaluation.summary import Summary

Values = dict[str, tuple[float, float]]  # key of a measure -> value and error


@dataclass(frozen=True)
class Comparison:
    """Two samples, and everything that was measured between them.

    `values` and numbers of the `trainings` have a floor. What follows is of generated showers only, and was asked for.
    """

    generated: Summary
    reference: Summary
    histograms: list[Histogram]
    values: Values
    trainings: dict[str, Trainings]
    classifiers: dict[str, ClassifierTest]
    equivalent: Equivalent | None = None
    learning_curve: LearningCurve | None = None
    reading: Reading | None = None

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


def mean_separations(histograms: Sequence[Histogram], separations: Sequence[tuple[float, float]]) -> Values:
    """Mean separation power of each observable over its layers or energies, from that of every histogram."""
    means = {}
    for observable, positions in by_observable(histograms).items():
        values, errors = np.array([separations[i] for i in positions]).T
        error = float(np.sqrt((errors**2).sum())) / len(errors)
        means[f"separation_{observable}"] = float(np.mean(values)), error
    return means
