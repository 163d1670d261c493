"""The manifold of shower shapes: its coordinates, and the likelihoods of decoders."""

from caloman.manifold.adversarial import AVB
from caloman.manifold.architectures import Architecture, CylinderArchitecture, DenseArchitecture
from caloman.manifold.autoencoder import VAE, Autoencoder, Manifold
from caloman.manifold.coarse import CoarseManifold
from caloman.manifold.fractions import BernoulliHead, SoftmaxHead
from caloman.manifold.grouped import GroupedVAE
from caloman.manifold.heads import GaussianHead, Head, HurdleHead
from caloman.manifold.wasserstein import WAE

__all__ = [
    "AVB", "VAE", "WAE", "Architecture", "Autoencoder", "BernoulliHead", "CoarseManifold", "CylinderArchitecture",
    "DenseArchitecture", "GaussianHead", "GroupedVAE", "Head", "HurdleHead", "Manifold", "SoftmaxHead",
]  # fmt: skip
