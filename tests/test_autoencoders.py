import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.testing import assert_close

from caloman.manifold import AVB, VAE, WAE
from caloman.manifold.adversarial import Adversary
from caloman.manifold.wasserstein import squared_mmd
from caloman.nn.mlp import start_at_zero
from caloman.showers.conditions import ENERGY_ONLY
from caloman.showers.geometry import Geometry, Layer
from caloman.training.config import load_pipeline


def test_mmd_is_that_of_a_double_loop(rng):
    x, y = rng.normal(size=(7, 3)), rng.normal(1.0, size=(5, 3))

    def mean_kernel(a, b, same):
        values = [
            6 / (6 + np.sum((p - q) ** 2)) for i, p in enumerate(a) for j, q in enumerate(b) if not (same and i == j)
        ]
        return np.mean(values)

    expected = mean_kernel(x, x, True) + mean_kernel(y, y, True) - 2 * mean_kernel(x, y, False)
    assert squared_mmd(torch.from_numpy(x), torch.from_numpy(y)).item() == pytest.approx(expected, rel=1e-12)


def test_mmd_is_unbiased_for_equal_distributions_and_sees_a_shift():
    equal = torch.stack([squared_mmd(torch.randn(20, 2), torch.randn(20, 2)) for _ in range(500)])
    assert abs(equal.mean()) < 4 * equal.std() / math.sqrt(500)
    assert squared_mmd(torch.randn(200, 2) + 1, torch.randn(200, 2)) > 5 * equal.std()


def test_mmd_of_a_single_point_is_finite():
    x = torch.randn(1, 2, requires_grad=True)
    squared_mmd(x, torch.randn(1, 2)).backward()
    assert torch.all(torch.isfinite(x.grad))


WEIGHTS = torch.tensor([[1.0, 0.8], [0.2, 0.9], [0.5, 0.1]])
NOISE = 0.5


class LinearDecoder(nn.Module):
    """Parameters of a Gaussian head for x = W z + noise, whose posterior is known."""

    def forward(self, latents, context):
        return torch.cat([latents @ WEIGHTS.T.to(latents), latents.new_full((len(latents), 1), math.log(NOISE))], dim=1)


def linear_data(n):
    return torch.randn(n, 2) @ WEIGHTS.T + NOISE * torch.randn(n, 3), torch.zeros(n, 1)


def trained(kind, steps, rate=5e-3, **options):
    geometry = Geometry("flat", "photon", (Layer(0, (0, 1, 2, 3)),))
    autoencoder = kind(geometry, 1, latent_dim=2, hidden=(32, 32), **options)
    autoencoder.decoder = LinearDecoder()
    groups = [
        {"params": child.parameters(), "lr": rate * kind.rates.get(name, 1.0)}
        for name, child in autoencoder.named_children()
    ]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        autoencoder.loss(*linear_data(256))["loss"].backward()
        optimizer.step()
        schedule.step()
    return autoencoder


def test_avb_with_an_exact_adversary_has_the_loss_of_its_posterior():
    """Without a warp the noise is normal; an adversary that knows this leaves the plain Monte Carlo estimate."""
    avb = trained(AVB, steps=0).double()
    start_at_zero(avb.adversary.discriminator.last)
    shapes, context = (part.double() for part in linear_data(100))
    mean, log_width = avb.encoder(shapes, context)[:, :4].chunk(2, dim=1)
    torch.manual_seed(3)
    losses = avb.loss(shapes, context)
    torch.manual_seed(3)
    posterior = Normal(mean, log_width.exp())
    latents = mean + log_width.exp() * torch.randn_like(mean)
    divergence = (posterior.log_prob(latents) - Normal(0, 1).log_prob(latents)).sum(1).mean()
    likelihood = Normal(latents @ WEIGHTS.double().T, NOISE).log_prob(shapes).sum(1).mean()
    assert_close(losses["divergence"], divergence)
    assert_close(losses["loss"], divergence - likelihood)


