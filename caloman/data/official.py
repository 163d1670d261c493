"""What the official files of the CaloChallenge hold (arXiv:2410.21611), and how a file differs from that."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from caloman.errors import first_of

SMALLEST_P_VALUE = 1e-6
NAMED = 3


@dataclass(frozen=True)
class Official:
    """An official dataset.

    Args:
        n_showers: how many showers a file, or all files to compare with, may hold.
        counts: how often each incident energy [MeV] occurs, where these are discrete.
        energy_range: smallest and largest energy [MeV]; the spectrum is log-uniform between them if it is continuous.
        threshold: smallest voxel above zero [MeV]; 0 where the files were not cut.
    """

    n_showers: tuple[int, ...]
    counts: Mapping[float, int] = field(default_factory=dict)
    energy_range: tuple[float, float] = (1e3, 1e6)
    threshold: float = 0.0


def _counts(at_262144: int) -> dict[float, int]:
    numbers = [10_000] * 10 + [at_262144, 5_000, 3_000, 2_000, 1_000]
    return {float(2**power): number for power, number in enumerate(numbers, start=8)}


OFFICIAL = {
    "1-photons": Official((121_000,), _counts(10_000), (2.0**8, 2.0**22)),
    "1-pions": Official((120_800,), _counts(9_800), (2.0**8, 2.0**22)),
    "2": Official((100_000,), threshold=0.5e-3 / 0.033),
    "3": Official((50_000, 100_000), threshold=0.5e-3 / 0.033),
}
"""Dataset id -> what it holds; the reference of dataset 3 is two files."""


def energy_deviations(energies: NDArray[np.float32], official: Official) -> list[str]:
    """How the incident energies [MeV], shape (N,), differ from those of an official file; one sentence each."""
    deviations = []
    if len(energies) not in official.n_showers:
        wanted = " or ".join(map(str, official.n_showers))
        deviations.append(f"{len(energies)} showers instead of {wanted}")
    return deviations + (_discrete if official.counts else _log_uniform)(energies, official)


def _discrete(energies: NDArray[np.float32], official: Official) -> list[str]:
    found = Counter(energies.tolist())
    deviations = []
    strange = sorted(set(found) - set(official.counts))
    if strange:
        n_showers = sum(found[energy] for energy in strange)
        listed = first_of([f"{energy:.9g}" for energy in strange], NAMED)
        deviations.append(f"{n_showers} showers of incident energies that the dataset lacks ({listed} MeV)")
    pairs = [(energy, found[energy], n) for energy, n in official.counts.items() if found[energy] != n]
    if pairs:
        listed = first_of([f"{seen} instead of {n} at {energy:.9g} MeV" for energy, seen, n in pairs], NAMED)
        deviations.append(f"{len(pairs)} of {len(official.counts)} incident energies have other counts ({listed})")
    return deviations


def _log_uniform(energies: NDArray[np.float32], official: Official) -> list[str]:
    low, high = official.energy_range
    # float32 may round an energy at the end of the range beyond it
    outside = (energies < low * (1 - 1e-6)) | (energies > high * (1 + 1e-6))
    if outside.any():
        hint = "; GeV instead of MeV?" if energies.max() <= high / 1e3 else ""
        return [f"{int(outside.sum())} incident energies outside {low:g} to {high:g} MeV{hint}"]
    position = np.log(energies.astype(np.float64) / low) / np.log(high / low)
    test = stats.kstest(position, "uniform")
    if test.pvalue >= SMALLEST_P_VALUE:
        return []
    return [
        f"the spectrum is not log-uniform from {low:g} to {high:g} MeV "
        f"(Kolmogorov-Smirnov distance {test.statistic:.2f}, p = {test.pvalue:.0e})"
    ]
