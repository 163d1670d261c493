"""The numbers of a comparison as one dictionary, which is the content of metrics.json, and the verdict in words."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from caloman import __version__
from caloman.evaluation.cautions import cautions
from caloman.evaluation.classifier import Score
from caloman.evaluation.histograms import Histogram
from caloman.evaluation.presets import ClassifierPreset
from caloman.evaluation.samples import Sample, Summary

SCHEMA = 1
SIGNIFICANCE = 2.0


@dataclass(frozen=True)
class Comparison:
    """Two samples and everything that was measured between them.

    Args:
        generated: one sample (for a floor: Geant4 showers too).
        reference: the other one.
        histograms: every observable of both.
        low: classifier on all voxels.
        high: classifier on the observables.
    """

    generated: Summary
    reference: Summary
    histograms: list[Histogram]
    low: Score
    high: Score


def collect_metrics(
    score: Comparison,
    floor: Comparison,
    samples: Sequence[Sample],
    preset: ClassifierPreset,
    seeds: Sequence[int],
) -> dict:
    """Returns the content of metrics.json.

    Args:
        score: generated compared with the reference.
        floor: Geant4 compared with Geant4.
        samples: the files of generated, reference and, if there is one, floor showers.
        preset: settings of the classifiers.
        seeds: seeds of the trainings.
    """
    hashes = [sample.sha256 for sample in samples]
    files = {
        role: {"file": sample.name, "sha256": digest, "showers": len(sample)}
        for role, sample, digest in zip(("generated", "reference", "floor"), samples, hashes, strict=False)
    }
    kind = "independent file" if len(samples) == 3 else "halves of the reference (floor at N/2)"
    geometry = samples[0].geometry
    metrics = {
        "schema": SCHEMA,
        "caloman": __version__,
        "dataset": geometry.name,
        "files": files,
        "floor": {"kind": kind, "showers": [len(floor.generated.sample), len(floor.reference.sample)]},
        "settings": {
            "threshold_mev": geometry.threshold,
            "seeds": list(seeds),
            "classifier": {**asdict(preset), "hidden": list(preset.hidden)},
        },
        "auc": {name: _auc(getattr(score, name), getattr(floor, name)) for name in ("low", "high")},
        "separation": _separations(score.histograms, floor.histograms),
        "warnings": cautions(
            score.generated, score.reference, floor.generated, score.histograms, (score.low, score.high), hashes
        ),
    }
    return {**metrics, "verdict": verdict(metrics)}


def verdict(metrics: dict) -> str:
    """Says in one or two sentences whether the generated showers can be told from Geant4."""
    if metrics["files"]["generated"]["sha256"] == metrics["files"]["reference"]["sha256"]:
        return "Nothing was judged: the generated file is the reference file."
    aucs = metrics["auc"]
    excess = {
        name: (auc["mean"] - auc["floor"]) / math.hypot(auc["error"], auc["floor_error"]) for name, auc in aucs.items()
    }
    strongest = max(excess, key=lambda name: excess[name])
    best = aucs[strongest]
    numbers = f"AUC {best['mean']:.3f} ± {best['error']:.3f} (floor {best['floor']:.3f} ± {best['floor_error']:.3f})"
    if excess[strongest] > SIGNIFICANCE:
        return f"A classifier on {strongest}-level inputs tells these showers from Geant4 with {numbers}: " + (
            "easily distinguishable." if best["mean"] > 0.9 else "distinguishable."
        )
    differing = [
        name.replace("_", " ") for name, mean in metrics["separation"]["means"].items() if _differs(mean, threshold=5.0)
    ]
    if differing:
        return (
            f"No classifier tells these showers from Geant4, the better one has {numbers}, "
            f"but histograms do: {', '.join(differing)}."
        )
    return f"These showers cannot be told from Geant4 at this sample size: the best classifier has {numbers}."


def _differs(mean: dict, threshold: float) -> bool:
    error = math.hypot(mean["error"], mean["floor_error"])
    return mean["value"] - mean["floor"] > threshold * max(error, 1e-12)


def _auc(score: Score, floor: Score) -> dict:
    return {
        "mean": score.mean,
        "std": score.std,
        "error": score.error,
        "repeats": list(score.values),
        "scored_showers": list(score.n_scored),
        "floor": floor.mean,
        "floor_std": floor.std,
        "floor_error": floor.error,
        "floor_repeats": list(floor.values),
    }


def _separations(histograms: Sequence[Histogram], floors: Sequence[Histogram]) -> dict:
    entries = [_separation(score, floor) for score, floor in zip(histograms, floors, strict=True)]
    means = {}
    for name in dict.fromkeys(entry["observable"] for entry in entries):
        members = [entry for entry in entries if entry["observable"] == name]
        n = len(members)
        means[name] = {
            "value": sum(entry["value"] for entry in members) / n,
            "error": math.hypot(*(entry["error"] for entry in members)) / n,
            "floor": sum(entry["floor"] for entry in members) / n,
            "floor_error": math.hypot(*(entry["floor_error"] for entry in members)) / n,
            "histograms": n,
        }
    return {"means": means, "histograms": entries}


def _separation(score: Histogram, floor: Histogram) -> dict:
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
