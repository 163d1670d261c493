from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from caloman.manifold import AVB, VAE, WAE, Autoencoder, BernoulliHead, GaussianHead, HurdleHead, SoftmaxHead
from caloman.preprocessing import LayerwiseTransform, LogStandardize
from caloman.showers.conditions import ENERGY_ONLY
from caloman.showers.geometry import BUILT_IN, Geometry, Layer


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("dataset", "latent_dim", "encoder", "decoder"),
    [("1-photons", 35, 2_215_510, 2_008_166), ("1-pions", 10, 2_419_921, 2_138_736)],
)
def test_published_parameter_counts(dataset, latent_dim, encoder, decoder):
    geometry = BUILT_IN[dataset]
    vae = VAE(geometry, LayerwiseTransform(geometry, ENERGY_ONLY).context_dim, latent_dim, head=GaussianHead)
    assert (count(vae.encoder), count(vae.decoder)) == (encoder, decoder)


def test_gaussian_head_has_one_width_per_shower(small):
    head = GaussianHead(small)
    parameters, shapes = torch.randn(20, head.n_parameters), torch.rand(20, 16)
    normal = Normal(parameters[:, :-1], parameters[:, -1:].exp())
    assert_close(head.log_prob(parameters, shapes), normal.log_prob(shapes).sum(1))
    assert torch.equal(head.sample(parameters, torch.zeros(20, 0)), parameters[:, :-1])


@pytest.fixture
def hurdle(rng):
    """Builds a fitted head for one layer of n voxels of log-normal size, each with its own hit rate."""

    def make(n):
        head = HurdleHead(Geometry("flat", "photon", (Layer(0, tuple(range(n + 1))),)))
        sizes = torch.from_numpy(rng.lognormal(-7, 1.5, (2000, n))).float()
        head.fit([sizes * (torch.rand(2000, n) < torch.linspace(0.2, 0.9, n))])
        return head

    return make


def same_for_all(parameters, rows):
    return parameters.expand(rows, -1)


LOG_GRID = torch.linspace(-85, 80, 33_001)


def integral(log_density):
    return torch.trapezoid(log_density.double().exp(), LOG_GRID.double()).item()


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_hurdle_likelihood_is_normalized_over_zero_and_all_log_sizes(hurdle, spread):
    head = hurdle(1)
    for _ in range(5):
        parameters = spread * torch.randn(1, head.n_parameters)
        nothing = head.log_prob(parameters, torch.zeros(1, 1)).exp().item()
        something = integral(head.log_prob(same_for_all(parameters, len(LOG_GRID)), LOG_GRID.exp()[:, None]))
        assert nothing + something == pytest.approx(1, abs=2e-3)


def test_hurdle_likelihood_adds_over_voxels(hurdle):
    head = hurdle(4)
    parameters = torch.randn(1, head.n_parameters)
    shapes = torch.tensor([[1e-3, 0, 2e-2, 0]])
    one_by_one = [head.log_prob(parameters, torch.where(torch.arange(4) == i, shapes, 0)) for i in range(4)]
    nothing = head.log_prob(parameters, torch.zeros(1, 4))
    assert_close(head.log_prob(parameters, shapes), sum(one_by_one) - 3 * nothing)


@pytest.mark.parametrize("voxel", [0, 15, 29])
def test_hurdle_samples_follow_the_likelihood(hurdle, voxel):
    n = 20_000
    head = hurdle(30)
    parameters = 0.3 * torch.randn(1, head.n_parameters)
    shapes = torch.zeros(len(LOG_GRID), 30)
    nothing = head.log_prob(parameters, shapes[:1])
    shapes[:, voxel] = LOG_GRID.exp()
    density = head.log_prob(same_for_all(parameters, len(shapes)), shapes) - nothing  # the other voxels cancel
    odds = integral(density)
    rate = odds / (1 + odds)

    samples = head.sample(same_for_all(parameters, n), torch.randn(n, 30))[:, voxel]
    hits = samples[samples > 0]
    assert len(hits) / n == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / n))
    cumulative = torch.cumulative_trapezoid(density.double().exp(), LOG_GRID.double()) / odds
    inner = hits[hits < 1].log().numpy()  # sizes end at 1, the whole layer
    assert len(inner) > 0.95 * len(hits)
    cdf = partial(np.interp, xp=LOG_GRID[1:].numpy(), fp=(cumulative / np.interp(0, LOG_GRID[1:], cumulative)).numpy())
    assert kstest(inner, cdf).pvalue > 1e-3


