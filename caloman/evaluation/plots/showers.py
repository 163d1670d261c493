"""Showers in polar view, layer by layer."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes
from numpy.typing import NDArray

from caloman.evaluation.binnings import format_energy
from caloman.evaluation.conditions import windows
from caloman.evaluation.summary import Summary
from caloman.showers.geometry import Geometry, Layer

Array = NDArray[np.floating]

COLORS = "viridis"
DECADES = 5
MAX_LAYERS = 7


def mean_showers(samples: Mapping[str, Summary]) -> Figure:
    """Draws the mean shower of each sample in each layer, one row per sample."""
    geometry = next(iter(samples.values())).sample.geometry
    rows = [(name, summary.mean_shower) for name, summary in samples.items()]
    return polar_rows(rows, geometry, "mean energy per voxel [MeV]")


def mean_showers_by(samples: Mapping[str, Summary], condition: str) -> Figure:
    """Draws the mean shower of each sample at small, medium and large values of a condition."""
    bins = windows(next(iter(samples.values())).sample, condition)
    chosen = [bins[i] for i in evenly_spaced(len(bins), 3)]
    means = {}
    for name, summary in samples.items():
        values = summary.sample.column(condition)
        means[name] = summary.sample.mean_showers(np.stack([window.holds(values) for window in chosen]))
    rows = [(f"{name}\n{window.name}", means[name][i]) for i, window in enumerate(chosen) for name in samples]
    return polar_rows(rows, next(iter(samples.values())).sample.geometry, "mean energy per voxel [MeV]")


def single_showers(samples: Mapping[str, Summary], quantiles: Sequence[float] = (0.15, 0.6, 0.97)) -> Figure:
    """Draws one shower of each sample at low, medium and high incident energy, as the first sample has them."""
    reference = next(iter(samples.values()))
    rows = []
    for target in np.quantile(reference.observables.incident_energies, quantiles, method="nearest"):
        for name, summary in samples.items():
            distance = np.abs(np.log(summary.observables.incident_energies / target))
            shower = summary.sample.shower(int(np.argmin(distance)))
            rows.append((f"{name}\n{format_energy(float(shower.incident_energies[0]))}", shower.voxels[0]))
    return polar_rows(rows, reference.sample.geometry, "energy per voxel [MeV]")


def evenly_spaced(count: int, most: int) -> list[int]:
    """Positions of all items, or of evenly spread ones if there are too many to show."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def polar_rows(rows: Sequence[tuple[str, Array]], geometry: Geometry, label: str) -> Figure:
    """Draws showers, one per row, in the layers of the mesh, one per column, on one color scale."""
    positions = evenly_spaced(geometry.n_layers, MAX_LAYERS)
    layers = [(geometry.layers[i], geometry.layer_slices[i]) for i in positions]
    largest = max(float(voxels.max()) for _, voxels in rows) or 1.0
    norm = LogNorm(largest * 10.0**-DECADES, largest)
    figure = Figure(figsize=(1.9 * len(layers) + 1.2, 1.95 * len(rows) + 0.3), layout="constrained")
    grid = figure.subplots(len(rows), len(layers), squeeze=False, subplot_kw={"projection": "polar"})
    for axes_row, (name, voxels) in zip(grid, rows, strict=True):
        for axes, (layer, columns) in zip(axes_row, layers, strict=True):
            mesh = polar(axes, layer, voxels[columns], norm)
        axes_row[0].text(
            -0.22, 0.5, name, rotation=90, ha="center", va="center", transform=axes_row[0].transAxes, weight="bold"
        )
    for axes, (layer, _) in zip(grid[0], layers, strict=True):
        axes.set_title(f"layer {layer.id}", loc="center")
    for axes, (layer, _) in zip(grid[-1], layers, strict=True):
        axes.set_xlabel(f"r < {layer.r_edges[-1]:g} mm", fontsize=8)
    figure.colorbar(mesh, ax=grid, label=label, extend="min", shrink=0.9 if len(rows) == 2 else 0.5, pad=0.02)
    return figure


def polar(axes: PolarAxes, layer: Layer, voxels: Array, norm: LogNorm) -> QuadMesh:
    """Draws one layer; the radius goes as its square root, which shows the core and the halo together."""
    radius = np.sqrt(layer.r_edges)
    # a ring is drawn in sections, because a single cell from -pi to pi would have no extent
    sections = max(layer.n_alpha, 180 // layer.n_alpha * layer.n_alpha)
    angle = np.linspace(-np.pi, np.pi, sections + 1)
    energies = np.repeat(voxels.reshape(layer.n_alpha, layer.n_r), sections // layer.n_alpha, axis=0)
    axes.set_facecolor("white")
    mesh = axes.pcolormesh(
        angle, radius, np.ma.masked_less_equal(energies, 0).T, norm=norm, cmap=COLORS, rasterized=True
    )
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines["polar"].set(color="#c4c7cc", linewidth=0.6)
    return mesh
