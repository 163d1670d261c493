"""The published results of the CaloChallenge, and where a sample would stand among them.

``leaderboard.json`` holds the final results of all submissions and of Geant4 itself, with their source; errors are
standard deviations of ten trainings (AUC, log-posterior) or runs (times), or of a fit (FPD) or batches (KPD).

References:
    Krause et al., CaloChallenge 2022 (arXiv:2410.21611) and its digital appendix.
"""

import json
import math
from collections.abc import Collection, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from caloman.evaluation.measures import MEASURES

GEANT4 = "Geant4"


class Value(NamedTuple):
    """A published number with its error, if one was published."""

    value: float
    error: float | None = None


class Entry(NamedTuple):
    """A submission, or Geant4 itself, on one dataset.

    `metrics` has numbers by key of `METRICS`; FPD and KPD are times 1000 as in the published tables, separation powers
    are means over layers. `time_ms` has times for a shower by device and batch size, such as ``GPU 100``.
    """

    name: str
    metrics: Mapping[str, Value]
    time_ms: Mapping[str, Value]


PUBLISHED = (
    *("auc_low", "auc_high", "auc_resnet", "fpd", "kpd", "precision", "recall", "density", "coverage"),
    *("separation_layer_energies", "separation_response", "separation_voxel_energy"),
    *("separation_center_eta", "separation_center_phi", "separation_center_r"),
    *("separation_width_eta", "separation_width_phi", "separation_width_r"),
    *("separation_sparsity", "layer_correlations"),
)
"""Measures that were published, in the order of the tables."""
METRICS = {
    **{metric: (MEASURES[metric].label, MEASURES[metric].target) for metric in PUBLISHED},
    "log_posterior": ("log-posterior", "high"),
    "log_posterior_resnet": ("log-posterior, 3-D ResNet", "high"),
}
"""Name of each metric, and what is better in it, ``low``, ``high``, or near Geant4, the ``floor``."""


def entries(dataset: str) -> list[Entry]:
    """All entries of a dataset, Geant4 first; none if it is not one of the challenge."""
    published = _content()["datasets"].get(dataset, {"entries": []})["entries"]
    return [
        Entry(entry["name"], *({key: Value(*v) for key, v in entry[part].items()} for part in ("metrics", "time_ms")))
        for entry in published
    ]


def standings(dataset: str, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    """Where a sample would stand in every metric that was published for the dataset.

    A rank of 1 is the best; there is None where no submission is better or worse, or Geant4 has no value. Values that
    are not finite or were not published are left out.
    """
    found = []
    for metric in METRICS:
        values = {entry.name: entry.metrics[metric].value for entry in entries(dataset) if metric in entry.metrics}
        if values and math.isfinite(metrics.get(metric, math.nan)):
            found.append(_standing(metric, metrics[metric], values.pop(GEANT4, None), values))
    return found


def why_not_comparable(
    dataset: str, n_generated: int, n_reference: int, preset: str, reference_md5: Collection[str]
) -> list[str]:
    """Says, in one sentence each, why numbers may not be compared with the published ones; nothing if they may."""
    if dataset not in _content()["datasets"]:
        return [f"{dataset!r} is not a dataset of the CaloChallenge."]
    official = _content()["datasets"][dataset]
    reasons = []
    if set(reference_md5) != set(official["reference"].values()):
        reasons.append(f"The reference is not the challenge's {' and '.join(official['reference'])}, byte for byte.")
    if (n_generated, n_reference) != (official["showers"], official["showers"]):
        reasons.append(
            f"{n_generated} generated and {n_reference} reference showers were compared instead of "
            f"{official['showers']} each, on which classifiers, FPD and coverage depend."
        )
    if preset != "official":
        reasons.append(
            f"The preset {preset!r} is not the protocol of the challenge, in which larger classifiers learn from more "
            "showers and their scores are recalibrated."
        )
    return reasons


def _standing(metric: str, value: float, geant4: float | None, values: Mapping[str, float]) -> dict[str, Any]:
    label, better = METRICS[metric]

    def discrepancy(candidate: float) -> float:
        if better == "floor" and geant4 is not None:  # which was published for every dataset
            return abs(candidate - geant4)
        return candidate if better == "low" else -candidate

    ranked = sorted(values, key=lambda name: discrepancy(values[name]))
    n_better = sum(discrepancy(other) < discrepancy(value) for other in values.values())
    above, below = ranked[:n_better], ranked[n_better:]
    return {
        "metric": metric,
        "label": label,
        "value": value,
        "rank": n_better + 1,
        "of": len(ranked) + 1,
        "better": {"name": above[-1], "value": values[above[-1]]} if above else None,
        "worse": {"name": below[0], "value": values[below[0]]} if below else None,
        "geant4": geant4,
    }


@cache
def _content() -> Any:  # noqa: ANN401, the tests check what is in the file
    return json.loads(files("caloman.evaluation").joinpath("leaderboard.json").read_text(encoding="utf-8"))
