"""Response, resolution and widths of generated and of Geant4 showers in bins of each condition."""

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloman.evaluation.binnings import energy_windows, format_window
from caloman.evaluation.samples import Sample, common_conditions
from caloman.evaluation.schema import ConditionBin, ConditionBins, Quantity
from caloman.evaluation.summary import Summary
from caloman.showers.conditions import ENERGY, known
from caloman.showers.observables import Observables

Array = NDArray[np.float64]

BINS = 5
LEAST = 10  # fewest showers of a bin


class Window(NamedTuple):
    """Values of a condition from (included) and to (excluded), in words `name`."""

    name: str
    low: float
    high: float

    def holds(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which values (N,) lie in it."""
        return (values >= self.low) & (values < self.high)


def windows(sample: Sample, name: str) -> list[Window]:
    """Equal bins over the range of a condition in a sample; its categories, or windows of the incident energy."""
    condition, values = known(name), sample.column(name).astype(np.float64)
    if condition == ENERGY:
        return [Window(format_window(pair), *pair) for pair in energy_windows(values)]
    if condition.kind == "category":
        return [Window(f"{value:g}", value, value + 1) for value in np.unique(values).tolist()]
    *lower, last = np.linspace(values.min(), values.max(), BINS + 1).tolist()
    unit = f" {condition.unit}" if condition.unit else ""
    pairs = pairwise([*lower, math.nextafter(last, math.inf)])
    return [Window(f"{low:.3g} to {high:.3g}{unit}", low, high) for low, high in pairs]


def profiles(reference: Summary, generated: Summary) -> list[ConditionBins]:
    """The quantities in bins of the energy and of each condition that both samples have."""
    quantities = [_quantities(summary.observables) for summary in (generated, reference)]
    found = []
    for name in (ENERGY.name, *common_conditions([reference.sample, generated.sample])):
        columns = [summary.sample.column(name) for summary in (generated, reference)]
        rows = [(window, [window.holds(values) for values in columns]) for window in windows(reference.sample, name)]
        bins = [_bin(window, inside, quantities) for window, inside in rows if min(map(np.sum, inside)) >= LEAST]
        found.append(ConditionBins(condition=name, bins=bins))
    return found


def _bin(window: Window, rows: list[NDArray[np.bool_]], quantities: list[dict[str, Array]]) -> ConditionBin:
    generated, reference = (_numbers(values, inside) for values, inside in zip(quantities, rows, strict=True))
    compared = {}
    for key, (value, spread) in generated.items():
        truth, uncertainty = reference[key]
        error = math.hypot(spread, uncertainty)
        pull = (value - truth) / error if error else 0.0
        compared[key] = Quantity(generated=[value, spread], reference=[truth, uncertainty], pull=pull)
    counts = [int(inside.sum()) for inside in rows]
    return ConditionBin(bin=window.name, range=[window.low, window.high], showers=counts, quantities=compared)


def _quantities(observables: Observables) -> dict[str, Array]:
    """What is averaged, each of shape (N,); layers count with their energy."""
    o = observables
    total = np.maximum(o.total_energy, 1e-16)
    found = {"response": o.total_energy / o.incident_energies}
    found["depth"] = o.layer_energies @ np.arange(o.layer_energies.shape[1]) / total
    for key in ("width_r", "center_eta", "center_phi"):
        values = getattr(o, key)
        if values.shape == o.layer_energies.shape:  # angles may exist in some layers only
            found[key] = (values * o.layer_energies).sum(axis=1) / total
    return found


def _numbers(quantities: dict[str, Array], inside: NDArray[np.bool_]) -> dict[str, tuple[float, float]]:
    """Means with errors, and the standard deviation of the response over its mean with its error from the kurtosis."""
    found, n = {}, int(inside.sum())
    for key, values in quantities.items():
        mean, spread = (float(part) for part in (values[inside].mean(), values[inside].std()))
        found[key] = (mean, spread / math.sqrt(n - 1))
        if key == "response":
            kurtosis = float(((values[inside] - mean) ** 4).mean()) / (spread**4 or 1)
            resolution = spread / (mean or math.inf)
            found["resolution"] = (resolution, resolution * math.sqrt(max(kurtosis - 1, 0) / (4 * n)))
    return found
