"""The numbers of a comparison: what each is called, and which way is better."""

import math
from dataclasses import dataclass
from typing import Literal

from caloman.evaluation.binnings import LABELS

Target = Literal["low", "floor"]

SIGNIFICANCE, CLEAR = 2.0, 5.0  # standard errors beyond which a difference counts, and is clear


@dataclass(frozen=True)
class Measure:
    """A number that tells two samples apart.

    It is best if ``low``, or if it is that of Geant4 against Geant4, the ``floor``. For N and M showers of one
    distribution it goes with this power of 1/N + 1/M.
    """

    label: str
    target: Target = "low"
    power: float = 0.0


CLASSIFIERS = {
    "low": "low-level classifier",
    "low_normed": "low-level classifier within layers",
    "high": "high-level classifier",
    "trees": "boosted-tree classifier",
    "resnet": "3-D ResNet",
}
"""Key of a classifier -> its name."""

MISTAKEN = (1, 3, 10, 30)
"""Shares of single photons that are taken for pairs [%], at which the pairs that are found are counted."""

MEASURES = {
    **{f"auc_{key}": Measure(f"AUC, {name}") for key, name in CLASSIFIERS.items()},
    **{f"jsd_{key}": Measure(f"JSD, {name}") for key, name in CLASSIFIERS.items()},
    **{f"separation_{name}": Measure(f"separation, {label}", power=1) for name, label in LABELS.items()},
    "layer_correlations": Measure("correlations of layer energies", power=0.5),
    "fpd": Measure("FPD × 10³", power=1),  # noqa: RUF001
    "kpd": Measure("KPD × 10³", power=1),  # noqa: RUF001
    "precision": Measure("precision", "floor"),
    "recall": Measure("recall", "floor"),
    "density": Measure("density", "floor"),
    "coverage": Measure("coverage", "floor"),
    "ks_mean": Measure("KS p-value, mean over observables", "floor"),
    "ks_median": Measure("KS p-value, median over observables", "floor"),
    "anderson_darling": Measure("Anderson-Darling statistic"),
    "wasserstein": Measure("Wasserstein distance, mean over observables", power=0.5),
    "sliced_wasserstein": Measure("sliced Wasserstein distance", power=0.5),
    "correlations": Measure("correlations of observables", power=0.5),
    "calibration_bias": Measure("bias of a calibration [%]", "floor"),
    "calibration_linearity": Measure("nonlinearity of a calibration [%]"),
    "calibration_resolution": Measure("resolution of a calibration [%]"),
    "overlap_auc": Measure("AUC, one photon or two", "floor"),
    **{f"overlap_found_{p}": Measure(f"pairs found with {p} % of single ones mistaken [%]", "floor") for p in MISTAKEN},
    "overlap_fraction": Measure("fraction of pairs found where there are none [%]", "floor"),
    "overlap_limit": Measure("upper limit on the fraction of pairs [%]", "floor"),
}
"""Key in metrics.json -> what it is."""


@dataclass(frozen=True)
class Measured:
    """A number of an evaluation, and the floor: the same of Geant4 against Geant4 at the same number of showers."""

    value: float
    error: float
    floor: float
    floor_error: float
    target: Target

    @property
    def discrepancy(self) -> float:
        """Smaller is better."""
        return abs(self.value - self.floor) if self.target == "floor" else self.value

    @property
    def excess(self) -> float:
        """Distance from the floor on its worse side, in standard errors."""
        distance = self.discrepancy - (self.floor if self.target == "low" else 0.0)
        return distance / max(math.hypot(self.error, self.floor_error), 1e-12)

    @property
    def at_floor(self) -> bool:
        """Whether Geant4 is not better beyond the errors."""
        return self.excess <= SIGNIFICANCE

    @property
    def words(self) -> str:
        if self.at_floor:
            return "indistinguishable at this sample size"
        return "worse than Geant4" if self.excess <= CLEAR else "clearly worse than Geant4"

    def __str__(self) -> str:
        return number(self.value, self.error)


def number(value: float, error: float) -> str:
    """Writes a number with as many decimals as its error has a meaning, at least three."""
    decimals = min(max(-math.floor(math.log10(error)), 3), 6) if error > 0 else 3
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"