def test_avb_finds_correlations_of_the_posterior_beyond_a_factorized_gaussian():
    covariance = (torch.eye(2) + WEIGHTS.T @ WEIGHTS / NOISE**2).inverse()  # of the true posterior, correlated by -0.63
    data, noise = linear_data(20_000), torch.randn(20_000, 2)
    truth = data[0] @ WEIGHTS / NOISE**2 @ covariance
    deviations = [trained(kind, steps=400).encode(*data, noise).detach() - truth for kind in (AVB, VAE)]
    implicit, factorized = (torch.corrcoef(deviation.T)[0, 1].item() for deviation in deviations)
    assert abs(factorized) < 0.1
    assert -1 < implicit < -0.35


def test_adversary_learns_the_density_of_its_samples():
    adversary = Adversary(1, 1, 32)
    optimizer = torch.optim.Adam(adversary.parameters(), 5e-3)

    def samples(n):  # two peaks whose distance the condition tells
        context = torch.rand(n, 1)
        return (1 + context) * torch.randn(n, 1).sign() + 0.5 * torch.randn(n, 1), context

    for _ in range(400):
        optimizer.zero_grad()
        adversary.loss(*samples(256)).backward()
        optimizer.step()
    x, context = samples(5000)
    peaks = [Normal(sign * (1 + context), 0.5).log_prob(x) for sign in (-1, 1)]
    truth = torch.logsumexp(torch.cat(peaks, dim=1), dim=1) - math.log(2)
    assert (truth - adversary(x, context)).mean().item() == pytest.approx(0, abs=0.3)
    assert torch.corrcoef(torch.stack([truth, adversary(x, context)]))[0, 1] > 0.9


def test_avb_starts_as_the_vae():
    avb = trained(AVB, steps=0)
    shapes, context = linear_data(50)
    noise = torch.randn(50, 2)
    mean = avb.encode(shapes, context)
    assert_close(avb.encode(shapes, context, noise) + avb.encode(shapes, context, -noise), 2 * mean)


def test_each_side_of_avb_has_its_own_gradient():
    avb = trained(AVB, steps=3)
    batch = linear_data(50)
    avb.zero_grad()
    losses = avb.loss(*batch)
    losses["adversary_loss"].backward(retain_graph=True)
    assert {name.split(".")[0] for name, weight in avb.named_parameters() if weight.grad is not None} == {"adversary"}
    ours = {name: weight.grad.clone() for name, weight in avb.adversary.named_parameters()}
    avb.zero_grad()
    losses["loss"].backward()
    for name, weight in avb.adversary.named_parameters():
        assert torch.equal(weight.grad, ours[name])
    assert losses["loss"].item() == pytest.approx((losses["divergence"] - losses["log_likelihood"]).item(), rel=1e-5)


@pytest.mark.parametrize(("kind", "weight"), [(WAE, {"mmd_weight": 100.0}), (VAE, {})])
def test_latents_become_standard_normal(kind, weight):
    latents = trained(kind, steps=200, **weight)
    latents = latents.encode(*linear_data(5000), torch.randn(5000, 2))
    assert_close(latents.mean(0), torch.zeros(2), rtol=0, atol=0.15)
    assert_close(latents.T.cov().diagonal(), torch.ones(2), rtol=0, atol=0.2)


def test_the_adversary_has_a_learning_rate_of_its_own(config):
    config.write_text(config.read_text().replace("caloman.manifold.VAE", "caloman.manifold.AVB"))
    pipeline, _ = load_pipeline(config)
    task = pipeline.stages["autoencoder"].task(pipeline.model(Geometry.load("1-photons"), ENERGY_ONLY))
    groups = {round(group["lr"] / task.learning_rate, 6): set(group["params"]) for group in task.parameter_groups()}
    autoencoder = task.shape.autoencoder
    assert groups == {3.0: set(autoencoder.adversary.parameters()), 1.0: groups[1.0]}
    assert groups[1.0] | groups[3.0] == set(autoencoder.parameters())
