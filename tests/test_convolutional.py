"""Couplings conditioned by convolutions: exact, and the same all around the axis."""

import math

import pytest
import torch
from torch.testing import assert_close

from caloman.errors import CalomanError
from caloman.rivals import ConvolutionalCouplingFlow
from caloman.rivals.convolutional import ChannelMixing, Squeeze
from caloman.rivals.planes import PlaneEmbedding, squeeze

SHAPE = (4, 3)
SQUEEZES = [(2, 1), (2, 3), (1, 3)]


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def make(factors=(2, 1), context=12, shape=SHAPE):
    return ConvolutionalCouplingFlow(
        math.prod(shape), context, shape, factors, transforms=3, bins=4, hidden=6, blocks=1
    )


def log_det_by_autograd(function, inputs):
    jacobian = torch.autograd.functional.jacobian(function, inputs)  # (N, D, N, D)
    return torch.linalg.slogdet(torch.stack([jacobian[i, :, i] for i in range(len(inputs))])).logabsdet


def test_squeeze_makes_channels_of_neighbors():
    planes = torch.arange(24.0).reshape(1, 24)  # two planes of four bins in alpha and three in r
    channels = squeeze(planes, SHAPE, (2, 3))
    assert channels.shape == (1, 12, 2, 1)
    assert channels[0, :6, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert channels[0, :6, 1, 0].tolist() == [6, 7, 8, 9, 10, 11]
    assert squeeze(planes, SHAPE, (2, 1)).shape == (1, 4, 2, 3)
    outputs, _ = Squeeze(SHAPE, (2, 1))(planes[:, :12])
    assert torch.equal(outputs, squeeze(planes[:, :12], SHAPE, (2, 1)).flatten(1))


@pytest.mark.parametrize("factors", SQUEEZES)
@pytest.mark.parametrize("context", [0, 24])
def test_inverse_and_log_determinant_both_ways(factors, context, randomize):
    flow = randomize(make(factors, context), std=0.1).double()
    inputs, condition = doubles(3, 12), doubles(3, context) if context else None
    for inverse in (False, True):
        steps = flow.trace(inputs, condition, inverse)
        assert_close(flow.trace(steps[-1].outputs, condition, not inverse)[-1].outputs, inputs)
        log_det = sum(step.log_det for step in steps)
        expected = log_det_by_autograd(lambda x, inv=inverse: flow.trace(x, condition, inv)[-1].outputs, inputs)
        assert_close(log_det, expected)


def test_starts_as_the_standard_normal():
    inputs = torch.randn(50, 12)
    expected = torch.distributions.Normal(0, 1).log_prob(inputs).sum(1)
    assert_close(make().log_prob(inputs, torch.randn(50, 12)), expected, rtol=1e-5, atol=1e-4)


def test_integrates_to_one(randomize):
    flow = randomize(make((2, 1), context=2, shape=(2, 1)), std=0.25).double()
    centers = -6 + 0.05 * (torch.arange(240, dtype=torch.float64) + 0.5)
    points = torch.cartesian_prod(centers, centers)
    with torch.no_grad():
        density = flow.log_prob(points, torch.full_like(points, 0.3)).exp()
    assert density.sum().item() * 0.05**2 == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("factors", SQUEEZES)
def test_a_turned_plane_under_a_turned_condition_is_as_likely(factors, randomize):
    flow = randomize(make(factors)).double()
    for norm in flow.transforms[1::3]:  # learns each voxel by itself
        torch.nn.init.zeros_(norm.shift), torch.nn.init.zeros_(norm.log_scale)
    inputs, context = doubles(5, *SHAPE), doubles(5, *SHAPE)
    turned = [x.roll(factors[0], dims=1).flatten(1) for x in (inputs, context)]
    log_prob = flow.log_prob(inputs.flatten(1), context.flatten(1))
    assert_close(flow.log_prob(*turned), log_prob)
    assert not torch.allclose(flow.log_prob(turned[0], context.flatten(1)), log_prob)


@pytest.mark.parametrize("planes", [0, 2])
def test_the_embedding_turns_with_its_planes(planes, randomize):
    embedding = randomize(PlaneEmbedding(3, planes, SHAPE, 5)).double()
    numbers, maps = doubles(7, 3), doubles(7, planes, *SHAPE)
    before = embedding(torch.cat([numbers, maps.flatten(1)], 1)).unflatten(1, (5, *SHAPE))
    after = embedding(torch.cat([numbers, maps.roll(1, 2).flatten(1)], 1)).unflatten(1, (5, *SHAPE))
    assert_close(after, before.roll(1, 2))
    assert not torch.allclose(embedding(torch.cat([-numbers, maps.flatten(1)], 1)), before.flatten(1))


def test_channels_mix_in_every_cell_alike(randomize):
    mixing = randomize(ChannelMixing(3)).double()
    cells = doubles(4, 3, 5)
    outputs = mixing(cells.flatten(1))[0].unflatten(1, (3, 5))
    assert_close(mixing(cells.flip(2).flatten(1))[0].unflatten(1, (3, 5)), outputs.flip(2))


def test_every_parameter_gets_a_gradient(randomize):
    flow = randomize(make())
    flow.log_prob(torch.randn(200, 12), torch.randn(200, 12)).sum().backward()
    for name, parameter in flow.named_parameters():
        assert torch.all(torch.isfinite(parameter.grad)), name
        assert torch.any(parameter.grad != 0), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 11}, "does not fit 11 voxels"),
        ({"context": 5}, "under 5 numbers"),
        ({"squeeze": (3, 1)}, "does not cut"),
        ({"squeeze": (1, 1)}, "at least two bins"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(CalomanError, match=message):
        ConvolutionalCouplingFlow(**{"features": 12, "context": 12, "shape": SHAPE} | options)
