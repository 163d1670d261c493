"""The learned manifold of shower shapes: autoencoders and the likelihoods of their decoders."""

from caloman.manifold.autoencoder import VAE, Autoencoder
from caloman.manifold.backbones import Backbone, CylinderBackbone, LayerBackbone, TowerBackbone
from caloman.manifold.grouped import GroupedVAE
from caloman.manifold.heads import GaussianHead, Head, HurdleHead

__all__ = [
    "VAE", "Autoencoder", "Backbone", "CylinderBackbone", "GaussianHead", "GroupedVAE", "Head", "HurdleHead",
    "LayerBackbone", "TowerBackbone",
]  # fmt: skip
