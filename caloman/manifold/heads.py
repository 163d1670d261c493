"""Decoder heads: the likelihood of a shower's shape under the outputs of the decoder network."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.nn.precision import at_least_float32
from caloman.preprocessing.layers import LayerMap
from caloman.showers.geometry import Geometry

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Head(nn.Module, ABC):
    """p(shape | parameters) with the parameters from a decoder network.

    Args:
        geometry: the voxel mesh with V voxels.
    """

    n_parameters: int
    """Number of outputs of the decoder network."""
    noise_dim: int
    """Number of standard normal numbers for one sample."""

    def fit(self, shapes: Iterable[Tensor]) -> None:
        """Fits statistics on batches (n, V) of training shapes."""

    @abstractmethod
    def log_prob(self, parameters: Tensor, shapes: Tensor) -> Tensor:
        """Log-likelihood of shapes (N, V) under parameters (N, n_parameters), summed over voxels, shape (N,).

        The density is that of the head's own variable: the shape itself, or the logarithm of a hit's size.
        """

    @abstractmethod
    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        """Shapes (N, V) from parameters (N, n_parameters) and standard normal noise (N, noise_dim)."""

    @abstractmethod
    def to_noise(self, parameters: Tensor, shapes: Tensor) -> Tensor:
        """The noise (N, noise_dim) with which `sample` gives the shapes (N, V); random where many values do."""


class DeterministicHead(Head):
    """A head without noise: it decodes to the mean of its shapes."""

    noise_dim = 0

    @abstractmethod
    def mean(self, parameters: Tensor) -> Tensor:
        """The mean shape (N, V) under parameters (N, n_parameters)."""

    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        return self.mean(parameters)

    def to_noise(self, parameters: Tensor, shapes: Tensor) -> Tensor:
        return shapes.new_zeros(len(shapes), 0)


class GaussianHead(DeterministicHead):
    """CaloMan's head: a normal density with one width per shower, decoded to its mean.

    References:
        Cresswell et al., CaloMan (arXiv:2211.15380) and its published code.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.n_parameters = geometry.n_voxels + 1

    def log_prob(self, parameters: Tensor, shapes: Tensor) -> Tensor:
        mean, log_width = parameters[:, :-1], parameters[:, -1:]
        return -(0.5 * ((shapes - mean) / log_width.exp()).square() + log_width + HALF_LOG_2PI).sum(dim=1)

    def mean(self, parameters: Tensor) -> Tensor:
        return parameters[:, :-1]


class HurdleHead(Head):
    """A hit or nothing in each voxel, and a sinh-arcsinh-normal logarithm of the size of a hit.

    Both tails have a weight of their own, because small sizes fall off like a power and large ones like a Gaussian: for
    the logarithm y of a size, u = arsinh((y - location) / scale) - skew, and sinh(a u + b (sqrt(1 + u^2) - 1)) is
    standard normal, with slopes a - b on the left and a + b on the right; b = 0 is the published distribution.

    One standard normal number per voxel decides both, monotonically: zero below the hurdle, the size's quantile above
    it. A layer without any hit gets one where that number came closest to the hurdle: its energy has to go somewhere.

    References:
        Jones & Pewsey, Sinh-arcsinh distributions, Biometrika 96 (2009) 761.
    """

    hit_logit: Tensor
    log_mean: Tensor
    log_std: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.layers = LayerMap(geometry)
        self.noise_dim = geometry.n_voxels
        self.n_parameters = 6 * geometry.n_voxels
        self.register_buffer("hit_logit", torch.zeros(geometry.n_voxels))
        self.register_buffer("log_mean", torch.zeros(geometry.n_voxels))
        self.register_buffer("log_std", torch.ones(geometry.n_voxels))

    def fit(self, shapes: Iterable[Tensor]) -> None:
        """Fits hit rates and moments of the log-sizes, the origin of the network's outputs."""
        count, hits, total, squares = 0, torch.zeros(()), torch.zeros(()), torch.zeros(())
        for batch in shapes:
            logs = torch.where(batch > 0, batch.double().log(), 0.0)
            count, hits = count + len(batch), hits + (batch > 0).double().sum(0)
            total, squares = total + logs.sum(0), squares + logs.square().sum(0)
        # ten pseudo-counts of the average voxel steady voxels with few hits
        mean_all, square_all = total.sum() / hits.sum(), squares.sum() / hits.sum()
        mean = (total + 10 * mean_all) / (hits + 10)
        self.log_mean.copy_(mean)
        self.log_std.copy_(((squares + 10 * square_all) / (hits + 10) - mean**2).clamp(min=0.01).sqrt())
        self.hit_logit.copy_(((hits + 0.5) / (count + 1)).logit())

    def _unpack(self, parameters: Tensor) -> tuple[Tensor, "HitSizes"]:
        """Logit of a hit (N, V) and distribution of its size."""
        hit, *raw = at_least_float32(parameters).chunk(6, dim=1)
        return self.hit_logit + hit, HitSizes.of(raw, self.log_mean, self.log_std)

    def log_prob(self, parameters: Tensor, shapes: Tensor) -> Tensor:
        return self.voxel_log_prob(parameters, shapes).sum(dim=1)

    def voxel_log_prob(self, parameters: Tensor, shapes: Tensor) -> Tensor:
        """Log-likelihood of each voxel of shapes (N, V) under parameters (N, n_parameters), shape (N, V)."""
        hit, sizes = self._unpack(parameters)
        is_hit = shapes > 0
        log_size = sizes.log_prob(torch.where(is_hit, shapes, torch.ones_like(shapes)).log())
        return torch.where(is_hit, F.logsigmoid(hit) + log_size, F.logsigmoid(-hit))

    def to_noise(self, parameters: Tensor, shapes: Tensor) -> Tensor:
        hit, sizes = self._unpack(parameters)
        probability = hit.sigmoid()
        score, _ = sizes.score(torch.where(shapes > 0, shapes, torch.ones_like(shapes)).log())
        # below 1, so that the smallest hits do not round to the other side of the hurdle
        size_tail = probability * upper_tail(score).clamp(max=1 - 1e-5)
        zero_tail = probability + (1 - probability) * torch.rand_like(probability)
        tail_probability = torch.where(shapes > 0, size_tail, zero_tail)
        return -torch.special.ndtri(tail_probability.clamp(1e-9, 1 - 1e-6))

    def sample(self, parameters: Tensor, noise: Tensor) -> Tensor:
        hit, sizes = self._unpack(parameters)
        ratio = upper_tail(at_least_float32(noise)) / hit.sigmoid()  # below 1 it is a hit
        log_size, _ = sizes.log_size(-torch.special.ndtri(ratio.clamp(1e-9, 1 - 1e-6)))
        is_hit = (ratio < 1) | self.layers.is_largest(-ratio)
        return torch.where(is_hit, log_size.clamp(-30.0, 10.0).exp(), 0.0)


