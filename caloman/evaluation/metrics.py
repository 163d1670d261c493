"""The numbers of an evaluation as one dictionary, which is the content of metrics.json, and the verdict in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from caloman import __version__
from caloman.evaluation.bands import LEVELS
from caloman.evaluation.cautions import cautions
from caloman.evaluation.classifier import NUMBERS, ClassifierTest, Posterior
from caloman.evaluation.conditions import profiles
from caloman.evaluation.extremes import extremes, unusual
from caloman.evaluation.histograms import Histogram
from caloman.evaluation.leaderboard import standings, why_not_comparable
from caloman.evaluation.measures import CLEAR, MEASURES, SCHEMA, Measured, number
from caloman.evaluation.results import Comparison, Floor, Results
from caloman.evaluation.samples import Sample
from caloman.files import md5
from caloman.showers.slices import parse_slices

OTHER_MODES = {
    "hist": "histograms",
    "fpd": "FPD",
    "kpd": "KPD",
    "prdc": "neighbors",
    "tests": "two-sample tests",
    "downstream": "downstream tasks",
}
"""Mode -> what it measures, in words."""


IDENTICAL = "the generated showers are identical to those of the reference"


def collect_metrics(results: Results) -> dict:
    """Returns the content of metrics.json."""
    reference = results.reference.sample
    sums = [md5(part.path) for part in parse_slices(reference.files)]
    entries = [_sample(name, comparison, results, sums) for name, comparison in results.comparisons.items()]
    if results.closure_tests:
        entries[0]["closure_tests"] = results.closure_tests
    document = {
        "schema": SCHEMA,
        "caloman": __version__,
        "dataset": reference.geometry.name,
        "preset": results.preset.name,
        "modes": list(results.modes),
        "settings": {
            "threshold_mev": reference.geometry.threshold,
            "seeds": list(results.seeds),
            "neighbor_showers": results.neighbors,
            "classifier": {**asdict(results.preset), "hidden": list(results.preset.hidden)},
        },
        "reference": _file(reference),
        "floor": {
            "kind": "independent file" if results.independent_floor else "halves of the reference",
            **_file(results.floor.generated.sample),
            "showers": list(results.floor.sizes),
        },
        "samples": entries,
    }
    if results.power is not None:
        document["power"] = results.power.to_json()
    if results.posteriors:
        document["posterior"] = _posterior(list(results.comparisons), results.posteriors)
    if results.calibration is not None:
        coverage = dict(zip(map(str, LEVELS), results.calibration.coverage, strict=True))
        document["ensemble"] = {"statement": str(results.calibration), "coverage": coverage}
    return document


def _file(sample: Sample) -> dict:
    return {"file": sample.name, "sha256": sample.sha256, "showers": len(sample)}


def _sample(name: str, comparison: Comparison, results: Results, reference_md5: Sequence[str]) -> dict:
    file, floor = _file(comparison.generated.sample), Floor(results.floor, comparison.sizes)
    floors = floor.values
    measured = {key: Measured(*value, *floors[key], MEASURES[key].target) for key, value in comparison.values.items()}
    windows = [histogram.binning.window for histogram in comparison.histograms if histogram.binning.window]
    layers = [layer.id for layer in comparison.reference.sample.geometry.layers]
    tails = extremes(comparison.reference.observables, comparison.generated.observables, windows, layers)
    return {
        "name": name,
        **file,
        "verdict": verdict(measured, results.modes, min(comparison.sizes), comparison.identical),
        "strongest": _strongest(measured),
        "warnings": [*cautions(comparison, results.floor, results.independent_floor), *unusual(tails)],
        "metrics": {
            key: {
                "label": MEASURES[key].label,
                **asdict(entry),
                "significance": entry.excess,
                "words": IDENTICAL if comparison.identical else entry.words,
            }
            for key, entry in measured.items()
        },
        "classifiers": {
            key: {**_trainings(test), "floor": _trainings(results.floor.classifiers[key])}
            for key, test in comparison.classifiers.items()
        },
        "histograms": [_histogram(*pair) for pair in zip(comparison.histograms, floor.separations, strict=True)],
        "extremes": [{**asdict(tail), "window": list(tail.window)} for tail in tails],
        "conditions": profiles(comparison.reference, comparison.generated),
        "field": _field(comparison, results, reference_md5),
        **_worth(name, comparison, results),
    }


def _strongest(measured: Mapping[str, Measured]) -> str | None:
    """Key of the AUC farthest above its floor in standard errors."""
    return max((key for key in measured if key.startswith("auc_")), key=lambda key: measured[key].excess, default=None)


def _worth(name: str, comparison: Comparison, results: Results) -> dict:
    """What was measured beyond numbers with a floor."""
    found: dict[str, dict] = {}
    if comparison.identical:
        return found
    if name in results.equivalents:
        found["equivalent"] = results.equivalents[name].to_json(comparison.generated.sample.training_showers)
    if name in results.learning_curves:
        found["learning_curve"] = results.learning_curves[name].to_json()
    if name in results.readings:
        found["reading"] = results.readings[name].to_json()
    return found


def _trainings(test: ClassifierTest) -> dict:
    return {
        "scored_showers": list(test.n_scored),
        "trainings": [{n: getattr(t, n) for n in NUMBERS} for t in test.trainings],
    }


def _field(comparison: Comparison, results: Results, reference_md5: Sequence[str]) -> dict:
    """Where the sample would stand among the published results, and why it may not be compared with them."""
    dataset = comparison.reference.sample.geometry.name
    reasons = why_not_comparable(dataset, *comparison.sizes, results.preset.name, reference_md5)
    if "precision" in comparison.values and results.neighbors < min(comparison.sizes):
        reasons.append(
            f"Precision, recall, density and coverage, which depend on the number of showers, are those of "
            f"{results.neighbors} showers, as many as their floor has."
        )
    values = {key: value for key, (value, _) in comparison.values.items()}
    return {"not_comparable": reasons, "standings": standings(dataset, values)}


def _posterior(names: Sequence[str], trainings: Sequence[Posterior]) -> dict:
    reference, consistency = map(np.array, zip(*trainings, strict=True))
    values = zip(names, reference.mean(axis=0).tolist(), reference.std(axis=0).tolist(), strict=True)
    return {
        "samples": [{"name": name, "value": value, "error": error} for name, value, error in values],
        "guessing": -math.log(len(names)),
        "consistency": consistency.mean(axis=0).tolist(),
    }


def verdict(measured: Mapping[str, Measured], modes: Sequence[str], n_showers: int, identical: bool) -> str:
    """Says in a sentence whether the generated showers, `n_showers` of them, can be told from Geant4."""
    if identical:
        return f"Nothing was judged: {IDENTICAL}."
    strongest = _strongest(measured)
    differing = [key for key, entry in measured.items() if not key.startswith("auc_") and entry.excess > CLEAR]
    named = ", ".join(MEASURES[key].label for key in differing[:6]) + (", ..." if len(differing) > 6 else "")
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


def _histogram(histogram: Histogram, floor: tuple[float, float]) -> dict:
    binning = histogram.binning
    return {
        "observable": binning.observable,
        "where": binning.place,
        "layer": binning.layer,
        "incident_energies_mev": list(binning.window) if binning.window else None,
        "value": histogram.separation,
        "error": histogram.separation_error,
        "floor": floor[0],
        "floor_error": floor[1],
        "entries": [int(histogram.generated.sum()), int(histogram.reference.sum())],
        "outside": list(reversed(histogram.outside_fractions)),
    }
