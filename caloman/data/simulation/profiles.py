"""Mean and fluctuating shapes of showers: gamma distributions in depth, a core and a tail in the radius.

References:
    Grindhammer, Peters (hep-ex/0001020): electromagnetic showers in homogeneous and sampling calorimeters; constants as
    in Geant4's GFlashHomoShowerTuning and GFlashSamplingShowerTuning, which follow that paper.
    Longo, Sestili, Nucl. Instrum. Meth. 128 (1975) 283: the gamma distribution in depth.
    Bock, Hansl-Kozanecka, Shah, Nucl. Instrum. Meth. 186 (1981) 533: the hadronic gamma distribution.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

from caloman.data.simulation.detector import Detector

Array = NDArray[np.float64]

SLOWEST_DECAY = 0.35
"""Smallest beta of electromagnetic showers [1/X0], about the absorption of the most penetrating photons: without it,
low energies would now and then reach far too deep."""
REACH = 9.0
"""Scale of the fall-off of electromagnetic showers far from the axis [Moliere radii], where the profiles of the
literature, made for what lies within a few, fall as r^-3 only; adjusted to the Geant4 photons."""


@dataclass(frozen=True)
class DepthProfile:
    """Gamma distributions in depth: dE/dt ~ t^(alpha - 1) exp(-beta t), t from where each shower starts.

    Args:
        start: depth where the shower starts, shape (N,).
        alpha: shape, shape (N,).
        beta: inverse scale, shape (N,).
    """

    start: Array
    alpha: Array
    beta: Array

    def layers(self, edges: Array) -> tuple[Array, Array]:
        """Fraction of the energy in each layer between `edges` (L + 1,), and its mean depth from the start, (N, L)."""
        alpha = self.alpha[:, None]
        x = self.beta[:, None] * np.maximum(edges - self.start[:, None], 0)
        share, moment = np.diff(gammainc(alpha, x), axis=1), np.diff(alpha * gammainc(alpha + 1, x), axis=1)
        middle = (x[:, 1:] + x[:, :-1]) / 2
        mean = np.divide(moment, share, out=middle.copy(), where=share > 1e-9)
        return share, np.clip(mean, x[:, :-1], x[:, 1:]) / self.beta[:, None]


@dataclass(frozen=True)
class RadialProfile:
    """Core and tail: f(r) = p 2 r C^2 / (r^2 + C^2)^2 + (1 - p) 2 r T^2 / (r^2 + T^2)^2 in each layer, times
    exp(-(r / reach)^2).

    Args:
        core: C [mm], shape (N, L).
        tail: T [mm], shape (N, L).
        weight: p, shape (N, L).
        reach: scale of the fall-off far away [mm].
    """

    core: Array
    tail: Array
    weight: Array
    reach: float

    def rings(self, layer: NDArray[np.int64], edges_squared: Array) -> Array:
        """Fraction of its layer's energy in each ring, shape (N, R).

        Args:
            layer: position of each ring's layer, shape (R,).
            edges_squared: squared inner and outer radius of each ring [mm^2], shape (2, R).
        """
        inner, outer = edges_squared
        core, tail = (self.core**2)[:, layer], (self.tail**2)[:, layer]
        weight = self.weight[:, layer]
        width = (outer - inner) * np.exp(-(inner + outer) / (2 * self.reach**2))
        # F(outer) - F(inner) with F(r) = r^2 / (r^2 + C^2), without cancellation
        return width * (
            weight * core / ((inner + core) * (outer + core)) + (1 - weight) * tail / ((inner + tail) * (outer + tail))
        )


def electromagnetic_depth(log_y: Array, detector: Detector, start: Array, normal: Array) -> tuple[DepthProfile, Array]:
    """Longitudinal profile of electromagnetic showers in radiation lengths (hep-ex/0001020).

    Args:
        log_y: logarithm of energy over critical energy, shape (N,).
        detector: material.
        start: depth where each shower starts [X0], shape (N,).
        normal: independent standard normal numbers, shape (N, 2).

    Returns:
        The profile, and the scale that turns depth from the start into tau, 1 at the maximum, shape (N,).
    """
    ln_y = np.maximum(log_y, 3.0)  # the parametrization was made above about 1 GeV; below, its widths would diverge
    sampling, migration = detector.sampling_frequency, detector.migration
    mean_t = np.maximum(ln_y - 0.812 - 0.55 * sampling - 0.69 * migration + detector.depth_shift, 0.5)
    mean_alpha = np.maximum(0.81 + (0.458 + 2.26 / detector.z) * ln_y - 0.476 * sampling, 1.2)
    sigma_t = np.minimum(1 / (-2.5 + 1.25 * ln_y), 0.5)
    sigma_alpha = np.minimum(1 / (-0.82 + 0.79 * ln_y), 0.5)
    rho = 0.784 - 0.023 * ln_y
    common, opposite = normal[:, 0] * np.sqrt((1 + rho) / 2), normal[:, 1] * np.sqrt((1 - rho) / 2)
    t = mean_t * np.exp(sigma_t * (common + opposite))
    alpha = mean_alpha * np.exp(sigma_alpha * (common - opposite))
    alpha = np.maximum(alpha, 1 + SLOWEST_DECAY * t)
    scale = (alpha - 1) / alpha * mean_alpha / (mean_alpha - 1) / t
    return DepthProfile(start, alpha, (alpha - 1) / t), scale


def electromagnetic_radius(tau: Array, log_e: Array, detector: Detector) -> RadialProfile:
    """Radial profile of electromagnetic showers (hep-ex/0001020).

    Args:
        tau: depth from the start over that of the maximum, shape (N, L).
        log_e: logarithm of the energy in GeV, shape (N,).
        detector: material.
    """
    z, sampling, migration = detector.z, detector.sampling_frequency, detector.migration
    log_e = log_e[:, None]
    tau = np.minimum(tau, 6.0)
    early = np.exp(-tau)
    core = 0.0251 + 0.00319 * log_e + (0.1162 - 0.000381 * z) * tau - 0.0203 * migration + 0.0397 * sampling * early
    growth = 0.3585 + 0.0412 * log_e
    tail = (0.659 - 0.00309 * z) * (np.exp(-2.59 * (tau - 0.645)) + np.exp(growth * (tau - 0.645)))
    tail = tail - 0.14 * migration - 0.495 * sampling * early
    x = (0.401 + 0.00187 * z - tau) / np.maximum(1.313 - 0.0686 * log_e, 0.3)
    weight = (2.632 - 0.00094 * z) * np.exp(x - np.exp(x))
    weight = weight + migration * (0.348 - 0.642 * sampling * np.exp(-((tau - 1) ** 2)))
    core = np.hypot(np.maximum(core, 0.01) * detector.moliere * detector.core_scale, detector.spread)
    tail = np.clip(tail, 0.1, 10.0) * detector.moliere
    return RadialProfile(core, tail, np.clip(weight, 0, 1) * detector.core_weight, REACH * detector.moliere)


def backscatter(energies: Array, profile: DepthProfile, detector: Detector) -> tuple[Array, RadialProfile]:
    """Soft energy that comes back from the shower maximum, spread wide over the layers before it.

    Not in the literature above, which describes what lies near the axis: 4 MeV per X0 times (E / GeV)^0.6 was read off
    the first layers of the Geant4 electrons, and holds for the photons too.

    Returns:
        Energy in each layer [MeV], shape (N, L), for incident `energies` [MeV], shape (N,), and its radial profile.
    """
    maximum = profile.start + (profile.alpha - 1) / profile.beta
    passed = np.clip(maximum[:, None] - detector.depths[:-1], 0, np.diff(detector.depths))
    energy = detector.albedo * np.minimum(energies / 1e3, 1e4)[:, None] ** 0.6 * passed
    radius = np.full_like(energy, detector.albedo_radius)
    return energy, RadialProfile(radius, radius, np.ones_like(energy), REACH * detector.moliere)


def hadronic_depth(log_e: Array, start: Array) -> DepthProfile:
    """Longitudinal profile of the hadronic part of pion showers in interaction lengths (Bock et al. 1981).

    From the logarithm of the energy in GeV and the depth of the first interaction [interaction lengths], shapes (N,).
    """
    log_e = np.maximum(log_e, 0)
    return DepthProfile(start, 0.6165 + 0.3183 * log_e, np.maximum(0.9099 - 0.0237 * log_e, 0.3))


def hadronic_radius(depth: Array, detector: Detector) -> RadialProfile:
    """Radial profile of the hadronic part of pion showers: a core of about a tenth of an interaction length that widens
    with the depth from the first interaction [interaction lengths], shape (N, L), and a wide tail; orders of magnitude
    only, as no Geant4 pions were there to compare with.
    """
    core = detector.moliere * (0.6 + 0.5 * np.minimum(depth, 6.0))
    return RadialProfile(core, 4 * core, np.full_like(core, 0.7), 5 * REACH * detector.moliere)
