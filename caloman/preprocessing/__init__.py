"""Invertible preprocessing; it is part of the model, so generation needs nothing but the model."""

from caloman.preprocessing.dequantisation import (
    Filling,
    LogNormalFilling,
    LogUniformFilling,
    UniformFilling,
    VariationalFilling,
)
from caloman.preprocessing.layers import LayerCoordinates, LayerFractions, LayerLogarithms, LayerMap
from caloman.preprocessing.scaling import Log, Logit, LogStandardise, MaxAbs, Scaling, Standardise, Whiten
from caloman.preprocessing.showers import (
    ExcessTransform,
    GlobalTransform,
    LayerwiseTransform,
    Prepared,
    ShowerTransform,
)
from caloman.preprocessing.spectrum import SmoothSpectrum

__all__ = [
    "ExcessTransform", "Filling", "GlobalTransform", "LayerCoordinates", "LayerFractions", "LayerLogarithms",
    "LayerMap", "LayerwiseTransform", "Log", "LogNormalFilling", "LogStandardise", "LogUniformFilling", "Logit",
    "MaxAbs", "Prepared", "Scaling", "ShowerTransform", "SmoothSpectrum", "Standardise", "UniformFilling",
    "VariationalFilling", "Whiten",
]  # fmt: skip
