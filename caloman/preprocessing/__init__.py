"""Invertible preprocessing; it is part of the model, so generation needs nothing but the model."""

from caloman.preprocessing.dequantization import (
    Dequantization,
    LogNormalDequantization,
    LogUniformDequantization,
    UniformDequantization,
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
    "Dequantization", "ExcessTransform", "GlobalTransform", "LayerCoordinates", "LayerFractions", "LayerLogarithms",
    "LayerMap", "LayerwiseTransform", "Log", "LogNormalDequantization", "LogStandardize", "LogUniformDequantization",
    "Logit", "MaxAbs", "Prepared", "Scaling", "ShowerTransform", "SmoothSpectrum", "Standardize",
    "UniformDequantization", "Whiten",
]  # fmt: skip
