"""The numbers of an evaluation as one dictionary, which is the content of metrics.json, and the verdict in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from caloman import __version__
from caloman.errors import first_of
from caloman.evaluation import schema
from caloman.evaluation.bands import LEVELS, Calibration
from caloman.evaluation.cautions import cautions
from caloman.evaluation.classifier import Posterior
from caloman.evaluation.comparison import Comparison, Floor, Values
from caloman.evaluation.conditions import profiles
from caloman.evaluation.extremes import extremes, unusual
from caloman.evaluation.histograms import Histogram
from caloman.evaluation.judge import Judge
from caloman.evaluation.leaderboard import standings, why_not_comparable
from caloman.evaluation.lineup import Lineup
from caloman.evaluation.measures import CLEAR, MEASURES, Measured, number
from caloman.evaluation.modes import DISTANCES, DOWNSTREAM
from caloman.evaluation.presets import ClassifierPreset
from caloman.evaluation.samples import Sample
from caloman.evaluation.schema import Power
from caloman.evaluation.summary import Summary
from caloman.files import md5
from caloman.showers.slices import parse_slices


@dataclass(frozen=True)
class Results:
    """Everything that an evaluation found.

    Args:
        judge: how it was measured.
        lineup: who was compared with whom.
        comparisons: with the reference, by name of the sample.
        floor: Geant4 with Geant4.
        power: of the judge; what follows is None or empty, too, if it was not asked for.
        closure_tests: of the first sample: name -> level (low, high) -> AUC and its error.
        posteriors: one for each training.
        calibration: of an ensemble.
    """

    judge: Judge
    lineup: Lineup
    comparisons: dict[str, Comparison]
    floor: Comparison
    power: Power | None
    closure_tests: dict[str, Values]
    posteriors: Sequence[Posterior]
    calibration: Calibration | None

    @property
    def first(self) -> Comparison:
        return next(iter(self.comparisons.values()))

    @property
    def reference(self) -> Summary:
        return self.first.reference

    @cached_property
    def preset(self) -> ClassifierPreset:
        """Settings of the classifiers."""
        return self.judge.preset_of(self.first.generated, self.reference)

    @cached_property
    def reference_md5(self) -> list[str]:
        """MD5 of the files of the reference, which the official files are known by."""
        return [md5(part.path) for part in parse_slices(self.reference.sample.files)]


OTHER_MODES = {"hist": "histograms", **DISTANCES, DOWNSTREAM: "downstream tasks"}  # mode -> what it measures, in words
IDENTICAL = "the generated showers are identical to those of the reference"


def collect_metrics(results: Results) -> dict[str, Any]:
    """Returns the content of metrics.json."""
    reference, floor = results.reference.sample, results.floor
    samples = [_sample(name, comparison, results) for name, comparison in results.comparisons.items()]
    if results.closure_tests:
        samples[0]["closure_tests"] = results.closure_tests
    document = {
        "schema": schema.SCHEMA,
        "caloman": __version__,
        "dataset": reference.geometry.name,
        "preset": results.preset.name,
        "modes": list(results.judge.modes),
        "settings": {
            "threshold_mev": reference.geometry.threshold,
            "seeds": list(results.judge.seeds),
            "neighbor_showers": results.judge.neighbors,
            "classifier": {**asdict(results.preset), "hidden": list(results.preset.hidden)},
        },
        "reference": _file(reference),
        "floor": {
            "kind": "independent file" if results.lineup.independent_floor else "halves of the reference",
            **_file(floor.generated.sample),
            "showers": list(floor.sizes),
        },
        "samples": samples,
    }
    if results.power is not None:
        document["power"] = results.power
    if results.posteriors:
        document["posterior"] = _posterior(list(results.comparisons), results.posteriors)
    if results.calibration is not None:
        coverage = dict(zip(map(str, LEVELS), results.calibration.coverage, strict=True))
        document["ensemble"] = {"statement": str(results.calibration), "coverage": coverage}
    return document


def _file(sample: Sample) -> dict[str, Any]:
    return {"file": sample.name, "sha256": sample.sha256, "showers": len(sample)}


def _sample(name: str, comparison: Comparison, results: Results) -> dict[str, Any]:
    generated, reference = comparison.generated, comparison.reference
    floor, independent = Floor(results.floor, comparison.sizes), results.lineup.independent_floor
    floors = floor.values
    measured = {key: Measured(*value, *floors[key], MEASURES[key].target) for key, value in comparison.values.items()}
    windows = [histogram.binning.window for histogram in comparison.histograms if histogram.binning.window]
    layers = [layer.id for layer in reference.sample.geometry.layers]
    tails = extremes(reference.observables, generated.observables, windows, layers)
    beyond = {
        "equivalent": comparison.equivalent,
        "learning_curve": comparison.learning_curve,
        "reading": comparison.reading and comparison.reading.document,
    }
    return {
        "name": name,
        **_file(generated.sample),
        "verdict": verdict(measured, results.judge.modes, min(comparison.sizes), comparison.identical),
        "strongest": _strongest(measured),
        "warnings": [*cautions(comparison, results.floor, independent), *unusual(tails)],
        "metrics": {key: _metric(key, entry, comparison.identical) for key, entry in measured.items()},
        "classifiers": {
            key: {**found, "floor": results.floor.trainings[key]} for key, found in comparison.trainings.items()
        },
        "histograms": [_histogram(*pair) for pair in zip(comparison.histograms, floor.separations, strict=True)],
        "extremes": tails,
        "conditions": profiles(reference, generated),
        "field": _field(comparison, results),
        **{key: found for key, found in beyond.items() if found and not comparison.identical},
    }


def _metric(key: str, measured: Measured, identical: bool) -> dict[str, Any]:
    words = IDENTICAL if identical else measured.words
    return {"label": MEASURES[key].label, **asdict(measured), "significance": measured.excess, "words": words}


def _histogram(histogram: Histogram, floor: tuple[float, float]) -> schema.Histogram:
    binning = histogram.binning
    return schema.Histogram(
        observable=binning.observable,
        where=binning.place,
        layer=binning.layer,
        incident_energies_mev=list(binning.window) if binning.window else None,
        value=histogram.separation,
        error=histogram.separation_error,
        floor=floor[0],
        floor_error=floor[1],
        entries=[int(histogram.generated.sum()), int(histogram.reference.sum())],
        outside=list(reversed(histogram.outside_fractions)),
    )


def _field(comparison: Comparison, results: Results) -> schema.PublishedField:
    """Where the sample would stand among the published results, and why it may not be compared with them."""
    dataset, neighbors = comparison.reference.sample.geometry.name, results.judge.neighbors
    reasons = why_not_comparable(dataset, *comparison.sizes, results.preset.name, results.reference_md5)
    if "precision" in comparison.values and neighbors < min(comparison.sizes):
        reasons.append(
            "Precision, recall, density and coverage, which depend on the number of showers, are those of "
            f"{neighbors} showers, as many as their floor has."
        )
    values = {key: value for key, (value, _) in comparison.values.items()}
    return schema.PublishedField(not_comparable=reasons, standings=standings(dataset, values))


def _posterior(names: Sequence[str], trainings: Sequence[Posterior]) -> dict[str, Any]:
    reference, consistency = map(np.array, zip(*trainings, strict=True))
    values = zip(names, reference.mean(axis=0).tolist(), reference.std(axis=0).tolist(), strict=True)
    return {
        "samples": [{"name": name, "value": value, "error": error} for name, value, error in values],
        "guessing": -math.log(len(names)),
        "consistency": consistency.mean(axis=0).tolist(),
    }


def _strongest(measured: Mapping[str, Measured]) -> str | None:
    """Key of the AUC farthest above its floor in standard errors."""
    return max((key for key in measured if key.startswith("auc_")), key=lambda key: measured[key].excess, default=None)


def verdict(measured: Mapping[str, Measured], modes: Sequence[str], n_showers: int, identical: bool) -> str:
    """Says in a sentence whether the generated showers, `n_showers` of them, can be told from Geant4."""
    if identical:
        return f"Nothing was judged: {IDENTICAL}."
    strongest = _strongest(measured)
    differing = [key for key, entry in measured.items() if not key.startswith("auc_") and entry.excess > CLEAR]
    named = first_of([MEASURES[key].label for key in differing], 6)
    if strongest is None:
        made = " and ".join(OTHER_MODES[mode] for mode in modes if mode in OTHER_MODES)
        found = f"differ from Geant4 in: {named}" if differing else "show no clear difference from Geant4"
        return f"No classifier was trained; {made or 'no other measures'} of {n_showers} showers {found}."
    best = measured[strongest]
    label = MEASURES[strongest].label.removeprefix("AUC, ")
    numbers = f"AUC {best} (floor {number(best.floor, best.floor_error)}, {n_showers} showers)"
    if not best.at_floor:
        ease = "easily distinguishable" if best.value > 0.9 else "distinguishable"
        return f"The {label} tells these showers from Geant4 with {numbers}: {ease}."
    if differing:
        return f"No classifier tells these showers from Geant4, the {label} has {numbers}, but these differ: {named}."
    return f"These showers cannot be told from Geant4 at this sample size: the {label} has {numbers}."
