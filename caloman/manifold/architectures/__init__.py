"""Architectures of encoder and decoder, for regular and irregular meshes of any size."""

from caloman.manifold.architectures.architecture import Architecture, DenseArchitecture
from caloman.manifold.architectures.cylinder import CylinderArchitecture

__all__ = ["Architecture", "CylinderArchitecture", "DenseArchitecture"]
