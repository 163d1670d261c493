"""Histograms of observables with their ratio to Geant4, and correlations between layers."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from caloman.evaluation.bands import histogram_bands
from caloman.evaluation.binnings import LABELS, Binning
from caloman.evaluation.histograms import Histogram
from caloman.evaluation.plots.style import REFERENCE, formula, sample_color

Array = NDArray[np.floating]

TAIL = 1e-3
PANEL_COLUMNS = 5


def histogram_panels(samples: Mapping[str, Sequence[Histogram]], ensemble: bool = False) -> Figure:
    """Draws the same histograms of Geant4 and of each sample with their ratio, one panel each.

    Samples have their histograms in the same order. Of an ensemble the mean and the spread are drawn, not each member.
    """
    panels = list(zip(*samples.values(), strict=True))
    columns = min(len(panels), PANEL_COLUMNS)
    rows = -(-len(panels) // columns)
    width = 4.6 if columns <= 2 else 2.7
    figure = Figure(figsize=(width * columns, 2.9 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, columns, squeeze=False, gridspec_kw={"height_ratios": [3, 1] * rows})
    for panel in range(rows * columns):
        row, column = divmod(panel, columns)
        main, ratio = axes[2 * row, column], axes[2 * row + 1, column]
        if panel >= len(panels):
            main.remove()
            ratio.remove()
            continue
        _panel(main, ratio, panels[panel], ensemble)
        if column == 0:
            main.set_ylabel("fraction per bin")
            ratio.set_ylabel("ratio")
    handles: list[Patch | Line2D] = [Patch(color=REFERENCE, alpha=0.5, label="Geant4")]
    names = [f"{len(samples)} members, mean and spread"] if ensemble else list(samples)
    handles += [Line2D([], [], color=sample_color(i), label=name) for i, name in enumerate(names)]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), handlelength=1.2)
    return figure


def correlation_matrices(samples: Mapping[str, Array], layers: Sequence[int]) -> Figure:
    """Draws Pearson correlations (L, L) of layer energies: of Geant4, which is first, and the others' deviations."""
    names, (reference, *others) = list(samples), list(samples.values())
    figure = Figure(figsize=(3.6 * len(samples), 3.3), layout="constrained")
    grid = figure.subplots(1, len(samples), squeeze=False)[0]
    limit = max([0.02, *(float(np.abs(other - reference).max()) for other in others)])
    images = [grid[0].imshow(reference, cmap="RdBu_r", vmin=-1, vmax=1)]
    for axes, other in zip(grid[1:], others, strict=True):
        images.append(axes.imshow(other - reference, cmap="PuOr_r", vmin=-limit, vmax=limit))
    titles = [names[0], *(f"{name} minus {names[0]}" for name in names[1:])]
    ticks = np.unique(np.linspace(0, len(layers) - 1, min(len(layers), 8)).round().astype(int))
    for axes, image, title in zip(grid, images, titles, strict=True):
        axes.set(title=title, xlabel="layer", ylabel="layer")
        axes.set_xticks(ticks, [str(layers[i]) for i in ticks])
        axes.set_yticks(ticks, [str(layers[i]) for i in ticks])
        figure.colorbar(image, ax=axes, shrink=0.85)
    return figure


def _panel(main: Axes, ratio: Axes, histograms: Sequence[Histogram], ensemble: bool) -> None:
    binning, edges = histograms[0].binning, histograms[0].binning.edges
    reference, reference_error = histograms[0].fractions()[0]
    main.sharex(ratio)
    if binning.unit == "MeV":
        ratio.set_xscale("log")
        main.set_yscale("log")
    main.stairs(reference, edges, fill=True, color=REFERENCE, alpha=0.3)
    main.stairs(reference, edges, color=REFERENCE)
    scale = np.where(reference > 0, reference, np.nan)
    _band(ratio, edges, reference / scale, reference_error / scale, REFERENCE)
    content = reference.copy()
    band = histogram_bands([histogram.generated for histogram in histograms]) if ensemble else None
    curves = [(band.mean, band.spread)] if band else [histogram.fractions()[1] for histogram in histograms]
    for i, (values, errors) in enumerate(curves):
        content += values
        _band(main, edges, values, errors, sample_color(i))
        _band(ratio, edges, values / scale, errors / scale, sample_color(i))
    separations = ", ".join(f"{h.separation:.2g} ± {h.separation_error:.1g}" for h in histograms[:2])
    separations += ", ..." if len(histograms) > 2 else ""
    main.set_title(f"{binning.place or _label(binning)}\nseparation {separations}")
    main.tick_params(labelbottom=False)
    ratio.set_xlim(*_core(edges, content))
    ratio.set_ylim(0, 2)
    ratio.set_xlabel(_label(binning) + (f" [{binning.unit}]" if binning.unit else ""))


def _band(axes: Axes, edges: Array, values: Array, errors: Array, color: str) -> None:
    """Draws a histogram with its statistical errors; bins without a value are left out."""
    axes.stairs(values, edges, baseline=None, color=color, linewidth=1.2)
    low, high = (np.append(bound, bound[-1]) for bound in (values - errors, values + errors))
    axes.fill_between(edges, low, high, step="post", color=color, alpha=0.25, linewidth=0)


def _label(binning: Binning) -> str:
    return formula(LABELS[binning.observable]).removesuffix(" at fixed E_inc")


def _core(edges: Array, content: Array) -> tuple[float, float]:
    """Range of the bins that hold all but a thousandth of the content at either side."""
    share = np.cumsum(content) / max(content.sum(), 1e-300)
    first, last = np.searchsorted(share, (TAIL, 1 - TAIL))
    return float(edges[first]), float(edges[min(last + 1, len(edges) - 1)])
