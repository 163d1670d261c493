import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch.testing import assert_close

from caloman.flows import Affine, CopulaFlow, Coupling, CouplingFlow, LULinear, Permutation, Spline
from caloman.nn.mlp import PlainMLP, ResidualMLP

FEATURES, CONTEXT = 5, 3
MASK = torch.arange(FEATURES) % 2 == 0

TRANSFORMS = {
    "spline coupling": lambda: Coupling(MASK, CONTEXT, Spline(bins=6, bound=3.0), partial(ResidualMLP, hidden=16)),
    "plain spline coupling": lambda: Coupling(MASK, CONTEXT, Spline(bins=6, bound=3.0), partial(PlainMLP, hidden=16)),
    "affine coupling": lambda: Coupling(MASK, CONTEXT, Affine(), partial(ResidualMLP, hidden=16)),
    "permutation": lambda: Permutation(FEATURES),
    "LU": lambda: LULinear(FEATURES),
}
ELEMENTWISE = {"spline": Spline(bins=6, bound=3.0), "affine": Affine()}

small_flow = partial(CouplingFlow, transforms=3, hidden=16, bins=6, bound=3.0)


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def log_det_by_autograd(function, inputs):
    jacobian = torch.autograd.functional.jacobian(function, inputs)  # (N, D, N, D)
    return torch.linalg.slogdet(torch.stack([jacobian[i, :, i] for i in range(len(inputs))])).logabsdet


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_elementwise_inverse_and_slopes(kind):
    transform = ELEMENTWISE[kind]
    inputs, parameters = 2 * doubles(500, 4), doubles(500, 4, transform.n_parameters)
    for inverse in (False, True):
        x = inputs.clone().requires_grad_()
        outputs, log_slope = transform(x, parameters, inverse)
        restored, back = transform(outputs, parameters, not inverse)
        assert_close(restored, x)
        assert_close(back, -log_slope)
        assert_close(log_slope.exp(), torch.autograd.grad(outputs.sum(), x)[0])


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_elementwise_zeros_give_the_identity(kind):
    inputs = 2 * doubles(100, 4)
    outputs, log_slope = ELEMENTWISE[kind](inputs, torch.zeros(100, 4, ELEMENTWISE[kind].n_parameters).double())
    assert_close(outputs, inputs)
    assert_close(log_slope, torch.zeros_like(inputs))


def test_affine_scale_is_bounded():
    parameters = torch.tensor([[1e4, 0.0], [-1e4, 0.0]])
    _, log_scale = Affine()(torch.ones(2), parameters)
    assert_close(log_scale, torch.tensor([3.0, -3.0]), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_transform_inverse_and_log_determinant(kind, randomize):
    transform = randomize(TRANSFORMS[kind]()).double()
    inputs, context = doubles(6, FEATURES), doubles(6, CONTEXT)
    for there, back in ((transform.forward, transform.inverse), (transform.inverse, transform.forward)):
        outputs, log_det = there(inputs, context)
        restored, inverse_log_det = back(outputs, context)
        assert_close(restored, inputs)
        assert_close(inverse_log_det, -log_det)
        assert_close(log_det, log_det_by_autograd(lambda x, there=there: there(x, context)[0], inputs))


@pytest.mark.parametrize("kind", ["spline coupling", "affine coupling", "LU"])
def test_transform_starts_as_the_identity(kind):
    inputs, context = torch.randn(100, FEATURES), torch.randn(100, CONTEXT)
    outputs, log_det = TRANSFORMS[kind]()(inputs, context)
    assert_close(outputs, inputs, rtol=1e-5, atol=1e-5)
    assert_close(log_det, torch.zeros(100), rtol=0, atol=1e-5)


def test_coupling_leaves_the_masked_entries(randomize):
    coupling = randomize(TRANSFORMS["spline coupling"]())
    inputs = torch.randn(20, FEATURES)
    outputs, _ = coupling(inputs, torch.randn(20, CONTEXT))
    assert torch.equal(outputs[:, MASK], inputs[:, MASK])
    assert torch.all(outputs[:, ~MASK] != inputs[:, ~MASK])


def test_permutation_travels_with_the_state():
    a, b = Permutation(50), Permutation(50)
    inputs = torch.randn(3, 50)
    assert not torch.equal(a(inputs)[0], b(inputs)[0])
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(inputs)[0], b(inputs)[0])


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_flow_density_is_that_of_the_mapped_noise(kind, randomize):
    flow = randomize(small_flow(FEATURES, CONTEXT, elementwise=kind)).double()
    noise, context = doubles(6, FEATURES), doubles(6, CONTEXT)
    samples = flow.sample(noise, context)
    normal = -0.5 * noise.square().sum(1) - FEATURES / 2 * math.log(2 * math.pi)
    expected = normal - log_det_by_autograd(lambda x: flow.sample(x, context), noise)
    assert_close(flow.log_prob(samples, context), expected)


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_flow_starts_as_the_standard_normal(kind):
    flow = small_flow(FEATURES, CONTEXT, elementwise=kind)
    inputs = torch.randn(100, FEATURES)
    expected = torch.distributions.Normal(0, 1).log_prob(inputs).sum(1)
    assert_close(flow.log_prob(inputs, torch.randn(100, CONTEXT)), expected, rtol=1e-5, atol=1e-4)


