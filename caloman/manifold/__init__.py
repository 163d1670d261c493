"""The manifold of shower shapes: its coordinates, and the likelihoods of decoders."""

from caloman.manifold.adversarial import AVB
from caloman.manifold.autoencoder import VAE, Autoencoder, Manifold
from caloman.manifold.coarse import CoarseManifold
from caloman.manifold.coarse_density import CoarseDensity
from caloman.manifold.fractions import BernoulliHead, SoftmaxHead
from caloman.manifold.heads import GaussianHead, Head, HurdleHead
from caloman.manifold.wasserstein import WAE

__all__ = [
    "AVB", "VAE", "WAE", "Autoencoder", "BernoulliHead", "CoarseDensity", "CoarseManifold", "GaussianHead", "Head",
    "HurdleHead", "Manifold", "SoftmaxHead",
]  # fmt: skip
