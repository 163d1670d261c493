"""Figures of a comparison: mean and single showers in polar view, and histograms with ratio panels."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.projections.polar import PolarAxes
from numpy.typing import NDArray

from caloman.evaluation.histograms import (
    LABELS,
    RESPONSE,
    RESPONSE_AT_ENERGY,
    VOXEL_ENERGY,
    Binning,
    Histogram,
    format_energy,
)
from caloman.evaluation.metrics import Comparison
from caloman.evaluation.samples import Summary
from caloman.geometry import Geometry, Layer

Array = NDArray[np.floating]

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa0a6",
    "axes.linewidth": 0.8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelcolor": "#3c4043",
    "xtick.color": "#3c4043",
    "ytick.color": "#3c4043",
    "text.color": "#202124",
    "legend.frameon": False,
    "savefig.dpi": 150,
}
# colours of Okabe and Ito, which differ for every kind of colour vision
REFERENCE, GENERATED = "#7a8087", "#d55e00"
ENERGY_COLOURS = "viridis"
DECADES = 5
TAIL = 1e-3
MAX_PANELS = 10
MAX_LAYERS = 7
PANEL_COLUMNS = 5


@dataclass(frozen=True)
class Picture:
    """A figure for the report.

    Args:
        name: name of the file without suffix.
        title: heading.
        caption: what is to be seen.
        png: the image.
    """

    name: str
    title: str
    caption: str
    png: bytes


def pictures(comparison: Comparison) -> list[Picture]:
    """Draws all figures of a comparison."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        return list(_pictures(comparison))


def _pictures(comparison: Comparison) -> Iterator[Picture]:
    generated, reference = comparison.generated, comparison.reference
    band = "Shaded bands are statistical errors; a ratio that leaves them by much is a real difference."
    yield Picture(
        "mean_showers",
        "Mean showers",
        "Mean energy per voxel of each layer. Colours and radial scale (square root) are the same in both rows.",
        _png(mean_showers(reference, generated)),
    )
    yield Picture(
        "single_showers",
        "Single showers",
        "One Geant4 shower and one generated shower of the nearest incident energy, not selected.",
        _png(single_showers(reference, generated)),
    )
    groups: dict[str, list[Histogram]] = {}
    for histogram in comparison.histograms:
        name = histogram.binning.observable
        groups.setdefault("energies" if name in (RESPONSE, VOXEL_ENERGY) else name, []).append(histogram)
    titles = {**LABELS, "energies": "Total response and voxel energies"}
    for name in ("energies", RESPONSE_AT_ENERGY, *(n for n in groups if n not in ("energies", RESPONSE_AT_ENERGY))):
        title = titles[name][0].upper() + titles[name][1:]
        members = groups[name]
        shown = [members[i] for i in _spread(len(members), MAX_PANELS)]
        yield Picture(name, title, band, _png(histogram_panels(shown)))


def mean_showers(reference: Summary, generated: Summary) -> Figure:
    """Draws the mean shower in each layer, Geant4 above, generated below."""
    geometry = reference.sample.geometry
    rows = [("Geant4", reference.mean_shower), ("generated", generated.mean_shower)]
    return _polar_rows(rows, geometry, "mean energy per voxel [MeV]")


def single_showers(reference: Summary, generated: Summary, quantiles: Sequence[float] = (0.15, 0.6, 0.97)) -> Figure:
    """Draws pairs of showers at low, medium and high incident energy, Geant4 above, generated below."""
    rows = []
    energies = reference.observables.incident_energies
    for target in np.quantile(energies, quantiles, method="nearest"):
        for name, summary in (("Geant4", reference), ("generated", generated)):
            distance = np.abs(np.log(summary.observables.incident_energies / target))
            shower = summary.sample.shower(int(np.argmin(distance)))
            label = f"{name}\n{format_energy(float(shower.incident_energies[0]))}"
            rows.append((label, shower.voxels[0]))
    return _polar_rows(rows, reference.sample.geometry, "energy per voxel [MeV]")


