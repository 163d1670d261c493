import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from zuko.transforms import AutoregressiveTransform, DependentTransform, MonotonicAffineTransform

from caloman.demonstrations import GaussianMixture
from caloman.errors import CalomanError
from caloman.flows import ActNorm, Affine, Autoregressive, AutoregressiveFlow, CouplingFlow, Flow, Permutation, Spline
from caloman.nn.masked import MADE, MADESequence

CELLS = {
    (kind, elementwise): partial(flow, elementwise=elementwise, transforms=2, hidden=16, bins=5, bound=3.0, **options)
    for elementwise in ("affine", "spline")
    for kind, flow, options in [
        ("coupling", CouplingFlow, {}),
        ("density", AutoregressiveFlow, {"direction": "density", "mixing": "reverse"}),
        ("sampling", AutoregressiveFlow, {"direction": "sampling", "mixing": "lu"}),
        ("residual", AutoregressiveFlow, {"residual": True, "actnorm": True}),
    ]
}
cells = pytest.mark.parametrize("make", CELLS.values(), ids=["-".join(cell) for cell in CELLS])


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def log_det_by_autograd(function, inputs):
    jacobian = torch.autograd.functional.jacobian(function, inputs)  # (N, D, N, D)
    return torch.linalg.slogdet(torch.stack([jacobian[i, :, i] for i in range(len(inputs))])).logabsdet


@given(
    features=st.integers(1, 7),
    context=st.integers(0, 2),
    hidden=st.integers(1, 12),
    blocks=st.integers(0, 2),
    residual=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=25)
def test_made_outputs_see_the_entries_before_theirs_and_the_condition(
    features, context, hidden, blocks, residual, seed
):
    torch.manual_seed(seed)
    made = MADE(features, context, 3, hidden, blocks, residual).double()
    condition = doubles(1, context) if context else None
    inputs = doubles(1, features)
    jacobian = torch.autograd.functional.jacobian(lambda x: made(x, condition).unflatten(1, (3, -1)), inputs)
    sees = (jacobian != 0).any(dim=1)[0, :, 0]  # entry, input
    assert not sees.triu().any()

    sequence = MADESequence(made.eval(), 1, condition)
    expected = made(inputs, condition).unflatten(1, (3, -1))
    with torch.no_grad():
        for i in range(features):
            assert_close(sequence.outputs(i), expected[0, :, i, None])
            sequence.append(i, inputs[:, i])


def test_a_wide_made_uses_every_allowed_connection():
    made = MADE(4, 1, 1, hidden=64).double()
    jacobian = torch.autograd.functional.jacobian(lambda x: made(x, torch.ones(1, 1).double()), doubles(1, 4))[0, :, 0]
    assert torch.equal(jacobian != 0, torch.ones(4, 4, dtype=torch.bool).tril(-1))
    by_condition = torch.autograd.functional.jacobian(lambda c: made(doubles(1, 4), c), torch.ones(1, 1).double())
    assert torch.all(by_condition != 0)


def test_masks_hold_in_training_and_in_evaluation(randomize):
    made = randomize(MADE(5, 0, 2, hidden=20))
    inputs = torch.randn(10, 5)
    training = made(inputs)
    assert torch.equal(made.eval()(inputs), training)


@pytest.mark.parametrize("direction", ["density", "sampling"])
def test_affine_transform_agrees_with_zuko_on_the_same_conditioner(direction, randomize):
    transform = randomize(Autoregressive(5, 2, Affine(), direction, hidden=16)).double().eval()
    inputs, context = doubles(20, 5), doubles(20, 2)

    def meta(conditioned):
        scale, shift = transform.conditioner(conditioned, context).unflatten(1, (2, -1)).unbind(1)
        if direction == "sampling":  # there zuko maps from noise to data, which is our inverse
            scale, shift = -scale, -shift * Affine()(torch.zeros(20, 5), torch.stack([-scale, 0 * shift], -1))[1].exp()
        return DependentTransform(MonotonicAffineTransform(shift, scale, slope=math.exp(-3)), 1)

    oracle = AutoregressiveTransform(meta, passes=5)
    with torch.no_grad():
        one_pass = transform if direction == "density" else transform.inverse
        many = transform.inverse if direction == "density" else transform.forward
        for result, expected in (
            (one_pass(inputs, context), oracle.call_and_ladj(inputs)),
            (many(inputs, context), oracle.inv.call_and_ladj(inputs)),
        ):
            assert_close(result, expected)


@cells
@pytest.mark.parametrize("context", [0, 2])
def test_cell_inverse_and_log_determinant_both_ways(make, context, randomize):
    flow = randomize(make(4, context)).double()
    inputs, condition = doubles(5, 4), doubles(5, context) if context else None
    for inverse in (False, True):
        steps = flow.trace(inputs, condition, inverse)
        back = flow.trace(steps[-1].outputs, condition, not inverse)
        assert_close(back[-1].outputs, inputs)
        log_det = sum(step.log_det for step in steps)
        assert_close(sum(step.log_det for step in back), -log_det)
        expected = log_det_by_autograd(lambda x, inv=inverse: flow.trace(x, condition, inv)[-1].outputs, inputs)
        assert_close(log_det, expected)


