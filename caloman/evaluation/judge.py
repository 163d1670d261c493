"""One comparison of two samples by all the modes that were asked for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from caloman.evaluation import two_sample
from caloman.evaluation.binnings import Binning
from caloman.evaluation.classifier import (
    ClassifierTest,
    Posterior,
    Trainer,
    train_classifier,
    train_multiclass,
    train_trees,
)
from caloman.evaluation.comparison import Comparison, Values, mean_separations
from caloman.evaluation.distances import fpd, frechet_distance, kpd
from caloman.evaluation.downstream import downstream
from caloman.evaluation.histograms import Histogram, fill_histograms
from caloman.evaluation.inputs import (
    Inputs,
    collect,
    condition_columns,
    detailed_inputs,
    high_level_inputs,
    low_level_inputs,
    normed_inputs,
)
from caloman.evaluation.learning import learning_curve, subsamples
from caloman.evaluation.modes import CLASSIFIERS, DISTANCES, DOWNSTREAM, TREES
from caloman.evaluation.neighbors import prdc, prdc_legacy_inputs
from caloman.evaluation.networks import ResNet, dense
from caloman.evaluation.presets import ClassifierPreset, preset_for
from caloman.evaluation.schema import LearningCurve, Point
from caloman.evaluation.summary import Summary


@dataclass(frozen=True)
class Judge:
    """Compares samples, always in the same way, and calls `advance` with the name of every step before it starts.

    Precision, recall, density and coverage depend on the number of showers without a law, so that `neighbors`, the
    showers of each sample that they are measured with, are the same number for all comparisons.
    """

    preset: str
    modes: Sequence[str]
    seeds: Sequence[int]
    neighbors: int
    advance: Callable[[str], object] = lambda step: None

    @property
    def steps(self) -> int:
        """Number of steps of a comparison."""
        trainings = sum(mode in CLASSIFIERS for mode in self.modes) * len(self.seeds)
        return trainings + sum(mode in (*DISTANCES, DOWNSTREAM) for mode in self.modes)

    def histograms(self, generated: Summary, reference: Summary, binnings: Sequence[Binning]) -> list[Histogram]:
        """Fills the histograms of two samples, if they were asked for."""
        return fill_histograms(binnings, reference, generated) if "hist" in self.modes else []

    def measure(self, generated: Summary, reference: Summary, binnings: Sequence[Binning]) -> Comparison:
        histograms = self.histograms(generated, reference, binnings)
        tests = {CLASSIFIERS[m]: self.classify(m, generated, reference) for m in CLASSIFIERS if m in self.modes}
        values = {
            **{f"auc_{key}": test.auc for key, test in tests.items()},
            **{f"jsd_{key}": test.jsd for key, test in tests.items()},
            **mean_separations(histograms, [(h.separation, h.separation_error) for h in histograms]),
            **self._distances(generated, reference),
        }
        if DOWNSTREAM in self.modes:
            self.advance(DOWNSTREAM)
            values |= downstream(generated.sample, reference.sample, self.neighbors)
        trainings = {key: test.document for key, test in tests.items()}
        return Comparison(generated, reference, histograms, values, trainings, tests)

    def classify(self, mode: str, generated: Summary, reference: Summary, step: str = "classifier") -> ClassifierTest:
        """Trains the classifiers of a mode; `step` is what the progress calls them."""
        preset = self.preset_of(generated, reference)
        inputs = _inputs(mode, (generated, reference), preset.max_showers)
        network: Callable[[], nn.Module] = partial(dense, inputs.n_features, preset.hidden)
        if mode == "cls-resnet":
            n_conditions = inputs.n_features - 1 - reference.sample.geometry.n_voxels
            network = partial(ResNet, reference.sample.geometry, n_conditions)
        trainer = train_trees if mode == TREES else partial(train_classifier, network=network)
        return self.train(inputs, preset, trainer, f"{step} {mode}")

    def train(self, inputs: Inputs, preset: ClassifierPreset, trainer: Trainer, name: str) -> ClassifierTest:
        seeds = enumerate(self._announced(name))
        trainings = tuple(trainer(inputs, preset, seed, fold=fold) for fold, seed in seeds)
        return ClassifierTest(trainings, preset.recalibrated, preset.folds)

    def learning_curve(self, comparison: Comparison) -> LearningCurve:
        """AUC of boosted trees by the number of showers, from subsamples of those that were compared."""
        summaries = comparison.generated, comparison.reference
        preset = self.preset_of(*summaries)
        inputs = _inputs(TREES, summaries, preset.max_showers)
        most = min(inputs.sizes)
        value, error = comparison.classifiers["trees"].auc
        points = [Point(showers=most, value=value, error=error)]
        for count, parts in subsamples(inputs):
            name = f"learning curve, {count} showers"
            areas = np.array([self.train(part, preset.in_shares(most), train_trees, name).auc for part in parts])
            error = float(np.linalg.norm(areas[:, 1])) / len(parts)
            points.append(Point(showers=count, value=float(np.mean(areas[:, 0])), error=error))
        return learning_curve(points)

    def posteriors(self, samples: Sequence[Summary], reference: Summary) -> list[Posterior]:
        """Trains classifiers to tell samples from one another and asks them whose Geant4 showers are."""
        preset = self.preset_of(*samples)
        inputs, truth = _inputs("cls-low", [*samples, reference], preset.max_showers).without_last()
        network = partial(dense, inputs.n_features, preset.hidden, len(samples))
        seeds = enumerate(self._announced("multi-class classifier"))
        return [train_multiclass(inputs, truth, preset, seed, network, fold) for fold, seed in seeds]

    def preset_of(self, *summaries: Summary) -> ClassifierPreset:
        """Settings of the classifiers for samples of these sizes."""
        return preset_for(self.preset, summaries[0].sample.geometry, [len(s.sample) for s in summaries])

    def _announced(self, name: str) -> Iterator[int]:
        """The seeds, each when its training is about to start."""
        for number, seed in enumerate(self.seeds, start=1):
            self.advance(f"{name}, training {number} of {len(self.seeds)}")
            yield seed

    def _distances(self, generated: Summary, reference: Summary) -> Values:
        x, y = (high_level_inputs(summary.observables) for summary in (reference, generated))
        measured: Values = {}
        for mode in (mode for mode in DISTANCES if mode in self.modes):
            self.advance(mode)
            if mode == "prdc":
                first, second = (s.sample.drawn(self.neighbors) for s in (reference, generated))
                measured |= prdc(prdc_legacy_inputs(first), prdc_legacy_inputs(second))
            elif mode == "tests":
                measured |= two_sample.all_tests(x, y)
                layers = reference.observables.layer_energies, generated.observables.layer_energies
                measured["layer_correlations"] = two_sample.correlation_distance(*layers)
            else:
                value, error = self._frechet(x, y) if mode == "fpd" else kpd(x, y)
                measured[mode] = 1e3 * value, 1e3 * error
        return measured

    def _frechet(self, reference: NDArray[np.float32], generated: NDArray[np.float32]) -> tuple[float, float]:
        value, error = frechet_distance(reference, generated)
        if self.preset == "official":  # takes minutes; the error of its fit knows nothing of few showers
            value, fit_error = fpd(reference, generated)
            error = max(error, fit_error)
        return value, error


def _inputs(mode: str, summaries: Sequence[Summary], limit: int | None) -> Inputs:
    """What the classifiers of a mode see of the first showers of each sample."""
    samples = [summary.sample.first(limit) for summary in summaries]
    conditions = condition_columns(samples)
    if mode == "cls-high":
        values = np.concatenate([high_level_inputs(summary.observables[:limit]) for summary in summaries])
        return Inputs(np.concatenate([values, conditions], axis=1), tuple(map(len, samples)))
    columns = {TREES: detailed_inputs, "cls-low-normed": normed_inputs}.get(mode, low_level_inputs)
    return collect(columns, samples, conditions)
