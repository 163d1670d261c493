"""What can be measured, and how many showers it needs."""

import logging
from collections.abc import Sequence

from caloman.errors import CalomanError
from caloman.evaluation import downstream, equivalent, measures, pairs, power

TREES, MULTICLASS = "cls-trees", "cls-multi"
CLASSIFIERS = {f"cls-{key.replace('_', '-')}": key for key in measures.CLASSIFIERS}
"""Mode -> key of the classifier, as in ``auc_low``."""
DISTANCES = {"fpd": "FPD", "kpd": "KPD", "prdc": "neighbors", "tests": "two-sample tests"}
"""Mode -> what it measures, in words."""
EQUIVALENT, POWER, READING, DOWNSTREAM = "equivalent", "power", "reading", "downstream"
MODES = ("hist", *CLASSIFIERS, MULTICLASS, *DISTANCES, EQUIVALENT, POWER, READING, DOWNSTREAM)
DEFAULT_MODES = ("hist", "cls-low", "cls-high", TREES, *DISTANCES, EQUIVALENT, POWER, READING)
LEAST = {
    **dict.fromkeys(DISTANCES, pairs.MIN_POINTS),
    **{EQUIVALENT: equivalent.MIN_SHOWERS, POWER: power.MIN_SHOWERS, DOWNSTREAM: downstream.MIN_SHOWERS},
}
"""Mode -> fewest showers of every sample and of both parts of the floor, if it needs more than the others."""

log = logging.getLogger(__name__)


def check_modes(modes: Sequence[str] | None, n_samples: int, smallest: int) -> tuple[str, ...]:
    """Returns the modes in their usual order, or the default ones that are possible.

    Args:
        modes: what was asked for.
        n_samples: number of generated samples.
        smallest: number of showers of the smallest sample, or part of the floor.

    Raises:
        CalomanError: if there is no such mode, or too few samples or showers for one.
    """
    lacking = {
        mode: f"mode {mode!r} needs {least} showers of every sample and of both parts of the floor, not {smallest}"
        for mode, least in LEAST.items()
        if smallest < least
    }
    if modes is None:
        for mode in (mode for mode in lacking if mode in DEFAULT_MODES):
            log.warning("left out: %s", lacking[mode])
        possible = (*DEFAULT_MODES, MULTICLASS) if n_samples > 1 else DEFAULT_MODES
        modes = [mode for mode in possible if mode not in lacking]
    for mode in modes:
        if mode not in MODES:
            raise CalomanError(f"unknown mode {mode!r}: choose of {', '.join(MODES)}")
        if mode in lacking:
            raise CalomanError(f"{lacking[mode]}; give more showers or leave the mode out")
    if MULTICLASS in modes and n_samples < 2:
        raise CalomanError(f"mode {MULTICLASS!r} compares several samples: give more than one generated file")
    return tuple(mode for mode in MODES if mode in modes)
