"""Energy calibration: weights of layers that are fitted to some showers and applied to others.

The reconstructed energy is linear in the layer energies, with weights that vary with the logarithm of the total. They
minimize the mean of (E_reco / E_inc - 1)^2, as a test beam does it. Unlike trees it cannot learn which incident
energies occur.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from caloman.evaluation.histograms import energy_windows
from caloman.evaluation.pairs import Moments, left_out
from caloman.showers.observables import Observables, compute_observables
from caloman.showers.showers import Showers

Array = NDArray[np.float64]

PENALTIES = np.logspace(-4, 3, 8)
MIN_SHOWERS = 30
"""Showers that a window of the incident energy must have to count."""
CORE = (16.0, 50.0, 84.0)
RIDGE = 1e-10
"""Penalty over the trace: layers without energy have no weight."""


def calibration(train: Showers, test: Showers) -> dict[str, float]:
    """Calibrates with some showers and returns, in per cent, what comes out on others.

    Returns:
        ``calibration_bias``, the median of E_reco / E_inc over all showers minus one; ``calibration_linearity``, how
        far its medians in windows of the incident energy are from one another; ``calibration_resolution``, half of its
        central 68 %, mean over the windows.
    """
    ratio, energies = _response(train, test)
    medians, widths = [], []
    for low, high in energy_windows(energies):
        inside = ratio[(energies >= low) & (energies < high)]
        if len(inside) >= MIN_SHOWERS:
            first, middle, last = np.percentile(inside, CORE)
            medians.append(middle)
            widths.append((last - first) / 2 / middle)
    return {
        "calibration_bias": 100 * (float(np.median(ratio)) - 1),
        "calibration_linearity": 100 * float(np.std(medians)),
        "calibration_resolution": 100 * float(np.mean(widths)),
    }


def calibration_terms(observables: Observables) -> NDArray[np.float32]:
    """What a calibration is linear in, over the incident energy, shape (N, 2 L + 2); 0 for a shower without energy."""
    total = observables.total_energy[:, None]
    log = np.log10(np.maximum(total, 1e-16))
    terms = np.concatenate(
        [observables.layer_energies, observables.layer_energies * log, total * log**2, total**0.5], 1
    )
    return (terms / observables.incident_energies[:, None]).astype(np.float32)


def calibration_resolutions(reference: NDArray, points: NDArray) -> Array:
    """Resolution on the reference (N, D) of calibrations that are fitted to points (M, D) of the same terms: with all
    showers, then without each tenth, shape (1 + GROUPS,).
    """
    shift = np.zeros(points.shape[1])
    return np.array(
        [_resolution(*pair) for pair in zip(*(left_out(own, shift) for own in (points, reference)), strict=True)]
    )


def _resolution(known: Moments, new: Moments) -> float:
    """Standard deviation over mean of a response that is closest to 1 for the known points."""
    ridge = RIDGE * known.gram.trace() * np.eye(len(known.gram))
    weights = np.linalg.solve(known.gram + ridge, known.total)
    return float(np.sqrt(max(weights @ new.gram @ weights * new.n / (new.total @ weights) ** 2 - 1, 0)))


def _response(train: Showers, test: Showers) -> tuple[Array, Array]:
    """E_reco / E_inc of the test showers that have energy, and their E_inc [MeV]."""
    known, new = (compute_observables([showers]) for showers in (train, test))
    known, new = (observables[observables.total_energy > 0] for observables in (known, new))
    terms = calibration_terms(known).astype(np.float64)
    scale = np.maximum(np.sqrt((terms**2).mean(axis=0)), 1e-12)
    fit = RidgeCV(PENALTIES, fit_intercept=False).fit(terms / scale, np.ones(len(terms)))
    return calibration_terms(new) @ (fit.coef_ / scale), new.incident_energies