def test_flow_depends_on_its_context(randomize):
    flow = randomize(small_flow(FEATURES, CONTEXT))
    noise = torch.randn(20, FEATURES)
    assert not torch.allclose(flow.sample(noise, torch.zeros(20, CONTEXT)), flow.sample(noise, torch.ones(20, CONTEXT)))


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_density_integrates_to_one_and_samples_follow_it(kind, randomize):
    flow = randomize(small_flow(2, 1, elementwise=kind), std=0.25).double()
    context, cells = doubles(1, 1), 500
    with torch.no_grad():
        samples = flow.sample(doubles(5000, 2), context.expand(5000, -1))
        low, high = samples.aminmax(dim=0)
        edges = low - (high - low) / 2 + 2 * (high - low) * torch.linspace(0, 1, cells + 1).double()[:, None]
        points = torch.cartesian_prod(*((edges[1:] + edges[:-1]) / 2).T)
        density = flow.log_prob(points, context.expand(len(points), -1)).exp().reshape(cells, cells)
    probability = density * (edges[1] - edges[0]).prod()
    assert probability.sum() == pytest.approx(1, abs=1e-3)
    for axis in (0, 1):
        cumulative = torch.cat([torch.zeros(1), probability.sum(1 - axis).cumsum(0)])
        cdf = partial(np.interp, xp=edges[:, axis].numpy(), fp=cumulative.numpy())
        assert kstest(samples[:, axis].numpy(), cdf).pvalue > 1e-4


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_every_parameter_gets_a_gradient(kind, randomize):
    flow = randomize(small_flow(FEATURES, CONTEXT, elementwise=kind))
    flow.log_prob(torch.randn(100, FEATURES), torch.randn(100, CONTEXT)).sum().backward()
    for name, parameter in flow.named_parameters():
        assert torch.all(torch.isfinite(parameter.grad)), name
        assert torch.any(parameter.grad != 0), name


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_flow_gives_float32_under_autocast(kind, randomize):
    flow = randomize(small_flow(FEATURES, CONTEXT, elementwise=kind))
    inputs, context = torch.randn(100, FEATURES), torch.randn(100, CONTEXT)
    with torch.autocast("cpu", torch.bfloat16):
        log_prob, samples = flow.log_prob(inputs, context), flow.sample(inputs, context)
    assert log_prob.dtype == samples.dtype == torch.float32
    assert torch.all(torch.isfinite(log_prob))
    assert torch.all(torch.isfinite(samples))


def test_linear_transform_is_inverted_to_float32_under_autocast(randomize):
    transform = randomize(LULinear(FEATURES))
    inputs = torch.randn(100, FEATURES)
    with torch.autocast("cpu", torch.bfloat16):
        restored, _ = transform(transform.inverse(inputs)[0])
    assert_close(restored, inputs, rtol=1e-4, atol=1e-4)


def test_flow_of_a_single_variable_rests_on_its_context(randomize):
    flow = randomize(small_flow(1, 2)).double()
    noise, context = doubles(50, 1), doubles(50, 2)
    samples = flow.sample(noise, context)
    slopes = log_det_by_autograd(lambda x: flow.sample(x, context), noise)
    expected = -0.5 * noise.square().sum(1) - 0.5 * math.log(2 * math.pi) - slopes
    assert_close(flow.log_prob(samples, context), expected)


def test_copula_flow_has_marginals_of_the_condition_alone(randomize):
    """Entry by entry before anything couples them, and the density of both together is that of the mapped noise."""
    flow = randomize(CopulaFlow(FEATURES, CONTEXT, small_flow), std=0.2).double()
    inputs, context = doubles(50, FEATURES), doubles(50, CONTEXT)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow.transforms[0](x, context)[0].sum(0), inputs)
    assert torch.all(jacobian.transpose(1, 2)[~torch.eye(FEATURES, dtype=torch.bool)] == 0)
    assert not torch.equal(flow.transforms[0](inputs, context)[0], flow.transforms[0](inputs, context + 1)[0])
    noise, log_det = flow.sample(inputs, context), log_det_by_autograd(lambda n: flow.sample(n, context), inputs)
    assert_close(flow.log_prob(noise, context), flow.log_prob_of_noise(inputs) - log_det)


@pytest.mark.parametrize("mixing", ["lu", "permutation"])
@pytest.mark.parametrize("features", [2, 5, 24, 367])
def test_each_pair_of_couplings_moves_every_entry_once(features, mixing):
    flow = CouplingFlow(features, transforms=8, hidden=4, blocks=0, mixing=mixing)
    assert sum(isinstance(transform, LULinear) for transform in flow.transforms) == 8 * (mixing == "lu")
    entries, moved = torch.arange(features).float()[None], []  # at the start couplings and matrices are the identity
    for transform in flow.transforms:
        if isinstance(transform, Coupling):
            moved.append(entries[0, transform.moved].round().int())
        entries, _ = transform(entries)
    halves = [{*half.tolist()} for half in moved]
    for first, second in zip(halves[::2], halves[1::2], strict=True):
        assert len(first) + len(second) == features
        assert first | second == set(range(features))
    assert features == 2 or len({frozenset(half) for half in halves}) > 2, "pairs have halves of their own"


def test_short_fit_finds_the_structure_of_a_ring():
    angle = 2 * math.pi * torch.rand(2000)
    points = torch.stack([angle.cos(), angle.sin()], dim=1) * (1.5 + 0.1 * torch.randn(2000, 1))
    train, test = points[:1500], points[1500:]
    flow = CouplingFlow(2, transforms=4, hidden=32, bound=3.0)
    before = flow.log_prob(test).mean().item()
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        (-flow.log_prob(train).mean()).backward()
        optimizer.step()
    assert flow.log_prob(test).mean().item() > before + 0.5
