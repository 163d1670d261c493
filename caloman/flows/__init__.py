"""Normalizing flows: splines, transforms, and the densities that are built from them."""

from caloman.flows.autoregressive import Autoregressive
from caloman.flows.copula import CopulaFlow
from caloman.flows.coupling import Coupling
from caloman.flows.distribution import Distribution
from caloman.flows.elementwise import Affine, Elementwise, Spline
from caloman.flows.flow import AutoregressiveFlow, CouplingFlow, Flow
from caloman.flows.linear import ActNorm, LULinear, Permutation
from caloman.flows.mask import BernoulliMask
from caloman.flows.spline import rational_quadratic_spline
from caloman.flows.transform import Conditioned, Step, Transform, samples_in_one_pass

__all__ = [
    "ActNorm", "Affine", "Autoregressive", "AutoregressiveFlow", "BernoulliMask", "Conditioned", "CopulaFlow",
    "Coupling", "CouplingFlow", "Distribution", "Elementwise", "Flow", "LULinear", "Permutation", "Spline", "Step",
    "Transform", "rational_quadratic_spline", "samples_in_one_pass",
]  # fmt: skip
