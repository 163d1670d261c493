"""The learned manifold of shower shapes: autoencoders and the likelihoods of their decoders."""

from caloman.manifold.adversarial import AVB
from caloman.manifold.architectures import Architecture, CylinderArchitecture, DenseArchitecture
from caloman.manifold.autoencoder import VAE, Autoencoder
from caloman.manifold.fractions import BernoulliHead, SoftmaxHead
from caloman.manifold.grouped import GroupedVAE
from caloman.manifold.heads import GaussianHead, Head, HurdleHead
from caloman.manifold.wasserstein import WAE

__all__ = [
    "AVB", "VAE", "WAE", "Architecture", "Autoencoder", "BernoulliHead", "CylinderArchitecture", "DenseArchitecture",
    "GaussianHead", "GroupedVAE", "Head", "HurdleHead", "SoftmaxHead",
]  # fmt: skip
