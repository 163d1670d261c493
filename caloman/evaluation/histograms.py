"""Histograms of shower observables in the bins of the CaloChallenge, and the separation power between two of them.

References:
    Krause et al., CaloChallenge 2022 (arXiv:2410.21611), and its evaluation code.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from caloman.evaluation.samples import distinct_values
from caloman.evaluation.summary import Summary, log_edges
from caloman.showers.geometry import BUILT_IN, Geometry, Layer
from caloman.showers.observables import Observables

Array = NDArray[np.float64]

RESPONSE = "response"
RESPONSE_AT_ENERGY = "response_at_energy"
VOXEL_ENERGY = "voxel_energy"
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
ANGULAR = ("center_eta", "center_phi", "width_eta", "width_phi")
RANGES = {
    "electromagnetic": {"center_angular": 100.0, "width_angular": 100.0, "center_r": 500.0, "width_r": 500.0},
    "hadronic": {"center_angular": 500.0, "width_angular": 400.0, "center_r": 1500.0, "width_r": 1500.0},
    "regular": {"center_angular": 30.0, "width_angular": 30.0, "center_r": 42.0, "width_r": 20.0},
    "relative": {"center_angular": 0.75, "width_angular": 0.75, "center_r": 1.0, "width_r": 0.5},
}
"""Upper ends of the bins of centers and widths [mm]: of datasets 1, of 2 and 3, and over the outer radius of others."""
N_BOOTSTRAP = 100
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
        window: incident energies from (included) and to (excluded) [MeV], if restricted.
    """

    observable: str
    edges: Array
    unit: str = ""
    layer: int | None = None
    column: int = 0
    window: tuple[float, float] | None = None

    @property
    def place(self) -> str:
        """Layer or incident energy in words; empty if it has neither."""
        if self.layer is not None:
            return f"layer {self.layer}"
        if self.window is None:
            return ""
        return format_window(self.window)

    @property
    def title(self) -> str:
        """Observable and place in words."""
        return ", ".join(filter(None, (LABELS[self.observable], self.place)))

    def values(self, observables: Observables) -> Array:
        """Returns the numbers to be histogrammed, shape (N,) or fewer with a window."""
        if self.layer is not None:
            return getattr(observables, self.observable)[:, self.column]
        energies = observables.incident_energies
        response = observables.total_energy / energies
        if self.window is None:
            return response
        return response[(energies >= self.window[0]) & (energies < self.window[1])]

    def counts(self, summary: Summary) -> tuple[Array, Array | None, int]:
        """Returns the entries per bin, shape (B,), the same for groups of showers, shape (G, B), if a shower has
        several entries, and the number of entries outside the edges.
        """
        if self.observable == VOXEL_ENERGY:
            spectrum = summary.spectrum
            return spectrum.sum(axis=0), spectrum, summary.occupied - int(spectrum.sum())
        values = self.values(summary.observables)
        counts = np.histogram(values, self.edges)[0].astype(np.float64)
        return counts, None, len(values) - int(counts.sum())


