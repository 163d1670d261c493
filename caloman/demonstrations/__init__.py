"""Targets of known truth, and densities for the result pages alone."""

from caloman.demonstrations.densities import CorrelatedGaussian, CorrelatedMixture, Target, UncorrelatedMixture
from caloman.demonstrations.manifolds import Circle, Lorenz, PolynomialSurface
from caloman.demonstrations.mflow import ManifoldDensity, MFlow
from caloman.demonstrations.mixture import GaussianMixture

__all__ = [
    "Circle", "CorrelatedGaussian", "CorrelatedMixture", "GaussianMixture", "Lorenz", "MFlow", "ManifoldDensity",
    "PolynomialSurface", "Target", "UncorrelatedMixture",
]  # fmt: skip
