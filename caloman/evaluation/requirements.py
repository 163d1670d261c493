"""What files and modes must have before anything is compared."""

import logging
from collections.abc import Sequence

import numpy as np

from caloman.errors import CalomanError
from caloman.evaluation import downstream, equivalent, power
from caloman.evaluation.judge import DEFAULT_MODES, DOWNSTREAM, EQUIVALENT, MODES, MULTICLASS, POWER
from caloman.evaluation.samples import Sample, distinct_energies

MIN_SHOWERS = 20
"""Fewest showers of a sample for any mode."""
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


def enough(sample: Sample) -> Sample:
    """Returns the sample.

    Raises:
        CalomanError: if it has too few showers for any mode.
    """
    if len(sample) < MIN_SHOWERS:
        raise CalomanError(
            f"{sample.files}: only {len(sample)} showers can be compared, at least {MIN_SHOWERS} are needed; "
            "use a larger file with the same incident energies"
        )
    return sample


def check_overlap(sample: Sample, reference: Sample) -> None:
    """Checks that two samples have incident energies in common.

    Raises:
        CalomanError: if they have none.
    """
    own, other = (s.incident_energies for s in (sample, reference))
    first, second = distinct_energies(own), distinct_energies(other)
    if first is not None and second is not None:
        common = bool(np.isin(first, second).any())
    else:
        common = bool(max(own.min(), other.min()) <= min(own.max(), other.max()))
    if not common:
        ranges = [f"{energies.min():g} to {energies.max():g} MeV" for energies in (own, other)]
        raise CalomanError(
            f"{sample.files}: incident energies of {ranges[0]} have nothing in common with those of {reference.files}, "
            f"{ranges[1]}; generate with --energies {reference.files}"
        )


def _needs(mode: str, smallest: int) -> str:
    return f"mode {mode!r} needs {LEAST[mode]} showers of every sample and of both parts of the floor, not {smallest}"
