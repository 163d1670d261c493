"""The numbers of an evaluation as one dictionary, which is the content of metrics.json, and the verdict in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from caloman import __version__
from caloman.evaluation.classifier import ClassifierPreset, Score
from caloman.evaluation.histograms import Histogram
from caloman.evaluation.judge import Comparison
from caloman.evaluation.measures import CLEAR, INDISTINGUISHABLE, MEASURES, Rated, number
from caloman.evaluation.samples import Sample

SCHEMA = 2


def file_entry(sample: Sample) -> dict:
    """Which showers were used."""
    return {"file": sample.name, "sha256": sample.sha256, "showers": len(sample)}


def settings_entry(preset: ClassifierPreset, seeds: Sequence[int], threshold: float) -> dict:
    """What has to be the same for two evaluations to be compared."""
    classifier = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(preset).items()}
    return {"threshold_mev": threshold, "seeds": list(seeds), "classifier": classifier}


def sample_entry(name: str, score: Comparison, floor: Comparison, identical: bool) -> dict:
    """All numbers of one sample, without its warnings.

    Args:
        name: of the sample.
        score: generated compared with the reference.
        floor: Geant4 compared with Geant4.
        identical: the sample is the reference.
    """
    rated = {
        key: Rated(*value, *floor.values[key], MEASURES[key].target)
        for key, value in score.values.items()
    }
    return {
        "name": name,
        **file_entry(score.generated.sample),
        "verdict": verdict(rated, identical),
        "warnings": [],
        "metrics": {key: _metric(key, entry) for key, entry in rated.items()},
        "classifiers": {key: _classifier(entry, floor.scores[key]) for key, entry in score.scores.items()},
        "histograms": [_histogram(*pair) for pair in zip(score.histograms, floor.histograms, strict=True)],
    }


def document(dataset: str, preset: str, modes: Sequence[str], **entries: object) -> dict:
    """The head of metrics.json, followed by the entries."""
    return {
        "schema": SCHEMA,
        "caloman": __version__,
        "dataset": dataset,
        "preset": preset,
        "modes": list(modes),
        **entries,
    }


def verdict(rated: Mapping[str, Rated], identical: bool) -> str:
    """Says in a sentence whether the generated showers can be told from Geant4."""
    if identical:
        return "Nothing was judged: the generated file is the reference file."
    aucs = {key: entry for key, entry in rated.items() if key.startswith("auc_")}
    strongest = max(aucs, key=lambda key: aucs[key].excess, default=None)
    differing = [key for key, entry in rated.items() if key not in aucs and entry.excess > CLEAR]
    named = ", ".join(MEASURES[key].label for key in differing[:6]) + (", ..." if len(differing) > 6 else "")
    if strongest is None:
        return f"No classifier was trained; {f'these differ: {named}.' if differing else 'no other measure differs.'}"
    best = aucs[strongest]
    numbers = f"AUC {number(best.value, best.error)} (floor {number(best.floor, best.floor_error)})"
    if best.excess > INDISTINGUISHABLE:
        level = MEASURES[strongest].label.removeprefix("AUC, ")
        ease = "easily distinguishable" if best.value > 0.9 else "distinguishable"
        return f"The {level} tells these showers from Geant4 with {numbers}: {ease}."
    if differing:
        return f"No classifier tells these showers from Geant4, the best has {numbers}, but these differ: {named}."
    return f"These showers cannot be told from Geant4 at this sample size: the best classifier has {numbers}."


def _metric(key: str, entry: Rated) -> dict:
    return {"label": MEASURES[key].label, **asdict(entry), "significance": entry.excess, "words": entry.words}


def _histogram(score: Histogram, floor: Histogram) -> dict:
    binning = score.binning
    return {
        "observable": binning.observable,
        "where": binning.place,
        "layer": binning.layer,
        "incident_energies_mev": list(binning.window) if binning.window else None,
        "value": score.separation,
        "error": score.separation_error,
        "floor": floor.separation,
        "floor_error": floor.separation_error,
        "entries": [int(score.generated.sum()), int(score.reference.sum())],
        "outside": list(reversed(score.outside_fractions)),
    }
