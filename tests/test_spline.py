import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad
from torch.testing import assert_close
from zuko.transforms import MonotonicRQSTransform

from caloman.flows import Spline, rational_quadratic_spline
from caloman.flows.spline import MIN_BIN, MIN_DERIVATIVE

BOUND = 3.0


def random_parameters(n, bins, scale=1.0, dtype=torch.float64):
    return [scale * torch.randn(n, size, dtype=dtype) for size in (bins, bins, bins - 1)]


def slope_by_autograd(inputs, parameters, inverse):
    inputs = inputs.clone().requires_grad_()
    outputs, _ = rational_quadratic_spline(inputs, *parameters, BOUND, inverse)
    return torch.autograd.grad(outputs.sum(), inputs)[0]


@given(seed=st.integers(0, 2**31), bins=st.integers(2, 20), scale=st.floats(0, 3))
@settings(deadline=None, max_examples=50)
def test_inverse_and_slopes_hold_for_any_spline(seed, bins, scale):
    torch.manual_seed(seed)
    parameters = random_parameters(200, bins, scale)
    inputs = torch.empty(200, dtype=torch.float64).uniform_(-1.5 * BOUND, 1.5 * BOUND)
    outputs, log_slope = rational_quadratic_spline(inputs, *parameters, BOUND)
    restored, inverse_log_slope = rational_quadratic_spline(outputs, *parameters, BOUND, inverse=True)
    assert_close(restored, inputs, rtol=1e-7, atol=1e-7)
    assert_close(inverse_log_slope, -log_slope, rtol=1e-6, atol=1e-6)
    assert_close(log_slope.exp(), slope_by_autograd(inputs, parameters, inverse=False), rtol=1e-9, atol=1e-9)
    assert_close(inverse_log_slope.exp(), slope_by_autograd(outputs, parameters, inverse=True), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("inverse", [False, True])
def test_zero_parameters_give_the_identity(inverse):
    inputs = torch.linspace(-2 * BOUND, 2 * BOUND, 1001, dtype=torch.float64)
    zeros = [torch.zeros(1001, size, dtype=torch.float64) for size in (8, 8, 7)]
    outputs, log_slope = rational_quadratic_spline(inputs, *zeros, BOUND, inverse)
    assert_close(outputs, inputs, rtol=0, atol=1e-12)
    assert_close(log_slope, torch.zeros_like(inputs), rtol=0, atol=1e-12)


@pytest.mark.parametrize("inverse", [False, True])
def test_spline_is_monotone_within_the_box_and_the_identity_outside(inverse):
    inputs = torch.linspace(-2 * BOUND, 2 * BOUND, 5001, dtype=torch.float64)
    parameters = [p.expand(5001, -1) for p in random_parameters(1, 8, scale=3)]
    outputs, log_slope = rational_quadratic_spline(inputs, *parameters, BOUND, inverse)
    assert torch.all(outputs.diff() > 0)
    outside = inputs.abs() >= BOUND
    assert torch.equal(outputs[outside], inputs[outside])
    assert torch.all(log_slope[outside] == 0)
    assert torch.all(outputs[~outside].abs() < BOUND)


def inverse_softplus(values):
    return values.expm1().log()


@pytest.mark.parametrize("bins", [2, 8, 16])
def test_spline_agrees_with_zuko_on_the_same_knots(bins):
    n = 2000
    # shares and slopes away from the minima, where every parametrization can express them
    widths, heights = (torch.rand(n, bins, dtype=torch.float64) + 0.05 for _ in range(2))
    widths, heights = widths / widths.sum(1, keepdim=True), heights / heights.sum(1, keepdim=True)
    slopes = torch.rand(n, bins - 1, dtype=torch.float64) * 5 + 0.01

    oracle = MonotonicRQSTransform(widths, heights, slopes, BOUND)
    knots = [BOUND * (2 * pad(shares.cumsum(1), (1, 0)) - 1) for shares in (widths, heights)]
    oracle.horizontal, oracle.vertical, oracle.derivatives = *knots, pad(slopes, (1, 1), value=1.0)

    logits = [((shares - MIN_BIN) / (1 - bins * MIN_BIN)).log() for shares in (widths, heights)]
    raw_slopes = inverse_softplus(slopes - MIN_DERIVATIVE) - math.log(math.expm1(1 - MIN_DERIVATIVE))

    inputs = torch.empty(n, dtype=torch.float64).uniform_(-1.2 * BOUND, 1.2 * BOUND)
    outputs, log_slope = rational_quadratic_spline(inputs, *logits, raw_slopes, BOUND)
    expected, expected_log_slope = oracle.call_and_ladj(inputs)
    assert_close(outputs, expected, rtol=1e-10, atol=1e-10)
    assert_close(log_slope, expected_log_slope, rtol=1e-9, atol=1e-9)

    outputs, log_slope = rational_quadratic_spline(inputs, *logits, raw_slopes, BOUND, inverse=True)
    expected, expected_log_slope = oracle.inv.call_and_ladj(inputs)
    assert_close(outputs, expected, rtol=1e-9, atol=1e-9)
    assert_close(log_slope, expected_log_slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("scale", [1, 10, 30, 100])
def test_float32_survives_extreme_parameters(scale):
    n = 500_000
    parameters = random_parameters(n, 8, scale, torch.float32)
    values = torch.empty(n).uniform_(-BOUND, BOUND)
    generated, log_slope = rational_quadratic_spline(values, *parameters, BOUND, inverse=True)
    restored, inverse_log_slope = rational_quadratic_spline(generated, *parameters, BOUND)
    for result in (generated, log_slope, restored, inverse_log_slope):
        assert torch.all(torch.isfinite(result))
    assert generated.abs().max() <= BOUND * (1 + 1e-6)
    # one rounding of `generated` moves `restored` by the slope, which reaches 1000 (less MIN_BIN, MIN_DERIVATIVE)
    assert (restored - values).abs().max() < 1e-3


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("value", [0.0, BOUND, -BOUND, 10.0, -1e6, 1e30])
def test_gradients_are_finite_anywhere(value, inverse):
    parameters = [p.requires_grad_() for p in random_parameters(1000, 8, 30, torch.float32)]
    inputs = torch.full((1000,), value, requires_grad=True)
    outputs, log_slope = rational_quadratic_spline(inputs, *parameters, BOUND, inverse)
    gradients = torch.autograd.grad((outputs + log_slope).sum(), [inputs, *parameters])
    assert all(torch.all(torch.isfinite(gradient)) for gradient in gradients)


@pytest.mark.parametrize("shape", [(40_000,), (1000, 64), (0, 5), (2, 30_000)])
def test_without_a_gradient_parts_are_computed_after_each_other_with_the_same_result(shape):
    spline = Spline(bins=4, bound=BOUND)
    inputs, parameters = torch.randn(shape), torch.randn(*shape, spline.n_parameters)
    expected = spline(inputs, parameters)
    with torch.no_grad():
        assert_close(spline(inputs, parameters), expected)


@pytest.mark.parametrize("inverse", [False, True])
def test_half_precision_is_computed_in_float32(inverse):
    parameters = random_parameters(1000, 8, dtype=torch.bfloat16)
    inputs = torch.empty(1000).uniform_(-BOUND, BOUND).bfloat16()
    wide = [tensor.float() for tensor in (inputs, *parameters)]
    expected = rational_quadratic_spline(*wide, BOUND, inverse)
    with torch.autocast("cpu", torch.bfloat16):
        result = rational_quadratic_spline(inputs, *parameters, BOUND, inverse)
    assert result[0].dtype == result[1].dtype == torch.float32
    assert_close(result, expected, rtol=0, atol=0)
