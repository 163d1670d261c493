"""How many showers a mode needs."""

import logging
from collections.abc import Sequence

from caloman.errors import CalomanError
from caloman.evaluation import downstream, equivalent, power
from caloman.evaluation.judge import DEFAULT_MODES, DOWNSTREAM, EQUIVALENT, MODES, MULTICLASS, POWER

LEAST = {EQUIVALENT: equivalent.MIN_SHOWERS, POWER: power.MIN_SHOWERS, DOWNSTREAM: downstream.MIN_SHOWERS}
"""Mode -> fewest showers of every sample and of both parts of the floor, if it needs more."""

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
    impossible = [mode for mode, least in LEAST.items() if smallest < least]
    if modes is None:
        for mode in (mode for mode in impossible if mode in DEFAULT_MODES):
            log.warning("left out: %s", _needs(mode, smallest))
        modes = (*DEFAULT_MODES, MULTICLASS) if n_samples > 1 else DEFAULT_MODES
        return tuple(mode for mode in MODES if mode in modes and mode not in impossible)
    unknown = [mode for mode in modes if mode not in MODES]
    if unknown:
        raise CalomanError(f"unknown mode {unknown[0]!r}: choose of {', '.join(MODES)}")
    if MULTICLASS in modes and n_samples < 2:
        raise CalomanError(f"mode {MULTICLASS!r} compares several samples: give more than one generated file")
    for mode in impossible:
        if mode in modes:
            raise CalomanError(f"{_needs(mode, smallest)}; give more showers or leave the mode out")
    return tuple(mode for mode in MODES if mode in modes)


def _needs(mode: str, smallest: int) -> str:
    return f"mode {mode!r} needs {LEAST[mode]} showers of every sample and of both parts of the floor, not {smallest}"
