"""What is wrong with generated showers: a map of deviations, and the showers that give a generator away."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from caloman.evaluation.binnings import format_energy
from caloman.evaluation.comparison import Comparison
from caloman.evaluation.plots.showers import polar_rows
from caloman.evaluation.plots.style import formula
from caloman.evaluation.reading import Deviation, Reading
from caloman.evaluation.reading.deviations import limit
from caloman.evaluation.reading.features import Feature

CORE = 3.0  # standard deviations of Geant4 that are drawn to either side of its mean
MIN_IN_CELL = 4  # fewest showers of a cell that is drawn
SIGMAS = 10.0  # significance with the strongest color
TICKS = 4
MAX_WRITTEN = 8  # most layers for which sizes are written into the map


def deviation_maps(samples: Mapping[str, Reading], layers: Sequence[int]) -> Figure:
    """Draws by how many standard errors features of each layer deviate, one panel for each sample.

    Of a single sample the deviations of means and those of standard deviations have a panel each.
    """
    panels = [(name, "shift", reading) for name, reading in samples.items()]
    if len(samples) == 1:
        reading = panels[0][2]
        panels = [("mean", "shift", reading), ("standard deviation", "spread", reading)]
    rows = list(dict.fromkeys(_row(d.features[0]) for d in panels[0][2].deviations if d.kind == "shift"))
    figure = Figure(figsize=(1.9 + 1.6 * len(panels), 0.8 + 0.22 * len(rows)), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, kind, reading) in zip(grid, panels, strict=True):
        image = _map(axes, [d for d in reading.deviations if d.kind == kind], rows, layers, limit(reading.deviations))
        axes.set_title(title)
    grid[0].set_yticks(range(len(rows)), rows)
    ticks = [-SIGMAS, 0, SIGMAS]
    label = "generated minus Geant4 [standard errors]"
    figure.colorbar(image, ax=grid, label=label, extend="both", pad=0.02, aspect=30, ticks=ticks)
    return figure


def telltale_showers(name: str, comparison: Comparison, reading: Reading) -> Figure:
    """Draws the generated showers that Geant4 would hardly make, and the Geant4 showers that are hardly generated."""
    rows = []
    summaries = {"generated": (name, comparison.generated), "reference": ("Geant4", comparison.reference)}
    for kind, (label, summary) in summaries.items():
        for telltale in reading.document["telltale"][kind]:
            shower = summary.sample.shower(telltale["position"])
            odds = math.exp(abs(telltale["log_ratio"]))
            energy = format_energy(float(shower.incident_energies[0]))
            rows.append((f"{label} ({odds:.2g} : 1)\n{energy}", shower.voxels[0]))
    return polar_rows(rows, comparison.reference.sample.geometry, "energy per voxel [MeV]")


def likelihood_map(reading: Reading) -> Figure:
    """Draws the mean likelihood ratio over the planes of the feature that deviates most and of others that do.

    The others are the most deviating ones of the other groups: energies, hits, centers and widths.
    """
    strongest: dict[str, Feature] = {}
    for deviation in sorted(reading.deviations, key=lambda d: -abs(d.significance)):
        strongest.setdefault(deviation.features[0].group, deviation.features[0])
    features = reading.residuals.features
    table = np.concatenate([reading.residuals.reference, reading.residuals.generated])
    first, *others = strongest.values()
    figure = Figure(figsize=(3.1 * len(others) + 1.1, 3.1), layout="constrained")
    grid = figure.subplots(1, len(others), squeeze=False, sharey=True)[0]
    for axes, other in zip(grid, others, strict=True):
        points = table[:, [features.index(other), features.index(first)]]
        known = np.isfinite(points).all(axis=1)
        image = axes.hexbin(
            *points[known].T, C=reading.trees.log_ratios[known], gridsize=24, mincnt=MIN_IN_CELL,
            extent=[-CORE, CORE] * 2, cmap="RdBu", vmin=-1, vmax=1, linewidths=0.1,
        )  # fmt: skip
        axes.set_facecolor("#eceef0")
        axes.set_xlabel(_full_title(other))
    grid[0].set_ylabel(_full_title(first))
    figure.colorbar(image, ax=grid, label="mean ln p(Geant4) / p(generated)", extend="both", pad=0.02, aspect=30)
    return figure


def _full_title(feature: Feature) -> str:
    return formula(feature.title) if feature.layer is None else f"{feature.title}, layer {feature.layer}"


def _map(
    axes: Axes, found: Sequence[Deviation], rows: Sequence[str], layers: Sequence[int], threshold: float
) -> AxesImage:
    columns: list[int | None] = [None, *layers]
    cells = np.full((len(rows), len(columns)), np.nan)
    for deviation in found:
        feature = deviation.features[0]
        place = rows.index(_row(feature)), columns.index(feature.layer)
        cells[place] = deviation.significance
        if len(layers) <= MAX_WRITTEN and abs(deviation.significance) > threshold:
            color = "white" if abs(deviation.significance) > 0.6 * SIGMAS else "black"
            axes.text(*place[::-1], _size(deviation), ha="center", va="center", fontsize=6.5, color=color)
    axes.set_facecolor("#eceef0")
    image = axes.imshow(cells, cmap="RdBu_r", vmin=-SIGMAS, vmax=SIGMAS, aspect="auto", interpolation="none")
    # labels of many layers keep away from that of the first column, which is the whole shower
    shown = range(1, len(layers) + 1)
    if len(layers) > MAX_WRITTEN:
        shown = np.linspace(0, len(layers), TICKS + 1).round().astype(int)[1:].tolist()
    axes.set_xticks([0, *shown], ["all", *(str(layers[i - 1]) for i in shown)])
    axes.set_xlabel("layer")
    axes.tick_params(length=0)
    return image


def _row(feature: Feature) -> str:
    """What a row of the map is called."""
    if feature.layer is None or feature.group == "energies":
        return "energy"
    return feature.title


def _size(deviation: Deviation) -> str:
    if not np.isfinite(deviation.size):
        return "new"
    return f"{deviation.size:+.1g}" if deviation.features[0].unit else f"{100 * deviation.size:+.0f}%"
