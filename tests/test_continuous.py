import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.testing import assert_close

from caloman.flows import FlowMatching

MEAN, STD = 0.7, 0.4


class GaussianVelocity(nn.Module):
    """The exact field from a standard normal distribution to N(MEAN, STD^2) on straight paths."""

    def forward(self, points, time, context=None):
        variance = (1 - time) ** 2 + (time * STD) ** 2
        return MEAN + (time * STD**2 - (1 - time)) / variance * (points - time * MEAN)


@pytest.mark.parametrize("solver", ["midpoint", "heun"])
def test_exact_field_carries_noise_to_the_gaussian(solver):
    flow = FlowMatching(3, steps=200, solver=solver).double()
    flow.network = GaussianVelocity()
    noise = torch.randn(100, 3, dtype=torch.float64)
    samples = flow.sample(noise)
    assert_close(samples, MEAN + STD * noise, rtol=0, atol=1e-3)
    assert_close(flow.log_prob(samples), Normal(MEAN, STD).log_prob(samples).sum(1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("solver", ["midpoint", "heun"])
def test_solvers_are_of_second_order(solver):
    noise = torch.randn(100, 1, dtype=torch.float64)
    errors = []
    for steps in (20, 40):
        flow = FlowMatching(1, steps=steps, solver=solver)
        flow.network = GaussianVelocity()
        errors.append((flow.sample(noise) - MEAN - STD * noise).abs().max().item())
    assert errors[0] / errors[1] > 3.5


def test_density_integrates_to_one(randomise):
    flow = randomise(FlowMatching(2, context=1, hidden=8, blocks=1, steps=20), std=0.3).double()
    axis = torch.linspace(-8, 8, 100, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = flow.log_prob(points, torch.ones(len(points), 1, dtype=torch.float64)).exp()
    assert density.sum().item() * (axis[1] - axis[0]).item() ** 2 == pytest.approx(1, abs=5e-3)


def test_loss_is_the_error_of_the_velocity():
    data = 2 + 3 * torch.randn(100_000, 2)
    flow = FlowMatching(2, hidden=8)  # no velocity yet, so the error is E|x - z|^2
    assert flow.loss(data).item() == pytest.approx(4 + 9 + 1, rel=0.02)
    flow = FlowMatching(2)
    flow.network = GaussianVelocity()
    # what remains is the variance of x - z on the lines through a point: the mean over t of s^2 / ((1-t)^2 + t^2 s^2)
    time = torch.linspace(0, 1, 10_001)
    expected = (STD**2 / ((1 - time) ** 2 + time**2 * STD**2)).mean().item()
    assert flow.loss(MEAN + STD * torch.randn(100_000, 2)).item() == pytest.approx(expected, rel=0.02)


def test_training_learns_two_conditional_peaks():
    flow = FlowMatching(1, context=1, hidden=32, blocks=1, steps=10)
    optimiser = torch.optim.Adam(flow.parameters(), lr=3e-3)
    for _ in range(400):
        context = torch.rand(256, 1).round()
        data = 4 * context - 2 + 0.3 * torch.randn(256, 1)
        optimiser.zero_grad()
        flow.loss(data, context).backward()
        optimiser.step()
    with torch.no_grad():
        for side in (0.0, 1.0):
            context = torch.full((2000, 1), side)
            samples = flow.sample(torch.randn(2000, 1), context)
            assert samples.mean().item() == pytest.approx(4 * side - 2, abs=0.1)
            assert samples.std().item() == pytest.approx(0.3, abs=0.1)
            expected = Normal(4 * side - 2, 0.3).log_prob(samples).mean().item()
            assert flow.log_prob(samples, context).mean().item() == pytest.approx(expected, abs=0.3)