def histogram_panels(histograms: Sequence[Histogram]) -> Figure:
    """Draws histograms of Geant4 and generated showers with their ratio, one panel each."""
    columns = min(len(histograms), PANEL_COLUMNS)
    rows = -(-len(histograms) // columns)
    width = 4.6 if columns <= 2 else 2.7
    figure = Figure(figsize=(width * columns, 2.9 * rows), layout="constrained")
    heights = [3, 1] * rows
    axes = figure.subplots(2 * rows, columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for panel in range(rows * columns):
        row, column = divmod(panel, columns)
        main, ratio = axes[2 * row, column], axes[2 * row + 1, column]
        if panel >= len(histograms):
            main.remove()
            ratio.remove()
            continue
        _histogram(main, ratio, histograms[panel])
        if column == 0:
            main.set_ylabel("fraction per bin")
            ratio.set_ylabel("ratio")
    handles = [Patch(color=REFERENCE, alpha=0.5, label="Geant4"), Line2D([], [], color=GENERATED, label="generated")]
    figure.legend(handles=handles, loc="outside upper right", ncols=2, handlelength=1.2)
    return figure


def _histogram(main: Axes, ratio: Axes, histogram: Histogram) -> None:
    binning = histogram.binning
    edges = binning.edges
    (p, p_error), (q, q_error) = (_normalised(counts) for counts in (histogram.reference, histogram.generated))
    main.sharex(ratio)
    if binning.unit == "MeV":
        ratio.set_xscale("log")
        main.set_yscale("log")
    ratio.set_xlim(*_core(edges, p + q))
    main.stairs(p, edges, fill=True, color=REFERENCE, alpha=0.3)
    main.stairs(p, edges, color=REFERENCE)
    _band(main, edges, q, q_error, GENERATED)
    main.set_title(
        f"{binning.place or _label(binning)}\nseparation {histogram.separation:.2g} ± {histogram.separation_error:.1g}"
    )
    main.tick_params(labelbottom=False)
    scale = np.where(p > 0, p, np.nan)
    _band(ratio, edges, p / scale, p_error / scale, REFERENCE)
    _band(ratio, edges, q / scale, q_error / scale, GENERATED)
    ratio.set_ylim(0, 2)
    ratio.set_xlabel(_label(binning) + (f" [{binning.unit}]" if binning.unit else ""))


def _band(axes: Axes, edges: Array, values: Array, errors: Array, colour: str) -> None:
    """Draws a histogram with its statistical errors; bins without a value are left out."""
    axes.stairs(values, edges, baseline=None, color=colour, linewidth=1.2)
    low, high = (np.append(bound, bound[-1]) for bound in (values - errors, values + errors))
    axes.fill_between(edges, low, high, step="post", color=colour, alpha=0.25, linewidth=0)


def _label(binning: Binning) -> str:
    return (
        LABELS[binning.observable].replace("E_tot / E_inc", "$E_{tot}\\,/\\,E_{inc}$").removesuffix(" at fixed E_inc")
    )


def _normalised(counts: Array) -> tuple[Array, Array]:
    total = max(counts.sum(), 1)
    return counts / total, np.sqrt(counts) / total


def _core(edges: Array, content: Array) -> tuple[float, float]:
    """Range of the bins that hold all but a thousandth of the content at either side."""
    share = np.cumsum(content) / max(content.sum(), 1e-300)
    first, last = np.searchsorted(share, (TAIL, 1 - TAIL))
    return float(edges[first]), float(edges[min(last + 1, len(edges) - 1)])


def _polar_rows(rows: Sequence[tuple[str, Array]], geometry: Geometry, label: str) -> Figure:
    """Draws showers, one per row, in the layers of the mesh, one per column, on one colour scale."""
    positions = _spread(geometry.n_layers, MAX_LAYERS)
    layers = [(geometry.layers[i], geometry.layer_slices[i]) for i in positions]
    largest = max(float(voxels.max()) for _, voxels in rows) or 1.0
    norm = LogNorm(largest * 10.0**-DECADES, largest)
    figure = Figure(figsize=(1.9 * len(layers) + 1.2, 1.95 * len(rows) + 0.3), layout="constrained")
    grid = figure.subplots(len(rows), len(layers), squeeze=False, subplot_kw={"projection": "polar"})
    for axes_row, (name, voxels) in zip(grid, rows, strict=True):
        for axes, (layer, columns) in zip(axes_row, layers, strict=True):
            mesh = _polar(axes, layer, voxels[columns], norm)
        axes_row[0].text(
            -0.22, 0.5, name, rotation=90, ha="center", va="center", transform=axes_row[0].transAxes, weight="bold"
        )
    for axes, (layer, _) in zip(grid[0], layers, strict=True):
        axes.set_title(f"layer {layer.id}", loc="center")
    for axes, (layer, _) in zip(grid[-1], layers, strict=True):
        axes.set_xlabel(f"r < {layer.r_edges[-1]:g} mm", fontsize=8)
    figure.colorbar(mesh, ax=grid, label=label, extend="min", shrink=0.9 if len(rows) == 2 else 0.5, pad=0.02)
    return figure


def _polar(axes: PolarAxes, layer: Layer, voxels: Array, norm: LogNorm) -> QuadMesh:
    """Draws one layer; the radius goes as its square root, which shows the core and the halo together."""
    radius = np.sqrt(layer.r_edges)
    # a ring is drawn in sections, because a single cell from -pi to pi would have no extent
    sections = max(layer.n_alpha, 180 // layer.n_alpha * layer.n_alpha)
    angle = np.linspace(-np.pi, np.pi, sections + 1)
    energies = np.repeat(voxels.reshape(layer.n_alpha, layer.n_r), sections // layer.n_alpha, axis=0)
    axes.set_facecolor("white")
    mesh = axes.pcolormesh(
        angle, radius, np.ma.masked_less_equal(energies, 0).T, norm=norm, cmap=ENERGY_COLOURS, rasterized=True
    )
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines["polar"].set(color="#c4c7cc", linewidth=0.6)
    return mesh


def _spread(count: int, most: int) -> list[int]:
    """Positions of all items, or of evenly spread ones if there are too many to show."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def panels(histograms: Sequence[Histogram]) -> bytes:
    """Draws histograms as a PNG image, apart from any report."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        return _png(histogram_panels(histograms))
