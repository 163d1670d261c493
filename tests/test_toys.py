import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal, norm

from caloman.demonstrations import (
    Circle,
    CorrelatedGaussian,
    CorrelatedMixture,
    Lorenz,
    PolynomialSurface,
    UncorrelatedMixture,
)

TARGETS = [CorrelatedMixture, UncorrelatedMixture, CorrelatedGaussian]


@pytest.mark.parametrize(
    ("features", "weights"),
    [
        (4, [0.131190, 0.709802, 0.159008]),
        (16, [0.408560, 0.014007, 0.577433]),
        (100, [0.147641, 0.277252, 0.575107]),
        (1000, [0.252125, 0.288379, 0.459495]),
    ],
)
def test_the_correlated_mixture_is_the_published_one(features, weights):
    target = CorrelatedMixture(features)
    assert_allclose(target.weights, weights, atol=6e-7)
    assert_allclose(target.means[0, :3], [5.488135, 7.151894, 6.027634], atol=6e-7)


def test_densities_are_those_of_scipy():
    mixture, product, gaussian = (target(5) for target in TARGETS)
    x = mixture.sample(50, seed=1)
    components = [
        multivariate_normal(mean, np.diag(width**2)).pdf(x)
        for mean, width in zip(mixture.means, mixture.widths, strict=True)
    ]
    assert_allclose(mixture.log_prob(x), np.log(mixture.weights @ components))
    x = product.sample(50, seed=1)
    of_entries = 0.7 * norm(1.8, 0.2).pdf(x) + 0.3 * norm(3.3, 0.4).pdf(x)
    assert_allclose(product.log_prob(x), np.log(of_entries).sum(axis=1))
    x = gaussian.sample(50, seed=1)
    assert_allclose(
        gaussian.log_prob(x), multivariate_normal(gaussian.mean, gaussian.scale @ gaussian.scale.T).logpdf(x)
    )


def moments(target):
    """Mean (D,) and covariance (D, D) in closed form."""
    if isinstance(target, CorrelatedGaussian):
        return target.mean, target.scale @ target.scale.T
    mean = target.weights @ target.means
    if isinstance(target, UncorrelatedMixture):
        variance = target.weights @ (target.widths**2 + target.means**2) - mean**2
        return np.full(target.features, mean), variance * np.eye(target.features)
    within = np.diag(target.weights @ target.widths**2)
    centered = target.means - mean
    return mean, within + centered.T @ (target.weights[:, None] * centered)


@pytest.mark.parametrize("make", TARGETS)
def test_samples_have_the_moments_of_their_density(make):
    target, n = make(6), 100_000
    mean, covariance = moments(target)
    x = target.sample(n, seed=3)
    scale = np.sqrt(covariance.diagonal())
    assert_allclose(x.mean(axis=0) / scale, mean / scale, atol=5 / math.sqrt(n))
    assert_allclose(np.cov(x.T) / np.outer(scale, scale), covariance / np.outer(scale, scale), atol=0.03)
    assert (target.sample(9, seed=3) == target.sample(9, seed=3)).all()
    assert not np.isin(target.sample(9, seed=4), target.sample(9, seed=3)).any()


@pytest.mark.parametrize("make", TARGETS)
def test_targets_of_many_dimensions_are_well_conditioned(make):
    target = make(1000)
    log_prob = target.log_prob(target.sample(20, seed=0))
    assert np.isfinite(log_prob).all()
    assert log_prob.std() < 100  # sqrt(D / 2) for one Gaussian


def test_the_circle_has_the_published_likelihood_and_distance():
    circle = Circle()
    x = circle.sample(100_000, seed=0)
    assert circle.log_prob(x).mean() == pytest.approx(2.0, abs=0.02)
    assert np.linalg.norm(x - circle.project(x), axis=1).mean() == pytest.approx(0.008, abs=2e-4)
    assert_allclose(np.linalg.norm(circle.project(x), axis=1), 1)
    assert_allclose(np.linalg.norm(Circle(noise=0).sample(100, seed=0), axis=1), 1)


@pytest.mark.parametrize("width", [0.3, math.pi / 4, 3.0])
def test_the_densities_of_the_circle_integrate_to_one(width):
    circle = Circle(noise=0.05, width=width)
    angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    radius = np.linspace(0.5, 1.5, 101)
    unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert np.exp(circle.log_prob_on_manifold(unit)).mean() * 2 * np.pi == pytest.approx(1, abs=1e-6)
    plane = np.exp(circle.log_prob((radius[:, None, None] * unit).reshape(-1, 2))).reshape(101, 100)
    assert np.trapezoid(plane.mean(axis=1) * 2 * np.pi * radius, radius) == pytest.approx(1, abs=1e-6)


def test_the_density_of_the_surface_integrates_to_one_over_its_area():
    surface = PolynomialSurface(theta=-0.5)
    side = np.linspace(-10, 10, 201)
    points = surface.embed(np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2))
    mesh = points.reshape(201, 201, 3)
    along, across = mesh[1:, :-1] - mesh[:-1, :-1], mesh[:-1, 1:] - mesh[:-1, :-1]
    area = np.linalg.norm(np.cross(along, across), axis=2)
    density = np.exp(surface.log_prob_on_manifold(points)).reshape(201, 201)
    middle = (density[1:, 1:] + density[1:, :-1] + density[:-1, 1:] + density[:-1, :-1]) / 4
    assert (middle * area).sum() == pytest.approx(1, abs=2e-3)


def test_projections_on_the_surface_are_the_nearest_points(rng):
    surface = PolynomialSurface()
    x = surface.sample(200, seed=0)
    assert_allclose(surface.project(x), x, atol=1e-12)
    moved = x + 0.02 * rng.standard_normal(x.shape)
    nearest = surface.project(moved)
    assert_allclose(surface.project(nearest), nearest, atol=1e-9)
    around = surface.embed((nearest @ surface.rotation)[:, :2] + 0.005 * rng.standard_normal((200, 2)))
    assert (np.linalg.norm(moved - nearest, axis=1) <= np.linalg.norm(moved - around, axis=1)).all()


def test_a_narrow_component_makes_the_surface_denser():
    x = PolynomialSurface(theta=-1).sample(2000, seed=0)
    assert (
        PolynomialSurface(theta=-1).log_prob_on_manifold(x).mean()
        > PolynomialSurface(theta=1).log_prob_on_manifold(x).mean() + 0.5
    )


def test_lorenz_follows_its_equation_and_stays_on_the_attractor():
    lorenz, step = Lorenz(), 1e-3
    before, x, after = lorenz.follow(step * np.arange(3), seed=0).swapaxes(0, 1)
    assert_allclose((after - before) / (2 * step), lorenz.velocity(x), rtol=1e-3, atol=0.05)
    points = lorenz.sample(5000, seed=1)
    assert points.shape == (5000, 3)
    # the mean of dz/dt vanishes in the long run, and so do those of x and y
    assert_allclose(lorenz.velocity(points).mean(axis=0), 0, atol=2)
    assert_allclose(points.mean(axis=0), [0, 0, 23.55], atol=0.5)
    assert_allclose(points.std(axis=0), [7.92, 9.01, 8.62], atol=0.3)
