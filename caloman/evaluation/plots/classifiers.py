"""Classifiers: likelihood ratios, and the closure tests of a two-stage model."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from caloman.evaluation.classifier import Training
from caloman.evaluation.plots.style import REFERENCE, sample_color

Interval = tuple[float, float]
"""A value and its error."""

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
        axes.legend()
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
