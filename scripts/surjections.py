"""Surjections: latents z that a flow can learn, from data x that have no density of their own in that space.

Each maps x to z at random or not, and back without chance: log p(x) >= E_q(z|x)[log p(z) + V(x, z)] with the
contribution V = log p(x | z) - log q(z | x).

References:
    Nielsen et al., SurVAE flows (arXiv:2007.02731); Verheyen, Event generation and density estimation with surjective
    normalizing flows (arXiv:2205.01697); Hoogeboom et al., Argmax flows (arXiv:2102.05379).
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.flows import AutoregressiveFlow
from caloman.nn.mlp import MLP
from caloman.preprocessing import Dequantization


class Surjection(nn.Module, ABC):
    """A map between data x (N, D) and latents z (N, K)."""

    context = 0
    """Size of the condition of the latents."""

    @abstractmethod
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (N, K) for x (N, D), and their contribution V to the bound of log p(x), shape (N,)."""

    @abstractmethod
    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """The data x (N, D) of latents (N, K) under their condition (N, context)."""

    def condition(self, x: Tensor) -> Tensor | None:
        """Condition (N, context) of the latents of x (N, D)."""
        return None

    def draw_condition(self, n: int) -> Tensor | None:
        """Conditions for n samples, shape (n, context)."""
        return None


class Nothing(Surjection):
    """Data as they are."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x.new_zeros(len(x))

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return z


class Dequantized(Surjection):
    """Logarithms of energies, with noise in the place of zeros; what comes out below the threshold is zero again.

    Args:
        dequantization: what replaces zeros.
        threshold: smallest energy of the data [MeV].
    """

    def __init__(self, dequantization: Dequantization, threshold: float) -> None:
        super().__init__()
        self.dequantization, self.threshold = dequantization, threshold

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        energies, minus_log_q = self.dequantization(x)
        logarithms = energies.log()
        return logarithms, minus_log_q - torch.where(x > 0, logarithms, 0.0).sum(dim=1)

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        energies = z.exp()
        return torch.where(energies < self.threshold, 0.0, energies)


class Dropout(Surjection):
    """Logarithms of energies, of which some are dropped: which ones is drawn first, and is the condition.

    Noise fills the dropped ones while training. Where a flow has learned that, nothing of the likelihood is lost.

    Args:
        x: energies (N, D) with zeros, that give the frequency of each pattern of zeros.
    """

    bits: Tensor
    frequencies: Tensor

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.context = x.shape[1]
        self.register_buffer("bits", 2 ** torch.arange(x.shape[1]))
        self.register_buffer("frequencies", self._pattern(x).bincount(minlength=2 ** x.shape[1]) / len(x))

    def _pattern(self, x: Tensor) -> Tensor:
        return ((x > 0) * self.bits).sum(dim=1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        noise = torch.randn_like(x)
        logarithms = torch.where(x > 0, x, 1.0).log()
        contributions = torch.where(x > 0, -logarithms, -log_normal(noise)).sum(dim=1)
        return torch.where(x > 0, logarithms, noise), contributions + self.frequencies.log()[self._pattern(x)]

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return z.exp() if condition is None else z.exp() * condition

    def condition(self, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)

    def draw_condition(self, n: int) -> Tensor:
        pattern = self.frequencies.multinomial(n, replacement=True)
        return ((pattern[:, None] & self.bits) > 0).to(self.frequencies.dtype)


class StochasticPermutation(Surjection):
    """A random order on the way in and on the way out: samples have no order, whatever the flow has learned."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return shuffled(x), x.new_zeros(len(x))

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return shuffled(z)


class Sort(Surjection):
    """The smallest entry and the logarithms of the distances to the next ones; a random order on the way out.

    Nothing of the likelihood is lost: each order of K entries has the same density.
    """

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        ordered = x.sort(dim=1).values
        logarithms = ordered.diff(dim=1).clamp(min=1e-6).log()  # two equal numbers are an accident of rounding
        z = torch.cat([ordered[:, :1], logarithms], dim=1)
        return z, -logarithms.sum(dim=1) - math.lgamma(x.shape[1] + 1)

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return shuffled(torch.cat([z[:, :1], z[:, 1:].exp()], dim=1).cumsum(dim=1))


