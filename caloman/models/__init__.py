"""Generators: what a bundle holds and a user samples from."""

from caloman.models.copula import CopulaShape, Marginals
from caloman.models.density import Density
from caloman.models.energy import LayerEnergyModel
from caloman.models.ensemble import EnsembleShowerModel
from caloman.models.joint import JointDensity, JointShowerModel
from caloman.models.layerwise import LayerwiseFlow, LayerwiseShape
from caloman.models.shape import FlowShape, ManifoldShape, ShapeModel
from caloman.models.shower import FactorisedShowerModel, ShowerModel

__all__ = [
    "CopulaShape",
    "Density",
    "EnsembleShowerModel",
    "FactorisedShowerModel",
    "FlowShape",
    "JointDensity",
    "JointShowerModel",
    "LayerEnergyModel",
    "LayerwiseFlow",
    "LayerwiseShape",
    "ManifoldShape",
    "Marginals",
    "ShapeModel",
    "ShowerModel",
]
