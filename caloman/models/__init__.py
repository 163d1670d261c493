"""Generators, the content of a bundle."""

from caloman.models.density import Density
from caloman.models.energy import LayerEnergyModel
from caloman.models.ensemble import EnsembleShowerModel
from caloman.models.shape import ManifoldShape, ShapeModel
from caloman.models.shower import FactorizedShowerModel, ShowerModel

__all__ = [
    "Density", "EnsembleShowerModel", "FactorizedShowerModel", "LayerEnergyModel", "ManifoldShape", "ShapeModel",
    "ShowerModel",
]  # fmt: skip
