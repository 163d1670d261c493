"""The numbers of an evaluation as one dictionary, which is the content of metrics.json, and the verdict in words."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from caloman import __version__
from caloman.evaluation.bands import LEVELS
from caloman.evaluation.cautions import cautions
from caloman.evaluation.classifier import NUMBERS, Score
from caloman.evaluation.histograms import Histogram
from caloman.evaluation.judge import Comparison, Results
from caloman.evaluation.leaderboard import Entry, standings, why_not_comparable
from caloman.evaluation.measures import CLEAR, MEASURES, SCHEMA, Measured, number
from caloman.evaluation.multiclass import LogPosterior
from caloman.evaluation.samples import Sample
from caloman.files import md5
from caloman.showers.slices import parse_slices


def collect_metrics(results: Results) -> dict:
    """Returns the content of metrics.json."""
    reference, floor = results.reference.sample, results.floor
    sums = [md5(part.path) for part in parse_slices(reference.files)]
    entries = [_sample(name, score, results, sums) for name, score in results.scores.items()]
    if results.gates:
        entries[0]["gates"] = results.gates
    document = {
        "schema": SCHEMA,
        "caloman": __version__,
        "dataset": reference.geometry.name,
        "preset": results.preset.name,
        "modes": list(results.modes),
        "settings": {
            "threshold_mev": reference.geometry.threshold,
            "seeds": list(results.seeds),
            "classifier": {**asdict(results.preset), "hidden": list(results.preset.hidden)},
        },
        "reference": _file(reference),
        "floor": {
            "kind": "independent file" if results.independent_floor else "halves of the reference (floor at N/2)",
            **_file(floor.generated.sample),
            "showers": [len(floor.generated.sample), len(floor.reference.sample)],
        },
        "samples": entries,
    }
    if results.posterior is not None:
        document["posterior"] = _posterior(list(results.scores), results.posterior)
    if results.calibration is not None:
        coverage = dict(zip(map(str, LEVELS), results.calibration.coverage, strict=True))
        document["ensemble"] = {"statement": str(results.calibration), "coverage": coverage}
    return document


def _file(sample: Sample) -> dict:
    return {"file": sample.name, "sha256": sample.sha256, "showers": len(sample)}


def _sample(name: str, score: Comparison, results: Results, reference_md5: Sequence[str]) -> dict:
    """All numbers of one sample."""
    file, reference, floor = _file(score.generated.sample), _file(score.reference.sample), results.floor
    measured = {key: Measured(*value, *floor.values[key], MEASURES[key].target) for key, value in score.values.items()}
    return {
        "name": name,
        **file,
        "verdict": verdict(measured, identical=file["sha256"] == reference["sha256"]),
        "warnings": cautions(score, floor, results.independent_floor),
        "metrics": {
            key: {"label": MEASURES[key].label, **asdict(entry), "significance": entry.excess, "words": entry.words}
            for key, entry in measured.items()
        },
        "classifiers": {
            key: {**_trainings(entry), "floor": _trainings(floor.scores[key])} for key, entry in score.scores.items()
        },
        "histograms": [_histogram(*pair) for pair in zip(score.histograms, floor.histograms, strict=True)],
        "field": _field(score, results.preset.name, reference_md5),
    }


def _trainings(score: Score) -> dict:
    return {
        "scored_showers": list(score.n_scored),
        "trainings": [{n: getattr(t, n) for n in NUMBERS} for t in score.trainings],
    }


def _field(score: Comparison, preset: str, reference_md5: Sequence[str]) -> dict:
    """Where the sample would stand among the published results, and why it may not be compared with them."""
    dataset, values = score.reference.sample.geometry.name, {key: value for key, (value, _) in score.values.items()}
    counts = len(score.generated.sample), len(score.reference.sample)

    def neighbor(entry: Entry | None, metric: str) -> dict | None:
        return {"name": entry.name, "value": entry.metrics[metric].value} if entry else None

    return {
        "not_comparable": why_not_comparable(dataset, *counts, preset, reference_md5),
        "standings": [
            {
                "metric": standing.metric,
                "label": standing.label,
                "value": standing.value,
                "rank": standing.rank,
                "of": standing.of,
                "better": neighbor(standing.better, standing.metric),
                "worse": neighbor(standing.worse, standing.metric),
                "geant4": standing.geant4.value if standing.geant4 else None,
            }
            for standing in standings(dataset, values)
        ],
    }


def _posterior(names: Sequence[str], posterior: LogPosterior) -> dict:
    values = zip(names, posterior.mean.tolist(), posterior.std.tolist(), strict=True)
    return {
        "samples": [{"name": name, "value": value, "error": error} for name, value, error in values],
        "guessing": posterior.guessing,
        "consistency": posterior.consistency.tolist(),
    }


def verdict(measured: Mapping[str, Measured], identical: bool) -> str:
    """Says in a sentence whether the generated showers can be told from Geant4."""
    if identical:
        return "Nothing was judged: the generated file is the reference file."
    aucs = {key: entry for key, entry in measured.items() if key.startswith("auc_")}
    strongest = max(aucs, key=lambda key: aucs[key].excess, default=None)
    differing = [key for key, entry in measured.items() if key not in aucs and entry.excess > CLEAR]
    named = ", ".join(MEASURES[key].label for key in differing[:6]) + (", ..." if len(differing) > 6 else "")
    if strongest is None:
        return f"No classifier was trained; {f'these differ: {named}.' if differing else 'no other measure differs.'}"
    best = aucs[strongest]
    numbers = f"AUC {best} (floor {number(best.floor, best.floor_error)})"
    if not best.at_floor:
        level = MEASURES[strongest].label.removeprefix("AUC, ")
        ease = "easily distinguishable" if best.value > 0.9 else "distinguishable"
        return f"The {level} tells these showers from Geant4 with {numbers}: {ease}."
    if differing:
        return f"No classifier tells these showers from Geant4, the best has {numbers}, but these differ: {named}."
    return f"These showers cannot be told from Geant4 at this sample size: the best classifier has {numbers}."


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