def test_hurdle_sample_is_monotone_in_its_noise(hurdle):
    head = hurdle(3)
    noise = torch.stack([torch.linspace(-6, 6, 1000), torch.full((1000,), 5.0), torch.zeros(1000)], dim=1)
    sizes = head.sample(same_for_all(torch.randn(1, head.n_parameters), 1000), noise)
    assert torch.all(sizes[:, 0].diff() >= 0)
    assert sizes[0, 0] == 0
    assert sizes[-1, 0] > 0
    assert_close(sizes[:, 1:], sizes[:1, 1:].expand(1000, -1))


@pytest.mark.parametrize("hit", [-20.0, -5.0, 0.0])
def test_hurdle_puts_a_hit_into_every_layer(small, hit):
    head = HurdleHead(small)
    parameters = torch.randn(500, head.n_parameters)
    parameters[:, : small.n_voxels] = hit
    shapes = head.sample(parameters, torch.randn(500, head.noise_dim))
    hits = head.layers.sum((shapes > 0).float())
    assert torch.all(hits >= 1)
    assert torch.all(torch.isfinite(shapes))
    if hit == -20:
        assert torch.all(hits == 1)


def test_hurdle_scores_restore_the_shapes_that_they_came_from(hurdle):
    head = hurdle(30)
    parameters, noise = 0.3 * torch.randn(500, head.n_parameters), torch.randn(500, 30).clamp(-4, 4)
    shapes = head.sample(parameters, noise)
    scores = head.to_noise(parameters, shapes)
    hit = (shapes > 1e-10) & (shapes < 1)  # sizes end at 1, the whole layer
    assert_close(scores[hit], noise[hit], rtol=1e-2, atol=1e-2)
    assert_close(head.sample(parameters, scores), shapes, rtol=5e-2, atol=0)
    # below the hurdle they are drawn anew, so that they are normal again
    assert kstest(scores.flatten().numpy(), "norm").pvalue > 1e-3


def test_hurdle_fit_finds_rates_and_moments(hurdle):
    head = hurdle(8)
    assert_close(head.hit_logit.sigmoid(), torch.linspace(0.2, 0.9, 8), rtol=0, atol=0.05)
    assert_close(head.log_mean, torch.full((8,), -7.0), rtol=0, atol=0.3)
    assert_close(head.log_std, torch.full((8,), 1.5), rtol=0.1, atol=0)


HEADS = [GaussianHead, BernoulliHead, SoftmaxHead, HurdleHead]


@pytest.fixture
def batch(make_showers, small):
    showers = make_showers(64, small)
    prepared = LayerwiseTransform(small, ENERGY_ONLY, small.threshold)(
        torch.from_numpy(showers.voxels), torch.from_numpy(showers.incident_energies)[:, None]
    )
    return prepared.shapes, prepared.context


def make(kind, small, batch, head, **options):
    autoencoder = kind(small, 4, latent_dim=3, hidden=(16, 16), head=head, scaling=LogStandardize, **options)
    autoencoder.fit(lambda: [batch])
    return autoencoder


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("beta", [1.0, 0.2])
def test_vae_loss_is_the_negative_evidence_bound(small, batch, head, beta):
    vae = make(VAE, small, batch, head, beta=beta)
    shapes, context = batch
    torch.manual_seed(7)
    loss = vae.loss(shapes, context)
    torch.manual_seed(7)
    mean = vae.encode(shapes, context)
    posterior = Normal(mean, vae.encode(shapes, context, torch.ones_like(mean)) - mean)
    latents = mean + posterior.scale * torch.randn_like(mean)
    likelihood = vae.head.log_prob(vae.decoder(latents, vae.context_scaling(context)), shapes)
    divergence = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1)
    assert_close(loss["loss"], (beta * divergence - likelihood).mean())
    assert_close(loss["divergence"], divergence.mean())


