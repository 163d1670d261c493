"""Invertible preprocessing; it is part of the model, so generation needs nothing but the model."""

from caloman.preprocessing.dequantization import (
    Filling,
    LogNormalFilling,
    LogUniformFilling,
    UniformFilling,
    VariationalFilling,
)
from caloman.preprocessing.layers import LayerCoordinates, LayerFractions, LayerLogarithms, LayerMap
from caloman.preprocessing.scaling import Log, Logit, LogStandardize, MaxAbs, Scaling, Standardize, Whiten
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
    "LayerMap", "LayerwiseTransform", "Log", "LogNormalFilling", "LogStandardize", "LogUniformFilling", "Logit",
    "MaxAbs", "Prepared", "Scaling", "ShowerTransform", "SmoothSpectrum", "Standardize", "UniformFilling",
    "VariationalFilling", "Whiten",
]  # fmt: skip
