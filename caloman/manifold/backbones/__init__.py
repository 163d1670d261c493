"""Backbones: the networks of encoder and decoder, for regular and irregular meshes of any size."""

from caloman.manifold.backbones.backbone import Backbone
from caloman.manifold.backbones.cells import CylinderBackbone
from caloman.manifold.backbones.dense import TowerBackbone

__all__ = ["Backbone", "CylinderBackbone", "TowerBackbone"]
