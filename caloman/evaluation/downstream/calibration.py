"""Energy calibration: weights of layers that are fitted to some showers and applied to others.

The reconstructed energy is linear in the layer energies, with weights that vary with the logarithm of the total. They
minimize the mean of (E_reco / E_inc - 1)^2, as a test beam does it. Unlike trees it cannot learn which incident
energies occur.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from caloman.evaluation.histograms import energy_windows
from caloman.showers.observables import Observables, compute_observables
from caloman.showers.showers import Showers

Array = NDArray[np.float64]

PENALTIES = np.logspace(-4, 3, 8)
MIN_SHOWERS = 30
"""Showers that a window of the incident energy must have to count."""
CORE = (16.0, 50.0, 84.0)


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


def _response(train: Showers, test: Showers) -> tuple[Array, Array]:
    """E_reco / E_inc of the test showers that have energy, and their E_inc [MeV]."""
    known, new = (compute_observables([showers]) for showers in (train, test))
    known, new = (observables[observables.total_energy > 0] for observables in (known, new))
    terms = _terms(known) / known.incident_energies[:, None]
    scale = np.maximum(np.sqrt((terms**2).mean(axis=0)), 1e-12)
    fit = RidgeCV(PENALTIES, fit_intercept=False).fit(terms / scale, np.ones(len(terms)))
    return _terms(new) @ (fit.coef_ / scale) / new.incident_energies, new.incident_energies


def _terms(observables: Observables) -> Array:
    """What the energy is linear in [MeV], shape (N, 2 L + 2)."""
    total = observables.total_energy[:, None]
    log = np.log10(total)
    return np.concatenate([observables.layer_energies, observables.layer_energies * log, total * log**2, total**0.5], 1)