class UniformNoise(Surjection):
    """Categories 0 ... K - 1 and a fraction from U(0, 1).

    Args:
        categories: their number K.
    """

    def __init__(self, categories: int) -> None:
        super().__init__()
        self.categories = categories

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + torch.rand_like(x), x.new_zeros(len(x))

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return z.floor().clamp(0, self.categories - 1)


class VariationalNoise(UniformNoise):
    """The same with a learned fraction: the sigmoid of a normal number whose mean and width depend on all categories.

    Args:
        features: number D of variables.
        categories: number K of categories of each.
        hidden: width of the network.
    """

    def __init__(self, features: int, categories: int, hidden: int = 32) -> None:
        super().__init__(categories)
        self.noise = ConditionalNormal(features * categories, features, hidden)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raw, log_q = self.noise(one_hot(x, self.categories))
        return x + raw.sigmoid(), (F.logsigmoid(raw) + F.logsigmoid(-raw)).sum(dim=1) - log_q


class Argmax(Surjection):
    """Categories as binary words: each digit tells which of two numbers is larger, the sign of their difference.

    Args:
        features: number D of variables.
        categories: number K of categories of each, a power of two.
        hidden: width of the network that gives mean and width of the noise.
    """

    powers: Tensor

    def __init__(self, features: int, categories: int, hidden: int = 32) -> None:
        super().__init__()
        self.categories = categories
        self.register_buffer("powers", 2 ** torch.arange(categories.bit_length() - 1))
        self.noise = ConditionalNormal(features * categories, features * len(self.powers), hidden)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        digits = ((x.long()[:, :, None] & self.powers) > 0).flatten(1)
        raw, log_q = self.noise(one_hot(x, self.categories))
        size = F.softplus(raw)
        return torch.where(digits, size, -size), F.logsigmoid(raw).sum(dim=1) - log_q

    def decode(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return ((z.unflatten(1, (-1, len(self.powers))) > 0) * self.powers).sum(dim=2).to(z.dtype)


class ConditionalNormal(nn.Module):
    """Normal numbers with a learned mean and width.

    Args:
        context: size of the condition.
        features: size D of the vectors.
        hidden: width of the network.
    """

    def __init__(self, context: int, features: int, hidden: int) -> None:
        super().__init__()
        self.network = MLP(context, [hidden], 2 * features)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers (N, D) under a condition (N, C), and their log-density (N,)."""
        mean, log_width = self.network(condition).chunk(2, dim=1)
        noise = torch.randn_like(mean)
        return mean + log_width.exp() * noise, (log_normal(noise) - log_width).sum(dim=1)


class SurjectiveFlow(nn.Module):
    """A density of data by a surjection, and an autoregressive spline flow of the standardized latents.

    Args:
        surjection: between data and latents.
        x: data (N, D) whose latents set mean and width.
    """

    mean: Tensor
    width: Tensor

    def __init__(self, surjection: Surjection, x: Tensor) -> None:
        super().__init__()
        self.surjection = surjection
        with torch.no_grad():
            z, _ = surjection.encode(x)
        self.register_buffer("mean", z.mean(dim=0))
        self.register_buffer("width", z.std(dim=0))
        self.flow = AutoregressiveFlow(z.shape[1], surjection.context, transforms=3, hidden=32, bins=12)

    def bound(self, x: Tensor) -> Tensor:
        """Lower bound of log p of data (N, D), from one draw of the latents, shape (N,)."""
        z, contribution = self.surjection.encode(x)
        log_prob = self.flow.log_prob((z - self.mean) / self.width, self.surjection.condition(x))
        return log_prob - self.width.log().sum() + contribution

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Data, shape (n, D)."""
        condition = self.surjection.draw_condition(n)
        z = self.flow.sample(torch.randn(n, len(self.mean)), condition)
        return self.surjection.decode(z * self.width + self.mean, condition)


def log_normal(x: Tensor) -> Tensor:
    """Logarithm of the standard normal density of each entry, same shape."""
    return -0.5 * (x.square() + math.log(2 * math.pi))


def one_hot(x: Tensor, categories: int) -> Tensor:
    """Categories (N, D) as vectors (N, D * categories) of zeros and ones."""
    return F.one_hot(x.long(), categories).flatten(1).to(x.dtype)


def shuffled(x: Tensor) -> Tensor:
    """Each row of x (N, D) in a random order of its own."""
    return x.gather(1, torch.rand_like(x).argsort(dim=1))
