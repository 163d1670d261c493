"""Observables of showers and their bins, those of the CaloChallenge.

References:
    Krause et al., CaloChallenge 2022 (arXiv:2410.21611), and its evaluation code.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from caloman.evaluation.samples import distinct_values
from caloman.evaluation.summary import Summary, log_edges
from caloman.showers.geometry import BUILT_IN, Geometry, Layer
from caloman.showers.observables import Observables

Array = NDArray[np.float64]
Window = tuple[float, float]  # incident energies from (included) and to (excluded) [MeV]

RESPONSE, RESPONSE_AT_ENERGY, VOXEL_ENERGY = "response", "response_at_energy", "voxel_energy"
LABELS = {
    RESPONSE: "E_tot / E_inc",
    RESPONSE_AT_ENERGY: "E_tot / E_inc at fixed E_inc",
    "layer_energies": "layer energy",
    "sparsity": "sparsity",
    "center_r": "center in r",
    "width_r": "width in r",
    "center_eta": "center in η",
    "center_phi": "center in φ",
    "width_eta": "width in η",
    "width_phi": "width in φ",
    VOXEL_ENERGY: "voxel energy",
}
MOMENTS = ("center_r", "width_r", "center_eta", "center_phi", "width_eta", "width_phi")
RANGES = {
    "electromagnetic": (500.0, 500.0, 100.0, 100.0, 100.0, 100.0),
    "hadronic": (1500.0, 1500.0, 500.0, 500.0, 400.0, 400.0),
    "regular": (42.0, 20.0, 30.0, 30.0, 30.0, 30.0),
    "relative": (1.0, 0.5, 0.75, 0.75, 0.75, 0.75),
}
"""Upper ends of the bins of `MOMENTS` [mm]: of datasets 1, of 2 and 3, and over the outer radius of others."""
N_ENERGY_WINDOWS = 6
ENERGY_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Binning:
    """Which numbers go into a histogram, and its edges.

    Args:
        observable: a field of `Observables`, or ``response`` (E_tot/E_inc), ``response_at_energy``, ``voxel_energy``.
        edges: bin edges, shape (B + 1,); the last bin is closed.
        unit: unit of the edges.
        layer: id of the layer, if the observable has one.
        column: column of the observable that belongs to the layer.
        window: incident energies, if restricted.
    """

    observable: str
    edges: Array
    unit: str = ""
    layer: int | None = None
    column: int = 0
    window: Window | None = None

    @property
    def place(self) -> str:
        """Layer or incident energy in words; empty if it has neither."""
        if self.layer is not None:
            return f"layer {self.layer}"
        return format_window(self.window) if self.window else ""

    @property
    def title(self) -> str:
        return ", ".join(filter(None, (LABELS[self.observable], self.place)))

    def values(self, observables: Observables) -> Array:
        """Returns the numbers to be histogrammed, shape (N,) or fewer with a window."""
        if self.layer is not None:
            return getattr(observables, self.observable)[:, self.column]
        chosen = observables if self.window is None else observables[within(self.window, observables)]
        return chosen.total_energy / chosen.incident_energies


def within(window: Window, observables: Observables) -> NDArray[np.bool_]:
    """Which showers are in a window of the incident energy, shape (N,)."""
    return (observables.incident_energies >= window[0]) & (observables.incident_energies < window[1])


def format_energy(energy: float) -> str:
    """Writes an energy [MeV] with a suitable unit."""
    for unit, size in (("TeV", 1e6), ("GeV", 1e3)):
        if energy >= size:
            return f"{energy / size:.3g} {unit}"
    return f"{energy:.3g} MeV"


def format_window(window: Window) -> str:
    """Writes a range of energies [MeV], or one energy if the range is that of a discrete spectrum."""
    low, high = window
    if high / low < (1 + ENERGY_TOLERANCE) ** 3:
        return format_energy((low + high) / 2)
    return f"{format_energy(low)} to {format_energy(high)}"


def energy_windows(energies: Array) -> list[Window]:
    """Windows around each incident energy that occurs, or six of equal ratio if the spectrum is continuous."""
    values = distinct_values(energies)
    if values is None:
        bounds = np.geomspace(energies.min(), energies.max() * (1 + 1e-6), N_ENERGY_WINDOWS + 1).tolist()
        return list(pairwise(bounds))
    return [(float(value) * (1 - ENERGY_TOLERANCE), float(value) * (1 + ENERGY_TOLERANCE)) for value in values]


def challenge_binnings(reference: Summary, geometry: Geometry) -> list[Binning]:
    """Returns the official bins; some of them reach up to the maximum of the reference.

    A mesh that is not of the CaloChallenge gets ranges in the same proportion to the outer radius of its layers, and
    for E_tot/E_inc that of the reference, whose deposits may lack a calibration.
    """
    response = reference.observables.total_energy / reference.observables.incident_energies
    return [
        Binning(RESPONSE, np.linspace(0.5, 1.5, 101) if _is_official(geometry) else _core_range(response, 100)),
        *_response_windows(reference.observables, geometry),
        *_layer_binnings(reference.observables, geometry),
        Binning(VOXEL_ENERGY, reference.spectrum_edges, "MeV"),
    ]


def _layer_binnings(reference: Observables, geometry: Geometry) -> Iterator[Binning]:
    for column, layer in enumerate(geometry.layers):
        edges = log_edges(geometry.threshold, float(reference.layer_energies[:, column].max()), 39)
        yield Binning("layer_energies", edges, "MeV", layer.id, column)
    for column, layer in enumerate(geometry.layers):
        yield Binning("sparsity", np.linspace(0, 1, 21), "", layer.id, column)
    for position, observable in enumerate(MOMENTS):
        layers = [layer for layer in geometry.layers if layer.n_alpha > 1 or observable.endswith("_r")]
        for column, layer in enumerate(layers):
            upper = _ranges(layer, geometry)[position]
            lower = -upper if observable in ("center_eta", "center_phi") else 0.0
            yield Binning(observable, np.linspace(lower, upper, 101), "mm", layer.id, column)


def _ranges(layer: Layer, geometry: Geometry) -> tuple[float, ...]:
    if not _is_official(geometry):
        return tuple(upper * layer.r_edges[-1] for upper in RANGES["relative"])
    if geometry.name in ("2", "3"):
        return RANGES["regular"]
    return RANGES["hadronic" if layer.id >= 12 else "electromagnetic"]


def _is_official(geometry: Geometry) -> bool:
    return BUILT_IN.get(geometry.name) == geometry


def _response_windows(reference: Observables, geometry: Geometry) -> Iterator[Binning]:
    """E_tot/E_inc in windows of the incident energy that the reference populates."""
    official = distinct_values(reference.incident_energies) is not None and geometry.name in ("1-photons", "1-pions")
    for window in energy_windows(reference.incident_energies):
        inside = reference[within(window, reference)]
        if len(inside):
            narrow = geometry.name == "1-photons" and window[1] > 4096
            edges = np.linspace(0.9, 1.1, 21) if narrow else np.linspace(0.4, 1.4, 21)
            own = _core_range(inside.total_energy / inside.incident_energies)
            yield Binning(RESPONSE_AT_ENERGY, edges if official else own, window=window)


def _core_range(response: Array, bins: int = 20) -> Array:
    """Bins over four standard deviations to either side."""
    mean = float(response.mean())
    half_width = max(4 * float(response.std()), 0.01 * (mean or 1.0))
    return np.linspace(mean - half_width, mean + half_width, bins + 1)
