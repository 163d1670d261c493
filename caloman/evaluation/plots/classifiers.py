"""What classifiers and distances say: likelihood ratios, closure tests, equivalent numbers."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from caloman.evaluation.classifier import Training
from caloman.evaluation.measures import MISTAKEN
from caloman.evaluation.plots.style import REFERENCE, sample_color
from caloman.evaluation.schema import Equivalent

Interval = tuple[float, float]  # a value and its error

LOG_RATIO_RANGE = 6.0


def likelihood_ratios(samples: Mapping[str, Training]) -> Figure:
    """Draws ln p(Geant4) / p(generated) of generated and of Geant4 showers, one panel for each sample."""
    figure = Figure(figsize=(3.6 * len(samples) + 0.6, 3), layout="constrained")
    edges = np.linspace(-LOG_RATIO_RANGE, LOG_RATIO_RANGE, 49)
    grid = figure.subplots(1, len(samples), squeeze=False, sharey=True)[0]
    for position, (axes, (name, training)) in enumerate(zip(grid, samples.items(), strict=True)):
        for kind, label, color in ((1, "Geant4", REFERENCE), (0, name, sample_color(position))):
            values = training.log_ratios[training.labels == kind]
            counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
            axes.stairs(counts / max(len(values), 1), edges, color=color, label=label, linewidth=1.4)
        axes.set(xlabel="ln p(Geant4) / p(generated)")
        axes.margins(y=0.2)
        axes.legend(loc="upper left", handlelength=1.2, fontsize=8)
    grid[0].set_ylabel("fraction of showers")
    return figure


def closure_tests(entries: Mapping[str, Mapping[str, Interval]], floor: Mapping[str, Interval]) -> Figure:
    """Draws the AUC of each closure test by level (low, high), with the floor: that of Geant4 against Geant4."""
    figure = Figure(figsize=(7, 0.55 * len(entries) + 1.1), layout="constrained")
    axes = figure.subplots()
    height = {name: len(entries) - 1 - i for i, name in enumerate(entries)}
    for offset, (level, color) in zip(
        (0.12, -0.12), (("low", sample_color(0)), ("high", sample_color(1))), strict=True
    ):
        points = [(height[name] + offset, *entry[level]) for name, entry in entries.items() if level in entry]
        y, values, errors = zip(*points, strict=True) if points else ((), (), ())
        axes.errorbar(values, y, xerr=errors, fmt="o", color=color, label=f"{level} level", markersize=5)
        if level in floor:
            center, error = floor[level]
            axes.axvspan(center - error, center + error, color=REFERENCE, alpha=0.25, linewidth=0)
    axes.set_yticks(list(height.values()), list(height))
    axes.set(xlabel="AUC", xlim=(min(0.45, axes.get_xlim()[0]), axes.get_xlim()[1]))
    axes.legend(loc="best")
    return figure


def one_photon_or_two(samples: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """Draws points of ROC curves from the measures of each sample, of which the first one is Geant4."""
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.subplots()
    for position, (name, values) in enumerate(samples.items(), start=-1):
        found, errors = zip(*(values[f"overlap_found_{share}"] for share in MISTAKEN), strict=True)
        color = REFERENCE if position < 0 else sample_color(position)
        axes.errorbar(MISTAKEN, found, errors, fmt="o-", color=color, label=name, markersize=4, capsize=2)
    axes.plot(MISTAKEN, MISTAKEN, ":", color=REFERENCE, label="guessing")
    axes.set(xscale="log", xlabel="single photons mistaken [%]", ylabel="pairs found [%]")
    axes.set_xticks(MISTAKEN, map(str, MISTAKEN))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="upper left")
    return figure


def equivalent_numbers(samples: Mapping[str, Equivalent]) -> Figure:
    """Draws the first distance of n Geant4 showers against n, and the distance of the generated showers as a line."""
    found = {name: next(iter(sample["measures"].values())) for name, sample in samples.items()}
    first = next(iter(found.values()))
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.subplots()
    numbers, distances = ([point[key] for point in first["curve"]] for key in ("showers", "distance"))
    axes.plot(numbers, distances, "o-", color=REFERENCE, label="n Geant4 showers", markersize=4)
    for position, (name, equal) in enumerate(found.items()):
        n, error, distance, color = equal["showers"], equal["error"], equal["distance"], sample_color(position)
        axes.axhline(distance, color=color, linewidth=1.2, label=name)
        if error is None:
            axes.annotate("", (2 * n, distance), (n, distance), arrowprops={"arrowstyle": "->", "color": color})
        else:
            axes.axvspan(max(n - error, 1), n + error, color=color, alpha=0.15)
        axes.plot(n, distance, "D", color=color, markersize=6)
    axes.set(xscale="log", yscale="log", xlabel="n", ylabel=f"{first['label']} from the reference")
    axes.set_xticks(numbers, [f"{n:.0f}" for n in numbers])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.legend(loc="lower left")
    return figure
