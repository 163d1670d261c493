import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.testing import assert_close

from caloman.rivals import FlowMatching, VelocityMLP

MEAN, STD = 0.7, 0.4


class GaussianVelocity(nn.Module):
    """The exact field from a standard normal distribution to N(MEAN, STD^2) on arcs, over pi / 2."""

    def forward(self, points, time, context=None):
        cos, sin = (math.pi / 2 * time).cos(), (math.pi / 2 * time).sin()
        variance = cos**2 + (sin * STD) ** 2
        return cos * MEAN + sin * cos * (STD**2 - 1) / variance * (points - sin * MEAN)


def test_exact_field_carries_noise_to_the_gaussian():
    flow = FlowMatching(3, steps=200).double()
    flow.network = GaussianVelocity()
    noise = torch.randn(20, 3, dtype=torch.float64)
    samples = flow.sample(noise)
    assert_close(samples, MEAN + STD * noise, rtol=0, atol=1e-3)
    assert_close(flow.log_prob(samples), Normal(MEAN, STD).log_prob(samples).sum(1), rtol=0, atol=1e-3)


def test_an_untrained_field_is_exact_for_unit_gaussians():
    flow = FlowMatching(5, context=2, steps=1)
    noise, context = torch.randn(20, 5), torch.randn(20, 2)
    assert torch.equal(flow.sample(noise, context), noise)
    assert_close(flow.log_prob(noise, context), Normal(0, 1).log_prob(noise).sum(1))


def test_the_solver_is_of_second_order():
    noise = torch.randn(100, 1, dtype=torch.float64)
    errors = []
    for steps in (16, 32):
        flow = FlowMatching(1, steps=steps)
        flow.network = GaussianVelocity()
        errors.append((flow.sample(noise) - MEAN - STD * noise).abs().max().item())
    assert errors[0] / errors[1] > 3.5


def test_density_integrates_to_one(randomize, monkeypatch):
    monkeypatch.setattr("caloman.rivals.velocity.CONDITION", 8)
    flow = FlowMatching(2, context=1, network=partial(VelocityMLP, hidden=8, blocks=1), steps=40)
    randomize(flow, std=0.3).double()
    axis = torch.linspace(-7, 7, 60, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = flow.log_prob(points, torch.ones(len(points), 1, dtype=torch.float64)).exp()
    assert density.sum().item() * (axis[1] - axis[0]).item() ** 2 == pytest.approx(1, abs=5e-3)
    assert density.max() > 2 / (2 * math.pi), "this field is too close to none"


def test_loss_is_the_error_of_the_velocity_less_that_of_zeros():
    data = MEAN + STD * torch.randn(100_000, 2)
    flow = FlowMatching(2, network=partial(VelocityMLP, hidden=8))
    assert flow.loss(data).item() == 0
    flow.network = GaussianVelocity()
    # what remains is the variance of the velocities through a point: the mean over t of s^2 / (cos^2 + s^2 sin^2)
    angle = math.pi / 2 * torch.linspace(0, 1, 10_001)
    remaining = (STD**2 / (angle.cos() ** 2 + STD**2 * angle.sin() ** 2)).mean().item()
    assert flow.loss(data).item() == pytest.approx(remaining - (MEAN**2 + STD**2 + 1) / 2, abs=0.01)


def test_training_learns_two_conditional_peaks(monkeypatch):
    monkeypatch.setattr("caloman.rivals.velocity.CONDITION", 32)
    flow = FlowMatching(1, context=1, network=partial(VelocityMLP, hidden=32, blocks=1), steps=10)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    for _ in range(400):
        context = torch.rand(256, 1).round()
        data = 4 * context - 2 + 0.3 * torch.randn(256, 1)
        optimizer.zero_grad()
        flow.loss(data, context).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        for side in (0.0, 1.0):
            context = torch.full((2000, 1), side)
            samples = flow.sample(torch.randn(2000, 1), context)
            assert samples.mean().item() == pytest.approx(4 * side - 2, abs=0.1)
            assert samples.std().item() == pytest.approx(0.3, abs=0.1)
            expected = Normal(4 * side - 2, 0.3).log_prob(samples).mean().item()
            assert flow.log_prob(samples, context).mean().item() == pytest.approx(expected, abs=0.3)
