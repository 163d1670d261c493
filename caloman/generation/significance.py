"""How much a cut on an anomaly score improves the significance of anomalous showers among usual ones.

References:
    Aarrestad et al., Dark Machines anomaly score challenge (arXiv:2105.14027).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import mannwhitneyu
from tabulate import tabulate

WORKING_POINTS = (1e-2, 1e-3, 1e-4)  # fractions of usual showers that pass the cut
MIN_PASSING = 5  # usual showers that must pass for a working point to count


def significance_improvements(usual: ArrayLike, anomalous: ArrayLike) -> dict[float, tuple[float, float]]:
    """Significance improvement eps_S / sqrt(eps_B), with its error, at each working point eps_B that has the showers.

    Scores of `usual` (N,) and `anomalous` (M,) showers grow with how unusual a shower is. The largest improvement is
    the Max SI.
    """
    background, signal = np.sort(np.asarray(usual))[::-1], np.asarray(anomalous)
    result: dict[float, tuple[float, float]] = {}
    for fraction in WORKING_POINTS:
        n_passing = round(fraction * len(background))
        if n_passing >= MIN_PASSING:
            n_found = int(np.count_nonzero(signal > background[n_passing]))
            one = 1 / (len(signal) * math.sqrt(n_passing / len(background)))  # of one anomaly that passes
            # both numbers fluctuate, that of usual showers under a root; no anomaly found is uncertain by one
            variance = 1 / (4 * n_passing) + (1 - n_found / len(signal)) / max(1, n_found)
            result[fraction] = n_found * one, max(1, n_found) * one * math.sqrt(variance)
    return result


@dataclass(frozen=True)
class Significances:
    """A table of what each score tells about anomalies, from the name of each score and its values, shape (N,)."""

    usual: Mapping[str, ArrayLike]
    anomalous: Mapping[str, ArrayLike]

    def __str__(self) -> str:
        lines: list[Sequence[str]] = [["score", "AUC", *(f"SI at {f:g}" for f in WORKING_POINTS), "Max SI"]]
        for name, usual in self.usual.items():
            anomalous = np.asarray(self.anomalous[name])
            auc = mannwhitneyu(anomalous, usual).statistic / (len(anomalous) * np.size(usual))
            points = significance_improvements(usual, anomalous)
            words = [f"{points[f][0]:.2f} ± {points[f][1]:.2f}" if f in points else "-" for f in WORKING_POINTS]
            best = max((value for value, _ in points.values()), default=math.nan)
            lines.append([name, f"{auc:.3f}", *words, f"{best:.2f}"])
        return tabulate(lines[1:], lines[0], "github", disable_numparse=True)
