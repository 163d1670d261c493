"""Figures of a report."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import matplotlib as mpl
from matplotlib.figure import Figure

from caloman.evaluation.histograms import LABELS, RESPONSE, RESPONSE_AT_ENERGY, VOXEL_ENERGY, Histogram
from caloman.evaluation.measures import CLASSIFIERS
from caloman.evaluation.plots.classifiers import closure_tests, likelihood_ratios
from caloman.evaluation.plots.equivalent import equivalent_numbers
from caloman.evaluation.plots.observables import correlation_matrices, histogram_panels
from caloman.evaluation.plots.reading import deviation_maps, likelihood_map, telltale_showers
from caloman.evaluation.plots.showers import evenly_spaced, mean_showers, mean_showers_by, single_showers
from caloman.evaluation.plots.style import STYLE, Picture, rendered
from caloman.evaluation.results import Floor, Results
from caloman.evaluation.samples import Summary, common_conditions
from caloman.evaluation.two_sample import correlation_matrix
from caloman.showers.conditions import known

__all__ = ["Picture", "panels", "pictures"]

MAX_PANELS = 10
BANDS = "Shaded bands are statistical errors; a ratio that leaves them by much is a real difference."

Drawn = tuple[Figure, str, str, str]
"""A figure, its name, title and caption."""


def pictures(results: Results) -> list[Picture]:
    """Draws the figures of an evaluation."""
    # a name is no formula
    named = {name.replace("$", r"\$"): comparison for name, comparison in results.comparisons.items()}
    readings = {name.replace("$", r"\$"): reading for name, reading in results.readings.items()}
    equal = {name.replace("$", r"\$"): number for name, number in results.equivalents.items()}
    results = replace(results, comparisons=named, readings=readings, equivalents=equal)
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figures = [
            *_equivalents(results),
            *_readings(results),
            *_worst(results),
            *_classifiers(results),
            *_showers(results),
            *_histograms(results),
            *_correlations(results),
        ]
        return [Picture.of(*drawn) for drawn in figures]


def panels(histograms: Sequence[Histogram]) -> bytes:
    """Draws histograms as a PNG image, apart from any report."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        return rendered(histogram_panels({"generated": histograms}), "png")


def _equivalents(results: Results) -> Iterator[Drawn]:
    if results.equivalents:
        yield (
            equivalent_numbers(results.equivalents),
            "equivalent",
            "How many Geant4 showers it is worth",
            "Distance of n Geant4 showers from the reference, and of the generated ones. The diamond is their "
            "equivalent number, which allows for their own finite number; an arrow marks a lower limit.",
        )


def _readings(results: Results) -> Iterator[Drawn]:
    if not results.readings:
        return
    layers = [layer.id for layer in results.reference.sample.geometry.layers]
    yield (
        deviation_maps(results.readings, layers),
        "deviations",
        "What deviates, and where",
        "Means and standard deviations of generated showers against those of Geant4 at the same incident energy, in "
        "standard errors: red is too large, blue too small, pale is chance. Numbers are relative differences (centers: "
        "mm), written where they are beyond chance.",
    )
    for name, reading in list(results.readings.items())[:1]:
        yield (
            telltale_showers(name, results.comparisons[name], reading),
            "telltale_showers",
            "Showers that give the generator away",
            "Generated showers that Geant4 would hardly make, and Geant4 showers that are hardly generated, as boosted "
            "trees see them that have not been trained on them. In brackets: how much likelier the shower is from "
            "where it comes from.",
        )
        yield (
            likelihood_map(reading),
            "likelihood_map",
            "Where the generator is wrong",
            "What the same trees say of showers by two of their features, in standard deviations from the mean of "
            "Geant4 at the same incident energy: red showers are generated too often, blue ones too seldom.",
        )


