"""How far n Geant4 showers are from the reference, and where generated showers stand."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from caloman.evaluation.equivalent import MEASURES, Equivalents
from caloman.evaluation.plots.style import REFERENCE, sample_color


def equivalent_numbers(samples: Mapping[str, Equivalents]) -> Figure:
    """Draws the first distance of n Geant4 showers against n, and the distance of the generated showers as a line."""
    key = next(iter(MEASURES))
    figure = Figure(figsize=(4.6, 3.4), layout="constrained")
    axes = figure.subplots()
    (numbers, distances) = np.transpose(next(iter(samples.values())).overall[key].curve)
    axes.plot(numbers, distances, "o-", color=REFERENCE, label="n Geant4 showers", markersize=4)
    for position, (name, found) in enumerate(samples.items()):
        equal, color = found.overall[key], sample_color(position)
        axes.axhline(equal.distance, color=color, linewidth=1.2, label=name)
        if equal.error is None:
            axes.annotate("", (2 * equal.showers, equal.distance), (equal.showers, equal.distance), arrowprops={
                "arrowstyle": "->", "color": color})  # fmt: skip
        else:
            axes.axvspan(max(equal.showers - equal.error, 1), equal.showers + equal.error, color=color, alpha=0.15)
        axes.plot(equal.showers, equal.distance, "D", color=color, markersize=6)
    axes.set(xscale="log", yscale="log", xlabel="n", ylabel=f"{MEASURES[key].label} from the reference")
    axes.set_xticks(numbers, [f"{n:.0f}" for n in numbers])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(ScalarFormatter())
    axes.legend(loc="lower left")
    return figure