@cells
def test_cell_without_a_gradient_gives_the_same(make, randomize):
    flow = randomize(make(6, 2)).double()
    noise, context = doubles(5, 6), doubles(5, 2)
    samples = flow.sample(noise, context)
    log_prob = flow.log_prob(samples, context)
    with torch.no_grad():
        assert_close(flow.sample(noise, context), samples.detach())
        assert_close(flow.log_prob(samples, context), log_prob.detach())


@cells
def test_cell_starts_as_the_standard_normal(make):
    flow = make(5, 2)
    inputs = torch.randn(50, 5)
    expected = torch.distributions.Normal(0, 1).log_prob(inputs).sum(1)
    assert_close(flow.log_prob(inputs, torch.randn(50, 2)), expected, rtol=1e-5, atol=1e-4)


@cells
def test_cell_integrates_to_one(make, randomize):
    flow = randomize(make(2, 1), std=0.25).double()
    assert integral(flow) == pytest.approx(1, abs=1e-3)


def integral(density, cells=400):
    """Of a density of two variables, by the midpoint rule in a box that holds its samples with a margin."""
    context = torch.full((1, 1), 0.3).double()
    with torch.no_grad():
        samples = density.sample(doubles(20_000, 2), context.expand(20_000, -1))
        low, high = samples.aminmax(dim=0)
        width = 1.6 * (high - low) / cells
        centers = (low + high)[:, None] / 2 + width[:, None] * (torch.arange(cells) + 0.5 - cells / 2)
        points = torch.cartesian_prod(*centers)
        return density.log_prob(points, context.expand(len(points), -1)).exp().sum().item() * width.prod().item()


@cells
def test_every_parameter_of_a_cell_gets_a_gradient(make, randomize):
    flow = randomize(make(5, 2))
    flow.log_prob(torch.randn(100, 5), torch.randn(100, 2)).sum().backward()
    for name, parameter in flow.named_parameters():
        assert torch.all(torch.isfinite(parameter.grad)), name
        assert torch.any(parameter.grad != 0), name


@pytest.mark.parametrize(("kind", "expected"), [("coupling", True), ("density", False), ("sampling", True)])
def test_flow_tells_whether_it_samples_in_one_pass(kind, expected):
    assert CELLS[kind, "spline"](4, 1).one_pass_sampling is expected


def test_trace_gives_points_and_raw_outputs(randomize):
    flow = randomize(CELLS["density", "spline"](4, 2))
    inputs, context = torch.randn(10, 4), torch.randn(10, 2)
    first, second, third, _ = flow.trace(inputs, context)
    assert torch.equal(first.raw, flow.transforms[0].conditioner(inputs, context))
    assert second.raw is None
    assert torch.equal(third.raw, flow.transforms[2].conditioner(second.outputs, context))


@pytest.mark.parametrize("reverse", [False, True])
def test_permutation_stays_within_its_groups(reverse):
    outputs, _ = Permutation(30, reverse, groups=[5, 25])(torch.arange(30.0)[None])
    assert sorted(outputs[0, :5].tolist()) == list(range(5))
    assert outputs[0].tolist() != list(range(30))
    if reverse:
        assert outputs[0, :5].tolist() == [4, 3, 2, 1, 0]


def test_groups_that_do_not_add_up_are_refused():
    with pytest.raises(CalomanError, match="add up to 5, not 6"):
        AutoregressiveFlow(6, groups=[2, 3])


def test_actnorm_standardizes_what_it_receives():
    flow = Flow(3, [ActNorm(3), Permutation(3), Autoregressive(3, 1, Spline()), ActNorm(3)])
    data, context = torch.randn(2000, 3) * torch.tensor([0.1, 1.0, 50.0]) + 7, torch.randn(2000, 1)
    flow.fit(lambda: zip(data.split(500), context.split(500), strict=True))
    outputs = flow.trace(data, context)[-1].outputs
    assert_close(outputs.mean(0), torch.zeros(3), rtol=0, atol=1e-3)
    assert_close(outputs.std(0), torch.ones(3), rtol=0, atol=1e-2)


@pytest.fixture(params=[0, 1])
def mixture(request, randomize):
    return randomize(GaussianMixture(2, request.param, components=3, hidden=8), std=0.3).double(), request.param


def test_mixture_density_is_that_of_torch_and_integrates_to_one(mixture):
    density, context = mixture
    inputs, condition = doubles(50, 2), doubles(50, 1) if context else None
    log_weights, means, log_widths = density._gaussians(inputs, condition)
    normals = torch.distributions.Independent(torch.distributions.Normal(means, log_widths.exp()), 1)
    oracle = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=log_weights), normals)
    assert_close(density.log_prob(inputs, condition), oracle.log_prob(inputs))
    if context:
        assert integral(density) == pytest.approx(1, abs=1e-3)


def test_mixture_samples_follow_their_density(mixture):
    density, context = mixture
    n = 40_000
    condition = torch.full((n, 1), 0.3).double() if context else None
    with torch.no_grad():
        samples = density.sample(doubles(n, density.noise_dim), condition)
        log_weights, means, log_widths = (part[0] for part in density._gaussians(samples[:1], condition))
    weights = log_weights.exp()[:, None]
    mean = (weights * means).sum(0)
    variance = (weights * (means**2 + (2 * log_widths).exp())).sum(0) - mean**2
    assert_close(samples.mean(0), mean, rtol=0, atol=0.05)
    assert_close(samples.var(0), variance, rtol=0.05, atol=0)
