"""The learned manifold of shower shapes: autoencoders and the likelihoods of their decoders."""

from caloman.manifold.autoencoder import VAE, Autoencoder
from caloman.manifold.heads import GaussianHead, Head, HurdleHead

__all__ = ["VAE", "Autoencoder", "GaussianHead", "Head", "HurdleHead"]
