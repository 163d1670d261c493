"""Figures of a report."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import matplotlib as mpl

from caloman.evaluation.binnings import LABELS, RESPONSE, VOXEL_ENERGY
from caloman.evaluation.comparison import Floor
from caloman.evaluation.histograms import Histogram, by_observable
from caloman.evaluation.measures import CLASSIFIERS
from caloman.evaluation.metrics import Results
from caloman.evaluation.modes import DOWNSTREAM
from caloman.evaluation.plots.classifiers import (
    closure_tests,
    equivalent_numbers,
    likelihood_ratios,
    one_photon_or_two,
)
from caloman.evaluation.plots.observables import correlation_matrices, histogram_panels
from caloman.evaluation.plots.reading import deviation_maps, likelihood_map, telltale_showers
from caloman.evaluation.plots.showers import evenly_spaced, mean_showers, mean_showers_by, single_showers
from caloman.evaluation.plots.style import STYLE, Picture, rendered
from caloman.evaluation.samples import common_conditions
from caloman.evaluation.two_sample import correlation_matrix
from caloman.showers.conditions import known

__all__ = ["Picture", "panels", "pictures"]

MAX_PANELS = 10


def pictures(results: Results) -> list[Picture]:
    """Draws the figures of an evaluation, which are described in the template of the page."""
    # a name is no formula
    named = {name.replace("$", r"\$"): comparison for name, comparison in results.comparisons.items()}
    results = replace(results, comparisons=named)
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        return [*_readings(results), *_classifiers(results), *_showers(results), *_histograms(results)]


def panels(histograms: Sequence[Histogram]) -> bytes:
    """Draws histograms as a PNG image, apart from any report."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        return rendered(histogram_panels({"generated": histograms}), "png")


def _readings(results: Results) -> Iterator[Picture]:
    worths = {name: c.equivalent for name, c in results.comparisons.items() if c.equivalent}
    if worths:
        yield Picture.of("equivalent", equivalent_numbers(worths))
    readings = {name: c.reading for name, c in results.comparisons.items() if c.reading}
    if readings:
        layers = [layer.id for layer in results.reference.sample.geometry.layers]
        name, reading = next(iter(readings.items()))
        yield Picture.of("deviations", deviation_maps(readings, layers))
        yield Picture.of("telltale_showers", telltale_showers(name, results.comparisons[name], reading))
        yield Picture.of("likelihood_map", likelihood_map(reading))
    if results.first.histograms:
        yield _worst(results)


def _worst(results: Results) -> Picture:
    """The histogram whose separation power is farthest above its floor, of the first sample."""
    histograms = results.first.histograms
    floors = Floor(results.floor, results.first.sizes).separations
    excess = [
        (histogram.separation - floor) / max(math.hypot(histogram.separation_error, error), 1e-12)
        for histogram, (floor, error) in zip(histograms, floors, strict=True)
    ]
    worst = excess.index(max(excess))
    figure = histogram_panels({name: [c.histograms[worst]] for name, c in results.comparisons.items()})
    return Picture.of("worst_histogram", figure, subject=histograms[worst].binning.title)


def _classifiers(results: Results) -> Iterator[Picture]:
    if results.closure_tests:
        floor = {level: results.floor.values[f"auc_{level}"] for level in results.floor.trainings}
        yield Picture.of("closure_tests", closure_tests(results.closure_tests, floor))
    if DOWNSTREAM in results.judge.modes:
        learned = {"Geant4": results.floor, **results.comparisons}
        yield Picture.of("one_photon_or_two", one_photon_or_two({name: c.values for name, c in learned.items()}))
    for key in results.first.classifiers:
        trainings = {name: c.classifiers[key].trainings[0] for name, c in results.comparisons.items()}
        figure = likelihood_ratios(trainings)
        yield Picture.of(f"likelihood_ratio_{key}", figure, "likelihood_ratio", CLASSIFIERS[key])


def _showers(results: Results) -> Iterator[Picture]:
    summaries = {"Geant4": results.reference, **{name: c.generated for name, c in results.comparisons.items()}}
    yield Picture.of("mean_showers", mean_showers(summaries))
    shared = common_conditions([summary.sample for summary in summaries.values()])
    for name in [name for name in shared if known(name).kind == "continuous"][:1]:
        yield Picture.of(f"mean_showers_{name}", mean_showers_by(summaries, name), "mean_showers_by", name)
    yield Picture.of("single_showers", single_showers(summaries))
    layers = [layer.id for layer in results.reference.sample.geometry.layers]
    matrices = {name: correlation_matrix(s.observables.layer_energies) for name, s in summaries.items()}
    yield Picture.of("layer_correlations", correlation_matrices(matrices, layers))


def _histograms(results: Results) -> Iterator[Picture]:
    groups = by_observable(results.first.histograms)
    if groups:
        groups = {"energies": groups.pop(RESPONSE) + groups.pop(VOXEL_ENERGY)} | groups
    for name, positions in groups.items():
        shown = [positions[i] for i in evenly_spaced(len(positions), MAX_PANELS)]
        chosen = {sample: [c.histograms[i] for i in shown] for sample, c in results.comparisons.items()}
        figure = histogram_panels(chosen, ensemble=results.calibration is not None)
        subject = {**LABELS, "energies": "total response and voxel energies"}[name]
        yield Picture.of(name, figure, "histograms", subject)
