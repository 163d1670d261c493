"""Figures of a report."""

from collections.abc import Iterator, Mapping

import matplotlib as mpl
from matplotlib.figure import Figure

from caloman.evaluation.histograms import LABELS, RESPONSE, RESPONSE_AT_ENERGY, VOXEL_ENERGY, Histogram
from caloman.evaluation.judge import Comparison
from caloman.evaluation.plots.observables import correlation_matrices, histogram_panels
from caloman.evaluation.plots.scores import likelihood_ratios
from caloman.evaluation.plots.showers import mean_showers, single_showers, spread
from caloman.evaluation.plots.style import STYLE, Picture

__all__ = ["Picture", "pictures"]

MAX_PANELS = 10
BANDS = "Shaded bands are statistical errors; a ratio that leaves them by much is a real difference."
CLASSIFIER_NAMES = {"low": "low-level", "low_normed": "low-level, normalised layers", "high": "high-level", "resnet": "ResNet"}


def pictures(scores: Mapping[str, Comparison]) -> list[Picture]:
    """Draws the figures of samples that were compared with the same reference.

    Args:
        scores: comparisons by name of the sample.
    """
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        return [Picture.of(figure, *texts) for figure, *texts in _figures(scores)]


def _figures(scores: Mapping[str, Comparison]) -> Iterator[tuple[Figure, str, str, str]]:
    reference = next(iter(scores.values())).reference
    summaries = {"Geant4": reference, **{name: score.generated for name, score in scores.items()}}
    yield (
        mean_showers(summaries),
        "mean_showers",
        "Mean showers",
        "Mean energy per voxel of each layer. Colours and radial scale (square root) are the same in all rows.",
    )
    yield (
        single_showers(summaries),
        "single_showers",
        "Single showers",
        "A Geant4 shower and generated showers of the nearest incident energy, not selected.",
    )
    yield from _histogram_figures({name: score.histograms for name, score in scores.items()})
    yield (
        correlation_matrices(
            {name: layer_correlations(summary.observables) for name, summary in summaries.items()},
            [layer.id for layer in reference.sample.geometry.layers],
        ),
        "layer_correlations",
        "Correlations of layer energies",
        "Pearson correlations between the energies of the layers in Geant4, and what generated showers have more.",
    )
    for key in next(iter(scores.values())).scores:
        yield (
            likelihood_ratios({name: score.scores[key].log_ratios for name, score in scores.items()}),
            f"likelihood_ratio_{key}",
            f"Likelihood ratio of the {CLASSIFIER_NAMES[key]} classifier",
            "What the classifier finds for showers that it was not trained on, calibrated: 0 means that it cannot tell. "
            "Entries far to the right are generated showers that Geant4 would not make; far to the left, those that "
            "the generator does not make.",
        )


def _histogram_figures(samples: Mapping[str, list[Histogram]]) -> Iterator[tuple[Figure, str, str, str]]:
    groups: dict[str, list[int]] = {}
    for position, histogram in enumerate(next(iter(samples.values()))):
        name = histogram.binning.observable
        groups.setdefault("energies" if name in (RESPONSE, VOXEL_ENERGY) else name, []).append(position)
    titles = {**LABELS, "energies": "total response and voxel energies"}
    first = [name for name in ("energies", RESPONSE_AT_ENERGY) if name in groups]
    for name in (*first, *(name for name in groups if name not in first)):
        shown = [groups[name][i] for i in spread(len(groups[name]), MAX_PANELS)]
        panels = {sample: [histograms[i] for i in shown] for sample, histograms in samples.items()}
        title = titles[name][0].upper() + titles[name][1:]
        yield histogram_panels(panels), name, title, BANDS