@pytest.mark.parametrize("head", HEADS)
def test_autoencoder_loss_is_the_negative_likelihood_of_its_reconstruction(small, batch, head):
    autoencoder = make(Autoencoder, small, batch, head)
    shapes, context = batch
    parameters = autoencoder.decoder(autoencoder.encode(shapes, context), autoencoder.context_scaling(context))
    assert_close(autoencoder.loss(shapes, context)["loss"], -autoencoder.head.log_prob(parameters, shapes).mean())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", [Autoencoder, VAE, WAE])
def test_loss_reaches_every_parameter(kind, small, batch, head):
    autoencoder = make(kind, small, batch, head)
    autoencoder.loss(*batch)["loss"].backward()
    for name, parameter in autoencoder.named_parameters():
        assert torch.all(torch.isfinite(parameter.grad)), name
        assert torch.any(parameter.grad != 0), name


@pytest.mark.parametrize("kind", [Autoencoder, VAE, WAE, AVB])
def test_encoding_without_noise_is_deterministic(kind, small, batch):
    autoencoder = make(kind, small, batch, GaussianHead)
    latents = autoencoder.encode(*batch)
    assert latents.shape == (64, 3)
    assert torch.equal(latents, autoencoder.encode(*batch))


def test_variational_encoding_is_normal_around_its_mean(small, batch):
    vae = make(VAE, small, batch, GaussianHead)
    noise = torch.randn(64, 3)
    mean = vae.encode(*batch)
    assert_close(vae.encode(*batch, noise) + vae.encode(*batch, -noise), 2 * mean)
    assert torch.all(vae.encode(*batch, noise) != mean)


@pytest.mark.parametrize("head", [GaussianHead, HurdleHead])
def test_short_training_improves_the_likelihood(small, batch, head):
    vae = make(VAE, small, batch, head)
    before = vae.loss(*batch)["loss"].item()
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-2)
    for _ in range(50):
        optimizer.zero_grad()
        vae.loss(*batch)["loss"].backward()
        optimizer.step()
    assert vae.loss(*batch)["loss"].item() < before - 5


def test_scores_are_the_noise_that_gives_the_shapes_back(photons, make_showers):
    torch.manual_seed(0)
    head = HurdleHead(photons)
    voxels = torch.from_numpy(make_showers(200, photons).voxels)
    layers = head.layers
    shapes = voxels * layers.broadcast(torch.where(layers.sum(voxels) > 0, 1 / layers.sum(voxels), 0))
    head.fit([shapes])
    parameters = 0.3 * torch.randn(200, head.n_parameters)
    scores = head.to_noise(parameters, shapes)
    again = head.sample(parameters, scores)
    filled = layers.broadcast(layers.sum(shapes)) > 0  # an empty layer is given a hit here
    assert torch.equal((again > 0)[filled], (shapes > 0)[filled])
    hits = (shapes > 0) & (scores.abs() < 4)
    same = torch.isclose(again[hits], shapes[hits], rtol=1e-2)
    assert same.float().mean() > 0.98  # the others are far smaller than a random head expects, and are cut off there


def test_scores_of_samples_are_standard_normal(photons):
    head = HurdleHead(photons)
    head.log_mean.fill_(-8.0)
    parameters = 0.3 * torch.randn(1, head.n_parameters).expand(2000, -1)
    scores = head.to_noise(parameters, head.sample(parameters, torch.randn(2000, head.noise_dim)))
    assert kstest(scores[:, 20:30].flatten().numpy(), "norm").pvalue > 1e-3


def test_scores_far_in_the_tail_keep_their_digits(small):
    head = HurdleHead(small)
    noise = torch.tensor([[3.0, 4.0, 5.0, 5.5]]).repeat(1, 4)
    parameters = torch.zeros(1, head.n_parameters)
    parameters[:, 16:32] = -10  # small sizes, for they end at 1
    wide = -torch.special.ndtri(torch.special.ndtr(-noise.double()) / 0.5)
    assert_close(head.sample(parameters, noise).double(), (wide - 10).exp(), rtol=3e-5, atol=0)