@dataclass(frozen=True)
class Histogram:
    """One observable of the reference and of the generated showers in the same bins.

    Args:
        binning: observable and edges.
        reference: entries per bin, shape (B,).
        generated: entries per bin, shape (B,).
        outside: entries outside the edges, of the reference and of the generated showers.
        groups: if showers have several entries, which are not independent: the entries per bin of groups of showers,
            of the reference and of the generated ones, each of shape (G, B).
    """

    binning: Binning
    reference: Array
    generated: Array
    outside: tuple[int, int]
    groups: tuple[Array, Array] | None = None

    @cached_property
    def separation(self) -> float:
        """Separation power between the two, from 0 (equal) to 1 (disjoint)."""
        return float(separation(self.reference, self.generated))

    @cached_property
    def separation_error(self) -> float:
        """Statistical error of the separation power: its standard deviation over bootstrap samples of the showers."""
        rng = np.random.default_rng(0)
        if self.groups is None:
            resampled = [_resampled(counts, rng) for counts in (self.reference, self.generated)]
        else:
            resampled = [_resampled(np.ones(len(groups)), rng) @ groups for groups in self.groups]
        return float(separation(*resampled).std())

    def fractions(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Fraction of the entries in each bin and its error, of both samples in order, each of shape (B,)."""
        reference, generated = self.groups or (None, None)
        return _fractions(self.reference, reference), _fractions(self.generated, generated)

    def size_factor(self, factor: float) -> float:
        """What the separation power of equal distributions is multiplied with if 1/N + 1/M is, with `factor`.

        A bin with any entry adds (1/N + 1/M) / 4 on average: with p = q, (p - q)^2 / (p + q) / 2 has this mean. More
        showers also reach more bins: by as much for each factor of 2 as both samples together reach more than each.
        """
        occupied = [np.count_nonzero(counts) for counts in (self.reference, self.generated)]
        both = np.count_nonzero(self.reference + self.generated)
        growth = both / np.mean(occupied) if both else 1.0
        return factor * float(growth) ** -math.log2(factor)

    @property
    def outside_fractions(self) -> tuple[float, float]:
        """Fraction of entries outside the edges, of the reference and of the generated showers."""
        (lost, lost_too), kept, kept_too = self.outside, self.reference.sum(), self.generated.sum()
        return float(lost / max(lost + kept, 1)), float(lost_too / max(lost_too + kept_too, 1))


def separation(reference: Array, generated: Array) -> Array:
    """Separation power (triangular discrimination) of histograms, each normalized over its bins.

    A histogram without entries is disjoint from any other (1), and equal to another empty one (0).

    Args:
        reference: entries per bin, shape (..., B).
        generated: entries per bin, shape (..., B).
    """
    p, q = (counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1) for counts in (reference, generated))
    distance = 0.5 * np.sum((p - q) ** 2 / (p + q + 1e-16), axis=-1)
    one_empty = reference.any(axis=-1) ^ generated.any(axis=-1)
    return np.where(one_empty, 1.0, distance)


def format_energy(energy: float) -> str:
    """Writes an energy [MeV] with a suitable unit."""
    for unit, size in (("TeV", 1e6), ("GeV", 1e3)):
        if energy >= size:
            return f"{energy / size:.3g} {unit}"
    return f"{energy:.3g} MeV"


def format_window(window: tuple[float, float]) -> str:
    """Writes a range of energies [MeV], or one energy if the range is that of a discrete spectrum."""
    low, high = window
    if high / low < (1 + ENERGY_TOLERANCE) ** 3:
        return format_energy((low + high) / 2)
    return f"{format_energy(low)} to {format_energy(high)}"


def fill_histograms(binnings: Sequence[Binning], reference: Summary, generated: Summary) -> list[Histogram]:
    """Fills the histograms of two samples."""
    histograms = []
    for binning in binnings:
        (first, own, lost), (second, other, lost_too) = (binning.counts(summary) for summary in (reference, generated))
        groups = None if own is None or other is None else (own, other)
        histograms.append(Histogram(binning, first, second, (lost, lost_too), groups))
    return histograms


def by_observable(histograms: Sequence[Histogram]) -> dict[str, list[int]]:
    """Positions of the histograms of each observable, over layers or energies, in order."""
    groups: dict[str, list[int]] = {}
    for position, histogram in enumerate(histograms):
        groups.setdefault(histogram.binning.observable, []).append(position)
    return groups


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
    for observable in ("center_r", "width_r", *ANGULAR):
        layers = [layer for layer in geometry.layers if layer.n_alpha > 1 or observable not in ANGULAR]
        for column, layer in enumerate(layers):
            edges = np.linspace(*_moment_range(observable, layer, geometry), 101)
            yield Binning(observable, edges, "mm", layer.id, column)


def _moment_range(observable: str, layer: Layer, geometry: Geometry) -> tuple[float, float]:
    """Range of a center or width [mm]."""
    kind = observable if observable.endswith("_r") else f"{observable.split('_')[0]}_angular"
    if not _is_official(geometry):
        upper = RANGES["relative"][kind] * layer.r_edges[-1]
    elif geometry.name in ("2", "3"):
        upper = RANGES["regular"][kind]
    else:
        upper = RANGES["hadronic" if layer.id >= 12 else "electromagnetic"][kind]
    return (-upper if kind == "center_angular" else 0.0), upper


def _is_official(geometry: Geometry) -> bool:
    return BUILT_IN.get(geometry.name) == geometry


def _response_windows(reference: Observables, geometry: Geometry) -> Iterator[Binning]:
    """E_tot/E_inc in windows of the incident energy that the reference populates."""
    energies = reference.incident_energies
    official = distinct_values(energies) is not None and geometry.name in ("1-photons", "1-pions")
    for window in energy_windows(energies):
        inside = (energies >= window[0]) & (energies < window[1])
        if inside.any():
            response = reference.total_energy[inside] / energies[inside]
            edges = _official_response(window, geometry) if official else _core_range(response)
            yield Binning(RESPONSE_AT_ENERGY, edges, window=window)


def energy_windows(energies: Array) -> list[tuple[float, float]]:
    """Windows of the incident energy, from (included) and to (excluded) [MeV]: around each energy that occurs, or six
    of equal ratio if the spectrum is continuous.
    """
    values = distinct_values(energies)
    if values is None:
        bounds = np.geomspace(energies.min(), energies.max() * (1 + 1e-6), N_ENERGY_WINDOWS + 1).tolist()
        return list(pairwise(bounds))
    return [(float(value) * (1 - ENERGY_TOLERANCE), float(value) * (1 + ENERGY_TOLERANCE)) for value in values]


def _official_response(window: tuple[float, float], geometry: Geometry) -> Array:
    narrow = geometry.name == "1-photons" and window[1] > 4096
    return np.linspace(0.9, 1.1, 21) if narrow else np.linspace(0.4, 1.4, 21)


def _core_range(response: Array, bins: int = 20) -> Array:
    """Bins over four standard deviations to either side."""
    mean = float(response.mean())
    half_width = max(4 * float(response.std()), 0.01 * (mean or 1.0))
    return np.linspace(mean - half_width, mean + half_width, bins + 1)


def _resampled(counts: Array, rng: np.random.Generator) -> Array:
    """Multinomial bootstrap samples of a histogram, shape (N_BOOTSTRAP, B)."""
    total = int(counts.sum())
    return rng.multinomial(total, counts / max(total, 1), size=N_BOOTSTRAP).astype(np.float64)


def _fractions(counts: Array, groups: Array | None) -> tuple[Array, Array]:
    """Fractions of the entries and their errors, from the groups of showers (G, B) if entries depend on one another."""
    total = max(counts.sum(), 1)
    fractions = counts / total
    if groups is None:
        return fractions, np.sqrt(counts) / total
    deviations = groups - fractions * groups.sum(axis=1, keepdims=True)
    return fractions, np.sqrt(np.square(deviations).sum(axis=0) * len(groups) / max(len(groups) - 1, 1)) / total