def _worst(results: Results) -> Iterator[Drawn]:
    """The histogram whose separation power is farthest above its floor, of the first sample."""
    first = next(iter(results.comparisons.values()))
    if not first.histograms:
        return
    floors = Floor(results.floor, first.sizes).separations
    excess = [
        (histogram.separation - floor) / max(math.hypot(histogram.separation_error, error), 1e-12)
        for histogram, (floor, error) in zip(first.histograms, floors, strict=True)
    ]
    worst = excess.index(max(excess))
    title = first.histograms[worst].binning.title
    yield (
        histogram_panels({name: [c.histograms[worst]] for name, c in results.comparisons.items()}),
        "worst_histogram",
        f"Of all histograms farthest from Geant4: {title}",
        BANDS,
    )


def _classifiers(results: Results) -> Iterator[Drawn]:
    if results.closure_tests:
        floor = {level: test.auc for level, test in results.floor.classifiers.items()}
        yield (
            closure_tests(results.closure_tests, floor),
            "closure_tests",
            "Closure tests",
            "AUC with one part of the model generated and the truth in the place of the others; the gray band is the "
            "floor. The part with the largest AUC limits the model.",
        )
    for key in next(iter(results.comparisons.values())).classifiers:
        yield (
            likelihood_ratios({name: c.classifiers[key].trainings[0] for name, c in results.comparisons.items()}),
            f"likelihood_ratio_{key}",
            f"Likelihood ratio, {CLASSIFIERS[key]}",
            "What the first training finds for showers that it has not seen, calibrated; 0 means that it cannot tell. "
            "Entries far to the left are generated showers that Geant4 would hardly make.",
        )


def _summaries(results: Results) -> dict[str, Summary]:
    """What is drawn, by name, Geant4 first."""
    return {"Geant4": results.reference, **{name: c.generated for name, c in results.comparisons.items()}}


def _showers(results: Results) -> Iterator[Drawn]:
    summaries = _summaries(results)
    yield (
        mean_showers(summaries),
        "mean_showers",
        "Mean showers",
        "Mean energy per voxel of each layer. Colors and radial scale (square root) are the same in all rows.",
    )
    shared = common_conditions([summary.sample for summary in summaries.values()])
    for name in [name for name in shared if known(name).kind == "continuous"][:1]:
        yield (
            mean_showers_by(summaries, name),
            f"mean_showers_{name}",
            f"Mean showers by {name}",
            f"Mean energy per voxel at the smallest, a medium and the largest fifth of the range of {name}.",
        )
    yield (
        single_showers(summaries),
        "single_showers",
        "Single showers",
        "A Geant4 shower and generated showers of the nearest incident energy, not selected.",
    )


def _correlations(results: Results) -> Iterator[Drawn]:
    summaries = _summaries(results)
    matrices = {name: correlation_matrix(s.observables.layer_energies) for name, s in summaries.items()}
    yield (
        correlation_matrices(matrices, [layer.id for layer in results.reference.sample.geometry.layers]),
        "layer_correlations",
        "Correlations of layer energies",
        "Pearson correlations between the energies of the layers in Geant4, and by how much generated ones differ.",
    )


def _histograms(results: Results) -> Iterator[Drawn]:
    samples: Mapping[str, list[Histogram]] = {name: c.histograms for name, c in results.comparisons.items()}
    groups: dict[str, list[int]] = {}
    for position, histogram in enumerate(next(iter(samples.values()))):
        name = histogram.binning.observable
        groups.setdefault("energies" if name in (RESPONSE, VOXEL_ENERGY) else name, []).append(position)
    titles = {**LABELS, "energies": "total response and voxel energies"}
    first = [name for name in ("energies", RESPONSE_AT_ENERGY) if name in groups]
    for name in (*first, *(name for name in groups if name not in first)):
        shown = [groups[name][i] for i in evenly_spaced(len(groups[name]), MAX_PANELS)]
        panels = {sample: [histograms[i] for i in shown] for sample, histograms in samples.items()}
        figure = histogram_panels(panels, ensemble=results.calibration is not None)
        yield figure, name, titles[name][0].upper() + titles[name][1:], BANDS
