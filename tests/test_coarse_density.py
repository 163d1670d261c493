"""The density of coarse coordinates: that of its samples, and blind to the noise that fills coordinates."""

import pytest
import torch
from torch.testing import assert_close

from caloman.errors import CalomanError
from caloman.manifold import VAE, CoarseDensity, CoarseManifold
from caloman.showers.geometry import Geometry, Layer

A, ROWS, CONTEXT = 6, 30, 6
LAYERS = (Layer(0, (0, 1, 3), 1), Layer(1, (0, 1, 2, 4, 7), A), Layer(2, (0, 3, 6, 9), A), Layer(3, (0, 9), A))
MESH = Geometry("irregular", "pion", LAYERS, threshold=0.01)
L = len(LAYERS)


@pytest.fixture
def manifold():
    return CoarseManifold(MESH, CONTEXT, zones=[1, 3], hidden=4, blocks=1)


@pytest.fixture
def density(manifold, context, latents, randomize):
    density = manifold.density(lambda d, c: CoarseDensity(d, c, steps=L, window=1, hidden=8), CONTEXT).double()
    density.fit(lambda: [(latents, context)])
    randomize(density.conditioners, std=0.3)
    return density.eval()


@pytest.fixture
def context():
    """Conditions of showers, with layers without energy."""
    energies = (torch.rand(ROWS, L).double() * 50 + 1) * (torch.rand(ROWS, L) < 0.8)
    around = torch.randn(ROWS, 2).double()
    return torch.cat([around[:, :1], ((energies + 1e-3) / 1e5).log10() - 1, around[:, 1:]], dim=1)


@pytest.fixture
def latents(manifold):
    """Coordinates of every kind, most of them next to others."""
    return torch.randn(ROWS, manifold.latent_dim).double() * 2


def test_the_density_is_that_of_the_samples(density, context):
    noise = torch.randn(6, density.features).double()
    samples = density.sample(noise, context[:6])
    for row in range(6):
        condition = context[row : row + 1]
        jacobian = torch.autograd.functional.jacobian(lambda n, c=condition: density.sample(n[None], c)[0], noise[row])
        expected = density.log_prob_of_noise(noise[row : row + 1]) - torch.linalg.slogdet(jacobian)[1]
        assert_close(density.log_prob(samples[row : row + 1], condition), expected, atol=1e-8, rtol=0)


def test_conditioners_see_hits_and_not_what_fills_them(manifold, density, context):
    """Coordinates of one shower with other noise have the same views; the last coordinates are those of the noise."""
    coarse = manifold.coordinates.inverse(torch.randn(ROWS, manifold.latent_dim).double() * 2, _energies(context) > 0)
    views = []
    for _ in range(2):
        latents = manifold.coordinates(coarse, torch.randn(ROWS, manifold.latent_dim).double())
        values = density.scaling(density._per_hit(latents, context)).unflatten(1, (-1, L)).transpose(1, 2)
        beside = density.beside(density.context_scaling(context))
        views.append([density.view(values[..., : i + 1], slice(None), beside) for i in range(density.channels)])
    for one, other in zip(*views, strict=True):
        assert_close(one, other, atol=1e-6, rtol=1e-6)


def test_views_are_mean_hits_of_the_zones(manifold, density, context):
    """Oracle: energies of layers times shares over hits."""
    energies = _energies(context)
    coarse = manifold.coordinates.inverse(torch.randn(ROWS, manifold.latent_dim).double() * 2, energies > 0)
    latents = manifold.coordinates(coarse, torch.randn(ROWS, manifold.latent_dim).double())
    values = density.scaling(density._per_hit(latents, context)).unflatten(1, (-1, L)).transpose(1, 2)
    beside = density.beside(density.context_scaling(context))
    for zone in range(2):
        view = density.view(values[..., : 3 + zone + 1], slice(None), beside)
        has_hits = coarse.hits[..., zone] > 0
        mean = energies * coarse.shares[..., zone] / coarse.hits[..., zone]
        assert_close((2 * view[..., 2]).exp()[has_hits], mean[has_hits], rtol=1e-4, atol=1e-4)
        assert torch.all(view[..., 2][~has_hits] == 0)


def test_another_mesh_is_refused(manifold, context, latents):
    with pytest.raises(CalomanError, match="steps = 2 of a CoarseDensity, but the mesh has 4 layers"):
        manifold.density(lambda d, c: CoarseDensity(d, c, steps=2), CONTEXT)
    other = VAE(MESH, CONTEXT, latent_dim=manifold.latent_dim, hidden=[4])
    density = other.density(lambda d, c: CoarseDensity(d, c, steps=L), CONTEXT)
    with pytest.raises(CalomanError, match="a CoarseDensity needs the coordinates of a CoarseManifold"):
        density.fit(lambda: [(latents, context)])


def _energies(context):
    return (10 ** (context[:, 1 : 1 + L] + 1) * 1e5 - 1e-3).clamp(min=0)
