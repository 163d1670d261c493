"""Distributions whose truth is known, to measure densities and manifolds against."""

from caloman.toys.densities import CorrelatedGaussian, CorrelatedMixture, Target, UncorrelatedMixture
from caloman.toys.manifolds import Circle, Lorenz, PolynomialSurface

__all__ = [
    "Circle", "CorrelatedGaussian", "CorrelatedMixture", "Lorenz", "PolynomialSurface", "Target", "UncorrelatedMixture",
]  # fmt: skip
