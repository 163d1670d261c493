import math

import h5py
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import norm
from torch import nn

from caloman import bundle
from caloman.cli import main
from caloman.errors import CalomanError
from caloman.evaluation.significance import Significances, significance_improvements
from caloman.flows import CouplingFlow
from caloman.manifold.density import jacobian, log_volume
from caloman.manifold.mflow import MFlow
from caloman.nn.mlp import MLP
from caloman.scores import SCORES, anomaly_scores, score
from caloman.showers import Showers


@pytest.fixture
def mflow(randomise):
    flows = [CouplingFlow(features, transforms=2, hidden=8, bins=4) for features in (4, 2)]
    return randomise(MFlow(*flows), std=0.1).double()


def full_jacobian(decode, latents):
    """Shape (N, D, d), by backward mode, one point after the other."""
    return torch.stack([torch.autograd.functional.jacobian(lambda row: decode(row[None])[0], row) for row in latents])


def test_jacobian_and_volume_are_those_of_autograd():
    decode = MLP(3, [16, 16], 7, nn.Tanh).double()
    latents = torch.randn(20, 3, dtype=torch.float64)
    expected = full_jacobian(decode, latents)
    assert_allclose(jacobian(decode, latents).detach(), expected.mT, atol=1e-12)
    volume = log_volume(decode, latents)
    assert_allclose(volume.detach(), 0.5 * torch.logdet(expected.mT @ expected), atol=1e-9)
    assert torch.autograd.gradcheck(lambda z: log_volume(decode, z), latents[:2].requires_grad_())
    single = log_volume(decode.float(), latents.float())
    assert single.dtype == torch.float32
    assert_allclose(single.detach(), volume.detach(), atol=1e-4)


def test_volume_of_a_linear_map_and_of_a_sphere():
    latents = torch.rand(10, 2, dtype=torch.float64) + 0.5
    matrix = torch.randn(2, 5, dtype=torch.float64)
    assert_allclose(log_volume(lambda z: z @ matrix, latents), (0.5 * torch.logdet(matrix @ matrix.T)).expand(10))

    def sphere(angles):
        polar, azimuth = angles.unbind(dim=1)
        return 3 * torch.stack([polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos()], dim=1)

    assert_allclose(log_volume(sphere, latents), (9 * latents[:, 0].sin()).log())


def test_a_coordinate_that_the_decoder_ignores_leaves_the_volume_finite():
    latents = torch.randn(5, 3)
    for decode in (lambda z: torch.cat([z[:, :2], z[:, :2]], dim=1), lambda z: 0 * z):
        assert log_volume(decode, latents).isfinite().all()


def test_the_density_of_a_chart_is_that_on_the_circle():
    """A normal density of the angle, on a circle of radius 2 whose coordinate is a third of the angle."""
    angle = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    volume = log_volume(lambda u: 2 * torch.cat([(3 * u).cos(), (3 * u).sin()], dim=1), angle / 3)
    log_prob = torch.from_numpy(norm.logpdf(angle[:, 0] / 3, scale=0.5 / 3)) - volume
    assert_allclose(log_prob, norm.logpdf(angle[:, 0], scale=0.5) - math.log(2))


def test_projections_lie_on_the_manifold_and_have_the_density_of_the_flow(mflow):
    x = torch.randn(30, 4, dtype=torch.float64)
    projected = mflow.project(x)
    assert_allclose(mflow.project(projected).detach(), projected.detach(), atol=1e-9)
    assert (mflow.reconstruction_error(x) > 0).all()
    assert_allclose(mflow.reconstruction_error(projected).detach(), 0, atol=1e-15)
    latents = mflow.encode(x)
    derivatives = full_jacobian(mflow.decode, latents.detach())
    expected = mflow.inner.log_prob(latents) - 0.5 * torch.logdet(derivatives.mT @ derivatives)
    assert_allclose(mflow.log_prob(x).detach(), expected.detach(), atol=1e-8)
    assert_allclose(mflow.log_prob(projected).detach(), expected.detach(), atol=1e-8)


def test_the_density_of_samples_integrates_to_one_over_the_manifold(mflow):
    side = torch.linspace(-12, 12, 121, dtype=torch.float64)
    latents = torch.cartesian_prod(side, side)
    with torch.no_grad():
        density = mflow.log_prob(mflow.decode(latents)) + log_volume(mflow.decode, latents)
    assert density.exp().sum() * 0.2**2 == pytest.approx(1, abs=1e-3)
    assert mflow.sample(torch.randn(7, 2, dtype=torch.float64)).shape == (7, 4)


def test_the_phases_train_different_parameters(mflow):
    x = torch.randn(10, 4, dtype=torch.float64)
    outer, inner = list(mflow.outer.parameters()), list(mflow.inner.parameters())
    assert all(g is None for g in torch.autograd.grad(mflow.latent_loss(x), outer, allow_unused=True))
    gradients = torch.autograd.grad(mflow.reconstruction_error(x).sum(), inner, allow_unused=True)
    assert all(gradient is None for gradient in gradients)
    # the volume does not depend on the density, so that this is the gradient of the likelihood
    of_loss = torch.autograd.grad(mflow.latent_loss(x), inner)
    of_likelihood = torch.autograd.grad(-mflow.log_prob(x).mean(), inner)
    for first, second in zip(of_loss, of_likelihood, strict=True):
        assert_allclose(first, second, atol=1e-12)
