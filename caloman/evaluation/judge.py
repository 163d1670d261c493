"""One comparison of two samples by all the modes that were asked for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from caloman.errors import CalomanError
from caloman.evaluation import two_sample
from caloman.evaluation.bands import Calibration
from caloman.evaluation.classifier import Score, train_classifiers
from caloman.evaluation.distances import fpd, frechet_distance, kpd
from caloman.evaluation.histograms import Binning, Histogram, by_observable, fill_histograms
from caloman.evaluation.inputs import Inputs, high_level_inputs, low_level_inputs, normed_inputs
from caloman.evaluation.multiclass import LogPosterior, train_multiclass
from caloman.evaluation.neighbors import prdc, prdc_legacy_inputs
from caloman.evaluation.networks import ResNet, dense
from caloman.evaluation.presets import ClassifierPreset, preset_for
from caloman.evaluation.samples import Summary

Values = dict[str, tuple[float, float]]

CLASSIFIERS = {"cls-low": "low", "cls-low-normed": "low_normed", "cls-high": "high", "cls-resnet": "resnet"}
"""Mode -> key of the classifier, as in ``auc_low``."""
MULTICLASS = "cls-multi"
DISTANCES = ("fpd", "kpd", "prdc", "tests")
MODES = ("hist", *CLASSIFIERS, MULTICLASS, *DISTANCES)
DEFAULT_MODES = ("hist", "cls-low", "cls-high", *DISTANCES)

NEIGHBOR_SHOWERS = 10_000
"""Most showers of each sample whose neighbors the quick preset looks for; the time goes with the square."""


@dataclass(frozen=True)
class Comparison:
    """Two samples and everything that was measured between them.

    Args:
        generated: one sample (for a floor: Geant4 showers too).
        reference: the other one.
        histograms: every observable of both.
        scores: of the classifiers, by key.
        values: every number with its error, by key of the measure.
    """

    generated: Summary
    reference: Summary
    histograms: list[Histogram]
    scores: dict[str, Score]
    values: Values


Gates = dict[str, dict[str, tuple[float, float]]]
"""Gate of a two-stage model -> level (low, high) -> AUC and its error."""


@dataclass(frozen=True)
class Results:
    """Everything that an evaluation found.

    Args:
        preset: settings of the classifiers.
        modes: what was measured.
        seeds: of the trainings.
        scores: generated showers compared with the reference, by name of the sample.
        floor: Geant4 compared with Geant4.
        independent_floor: whether that took a file of its own, or halves of the reference.
        gates: of the first sample; may be empty.
        posterior: whose Geant4 showers are, if there are several samples.
        calibration: how often Geant4 lies within the spread of the samples, if they are members of an ensemble.
    """

    preset: ClassifierPreset
    modes: Sequence[str]
    seeds: Sequence[int]
    scores: dict[str, Comparison]
    floor: Comparison
    independent_floor: bool
    gates: Gates
    posterior: LogPosterior | None
    calibration: Calibration | None

    @property
    def reference(self) -> Summary:
        """The reference."""
        return next(iter(self.scores.values())).reference


@dataclass(frozen=True)
class Judge:
    """Compares samples, always in the same way.

    Args:
        preset: quick or official.
        modes: what to measure.
        seeds: one for each training of a classifier.
        advance: called with the name of every step.
    """

    preset: str
    modes: Sequence[str]
    seeds: Sequence[int]
    advance: Callable[[str], object]

    @property
    def steps(self) -> int:
        """Number of steps of a comparison."""
        trainings = sum(mode in CLASSIFIERS for mode in self.modes) * len(self.seeds)
        return trainings + sum(mode in DISTANCES for mode in self.modes)

    def compare(self, generated: Summary, reference: Summary, binnings: Sequence[Binning]) -> Comparison:
        """Measures everything between two samples."""
        histograms = fill_histograms(binnings, reference, generated) if "hist" in self.modes else []
        scores = {
            CLASSIFIERS[mode]: self.classify(mode, generated, reference) for mode in self.modes if mode in CLASSIFIERS
        }
        values = {
            **_classifier_values(scores),
            **_separations(histograms),
            **self._distances(generated, reference),
        }
        return Comparison(generated, reference, histograms, scores, values)

    def classify(self, mode: str, generated: Summary, reference: Summary) -> Score:
        """Trains the classifiers of a mode."""
        preset = self.preset_of(generated, reference)
        inputs = _inputs(mode, (generated, reference), preset.max_showers)
        return self.score(inputs, preset, _network(mode, inputs, preset, reference), f"classifier {mode}")

    def score(self, inputs: Inputs, preset: ClassifierPreset, network: Callable[[], nn.Module], name: str) -> Score:
        """Trains one classifier per seed."""
        trainings = []
        for training in train_classifiers(inputs, preset, self.seeds, network):
            self.advance(name)
            trainings.append(training)
        return Score(tuple(trainings), preset.recalibrated)

    def preset_of(self, *summaries: Summary) -> ClassifierPreset:
        """Settings of the classifiers for samples of these sizes."""
        return preset_for(self.preset, summaries[0].sample.geometry, [len(s.sample) for s in summaries])

    def posterior(self, samples: Sequence[Summary], reference: Summary) -> LogPosterior:
        """Trains classifiers to tell samples from one another and asks them whose Geant4 showers are."""
        preset = self.preset_of(*samples)
        inputs = _inputs("cls-low", samples, preset.max_showers)
        truth = _inputs("cls-low", [reference], preset.max_showers)
        trainings = []
        for training in train_multiclass(
            inputs, truth, preset, self.seeds, partial(dense, inputs.n_features, preset.hidden, len(samples))
        ):
            self.advance("multi-class classifier")
            trainings.append(training)
        return LogPosterior(tuple(trainings))

    def _distances(self, generated: Summary, reference: Summary) -> Values:
        x, y = (high_level_inputs(summary.observables) for summary in (reference, generated))
        measured: Values = {}
        for mode in self.modes:
            if mode == "fpd":
                value, error = frechet_distance(x, y)
                if self.preset == "official":  # takes minutes; the error of its fit knows nothing of few showers
                    value, fit_error = fpd(x, y)
                    error = max(error, fit_error)
                measured[mode] = (1e3 * value, 1e3 * error)
            elif mode == "kpd":
                value, error = kpd(x, y)
                measured[mode] = (1e3 * value, 1e3 * error)
            elif mode == "prdc":
                limit = NEIGHBOR_SHOWERS if self.preset == "quick" else None
                points = [prdc_legacy_inputs(summary.sample.first(limit)) for summary in (reference, generated)]
                measured.update(prdc(points[0], points[1]))
            elif mode == "tests":
                measured.update(_tests(x, y))
                layers = reference.observables.layer_energies, generated.observables.layer_energies
                measured["layer_correlations"] = two_sample.correlation_distance(*layers)
            if mode in DISTANCES:
                self.advance(mode)
        return measured


def check_modes(modes: Sequence[str] | None, n_samples: int) -> tuple[str, ...]:
    """Returns the modes in their usual order, or the default ones.

    Raises:
        CalomanError: if there is no such mode, or too few samples for one.
    """
    if modes is None:
        return (*DEFAULT_MODES, MULTICLASS) if n_samples > 1 else DEFAULT_MODES
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown:
        raise CalomanError(f"unknown mode {unknown[0]!r}: choose of {', '.join(MODES)}")
    if MULTICLASS in modes and n_samples < 2:
        raise CalomanError(f"mode {MULTICLASS!r} compares several samples: give more than one generated file")
    return tuple(mode for mode in MODES if mode in modes)


def _inputs(mode: str, summaries: Sequence[Summary], limit: int | None) -> Inputs:
    """What the classifiers of a mode see of the first showers of each sample."""
    if mode == "cls-high":
        return Inputs.of(*(high_level_inputs(summary.observables[:limit]) for summary in summaries))
    samples = [summary.sample.first(limit) for summary in summaries]
    return normed_inputs(samples) if mode == "cls-low-normed" else low_level_inputs(samples)


def _network(mode: str, inputs: Inputs, preset: ClassifierPreset, reference: Summary) -> Callable[[], nn.Module]:
    if mode == "cls-resnet":
        return partial(ResNet, reference.sample.geometry)
    return partial(dense, inputs.n_features, preset.hidden)


def _classifier_values(scores: dict[str, Score]) -> Values:
    values = {f"auc_{key}": (score.mean, score.error) for key, score in scores.items()}
    for key, score in scores.items():
        values[f"jsd_{key}"] = (float(np.mean(score.of("jsd"))), score.jsd_error)
    return values


def _separations(histograms: Sequence[Histogram]) -> Values:
    """Mean separation power of each observable over its layers or energies."""
    values = {}
    for name, members in by_observable(histograms).items():
        errors = np.array([histogram.separation_error for histogram in members])
        mean = float(np.mean([histogram.separation for histogram in members]))
        values[f"separation_{name}"] = (mean, float(np.sqrt((errors**2).sum())) / len(members))
    return values


def _tests(reference: NDArray[np.float32], generated: NDArray[np.float32]) -> Iterator[tuple[str, tuple[float, float]]]:
    """Two-sample tests on observables in units of their standard deviation in the reference."""
    std = reference.std(axis=0)
    scale = np.where(std > 0, std, 1)
    x, y = reference / scale, generated / scale
    p_values = two_sample.kolmogorov_smirnov_of_dimensions(x, y)
    yield "ks_mean", two_sample.reduced(p_values)
    yield "ks_median", two_sample.reduced(p_values, np.median)
    yield "anderson_darling", two_sample.anderson_darling(x, y)
    yield "wasserstein", two_sample.wasserstein(x, y)
    yield "sliced_wasserstein", two_sample.sliced_wasserstein(x, y)
    yield "correlations", two_sample.correlation_distance(x, y)