class HitSizes(NamedTuple):
    """The sinh-arcsinh-normal distribution of the logarithm of the size of a hit; all of one shape."""

    location: Tensor
    scale: Tensor
    skew: Tensor
    tail: Tensor
    difference: Tensor

    @classmethod
    def of(cls, raw: Sequence[Tensor], mean: Tensor, std: Tensor) -> "HitSizes":
        """The distribution from five outputs of a network, with zeros for a normal one of given mean and width."""
        location, scale, skew, left, right = raw
        left, right = _bounded(left, math.log(2)).exp(), _bounded(right, math.log(2)).exp()
        return cls(
            location=mean + std * location,
            scale=std * _bounded(scale, 4.0).exp(),
            skew=_bounded(skew, 2.0),
            tail=(left + right) / 2,
            difference=(right - left) / 2,
        )

    def score(self, log_size: Tensor) -> tuple[Tensor, Tensor]:
        """The normal score of a logarithm, and the logarithm of its derivative."""
        z = (log_size - self.location) / self.scale
        u = z.asinh() - self.skew
        root = (1 + u.square()).sqrt()
        angle = (self.tail * u + self.difference * (root - 1)).clamp(-20, 20)
        log_slope = (self.tail + self.difference * u / root).log() + _log_cosh(angle)
        return angle.sinh(), log_slope - 0.5 * (1 + z.square()).log() - self.scale.log()

    def log_prob(self, log_size: Tensor) -> Tensor:
        """Log-density of the logarithm of a size."""
        score, log_slope = self.score(log_size)
        return -0.5 * score.square() - HALF_LOG_2PI + log_slope

    def log_size(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """The logarithm of a size from its normal score, and its derivative by the score."""
        shifted = score.asinh() + self.difference
        product = (self.tail - self.difference) * (self.tail + self.difference)
        root = (shifted.square() + product).sqrt()
        angle = (self.tail * shifted - self.difference * root) / product + self.skew
        slope = (self.tail - self.difference * shifted / root) / (product * (1 + score.square()).sqrt())
        return self.location + self.scale * angle.sinh(), self.scale * angle.cosh() * slope


def upper_tail(scores: Tensor) -> Tensor:
    """P(x > score) of a standard normal x; `torch.special.ndtr` in float32 has no digits left beyond 4 sigma."""
    return 0.5 * torch.erfc(scores * math.sqrt(0.5))


def _bounded(values: Tensor, limit: float) -> Tensor:
    """Identity near zero, saturated at +- limit."""
    return limit * (values / limit).tanh()


def _log_cosh(values: Tensor) -> Tensor:
    return values.abs() + F.softplus(-2 * values.abs()) - math.log(2)
