"""Normalizing flows: splines, transforms, and densities made of them."""

from caloman.flows.autoregressive import Autoregressive
from caloman.flows.coupling import Coupling
from caloman.flows.distribution import Distribution
from caloman.flows.elementwise import Affine, Elementwise, Spline
from caloman.flows.flow import AutoregressiveFlow, CopulaFlow, CouplingFlow, Flow
from caloman.flows.linear import ActNorm, LULinear, Permutation
from caloman.flows.sequence import SequenceFlow
from caloman.flows.spline import rational_quadratic_spline
from caloman.flows.transform import Conditioned, Sampler, Step, Transform

__all__ = [
    "ActNorm", "Affine", "Autoregressive", "AutoregressiveFlow", "Conditioned", "CopulaFlow", "Coupling",
    "CouplingFlow", "Distribution", "Elementwise", "Flow", "LULinear", "Permutation", "Sampler", "SequenceFlow",
    "Spline", "Step", "Transform", "rational_quadratic_spline",
]  # fmt: skip
