"""Normalizing flows: splines, transforms, and the densities that are built from them."""

from caloman.flows.coupling import Coupling
from caloman.flows.elementwise import Affine, Elementwise, Spline
from caloman.flows.flow import CouplingFlow, Flow
from caloman.flows.linear import LULinear, Permutation
from caloman.flows.spline import rational_quadratic_spline
from caloman.flows.transform import Transform

__all__ = [
    "Affine", "Coupling", "CouplingFlow", "Elementwise", "Flow", "LULinear", "Permutation", "Spline", "Transform",
    "rational_quadratic_spline",
]  # fmt: skip
