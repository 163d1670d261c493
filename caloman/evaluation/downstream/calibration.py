"""Energy calibration: weights of layers that are fitted to some showers and applied to others.

The reconstructed energy is linear in the layer energies, with weights that vary with the logarithm of the total. They
minimize the mean of (E_reco / E_inc - 1)^2, as a test beam does it. Unlike trees it cannot learn which incident
energies occur.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from caloman.evaluation.binnings import energy_windows
from caloman.evaluation.pairs import Moments, left_out
from caloman.showers.observables import Observables, compute_observables
from caloman.showers.showers import Showers

Array = NDArray[np.float64]

PENALTIES = np.logspace(-4, 3, 8)
RIDGE = 1e-10  # penalty over the trace of the Gram matrix, for layers that are always empty
MIN_SHOWERS = 30  # showers that a window of the incident energy must have to count
CORE = (16.0, 50.0, 84.0)


def calibration(train: Showers, test: Showers) -> dict[str, float]:
    """Calibrates with some showers and returns, in per cent, what comes out on others.

    Returns:
        ``calibration_bias``, the median of E_reco / E_inc over all showers minus one; ``calibration_linearity``, how
        far its medians in windows of the incident energy are from one another; ``calibration_resolution``, half of its
        central 68 %, mean over the windows.
    """
    known, new = (compute_observables([showers]) for showers in (train, test))
    known, new = (observables[observables.total_energy > 0] for observables in (known, new))
    terms = calibration_terms(known)
    scale = np.maximum(np.sqrt((terms**2).mean(axis=0)), 1e-12)
    fit = RidgeCV(PENALTIES, fit_intercept=False).fit(terms / scale, np.ones(len(terms)))
    ratio = calibration_terms(new) @ (fit.coef_ / scale)
    medians, widths = [], []
    for low, high in energy_windows(new.incident_energies):
        inside = ratio[(new.incident_energies >= low) & (new.incident_energies < high)]
        if len(inside) >= MIN_SHOWERS:
            first, middle, last = np.percentile(inside, CORE)
            medians.append(middle)
            widths.append((last - first) / 2 / middle)
    return {
        "calibration_bias": 100 * (float(np.median(ratio)) - 1),
        "calibration_linearity": 100 * float(np.std(medians)),
        "calibration_resolution": 100 * float(np.mean(widths)),
    }


def calibration_terms(observables: Observables) -> Array:
    """What E_reco / E_inc is linear in, shape (N, 2 L + 2); 0 for a shower without energy."""
    layers, total = observables.layer_energies, observables.total_energy[:, None]
    log = np.log10(np.maximum(total, 1e-16))
    terms = np.concatenate([layers, layers * log, total * log**2, total**0.5], axis=1)
    return terms / observables.incident_energies[:, None]


def calibration_resolutions(reference: NDArray, points: NDArray) -> Array:
    """Resolution on the reference (N, D) of calibrations that are fitted to points (M, D) of the same terms: with all
    showers, then without each tenth, shape (1 + GROUPS,).
    """
    origin = np.zeros(points.shape[1])
    return np.array(
        [_resolution(*pair) for pair in zip(left_out(points, origin), left_out(reference, origin), strict=True)]
    )


def _resolution(known: Moments, new: Moments) -> float:
    """Standard deviation over mean of the response, with weights that bring it closest to 1 for the known points."""
    weights = np.linalg.solve(known.gram + RIDGE * known.gram.trace() * np.eye(len(known.gram)), known.total)
    mean, square = float(new.total @ weights) / new.n, float(weights @ new.gram @ weights) / new.n
    return max(square / mean**2 - 1, 0.0) ** 0.5
