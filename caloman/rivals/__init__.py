"""Rival generators of the literature: CaloFlow, CaloINN, layer-wise flows, flow matching, ViT-cINN, a copula."""

from caloman.rivals.convolutional import ConvolutionalCouplingFlow
from caloman.rivals.copula import CopulaShape, Marginals
from caloman.rivals.direct import FlowShape
from caloman.rivals.flow_matching import FlowMatching
from caloman.rivals.joint import JointDensity, JointShowerModel
from caloman.rivals.layerwise import LayerwiseFlow, LayerwiseShape
from caloman.rivals.patches import PatchTransformer
from caloman.rivals.transformer import TransformerCouplingFlow
from caloman.rivals.velocity import VelocityMLP, VelocityNetwork

__all__ = [
    "ConvolutionalCouplingFlow", "CopulaShape", "FlowMatching", "FlowShape", "JointDensity", "JointShowerModel",
    "LayerwiseFlow", "LayerwiseShape", "Marginals", "PatchTransformer", "TransformerCouplingFlow", "VelocityMLP",
    "VelocityNetwork",
]  # fmt: skip
