"""A flow from step to step, against the derivative of its samples."""

import pytest
import torch
from torch.testing import assert_close

from caloman.errors import CalomanError
from caloman.flows import SequenceFlow

STEPS, CHANNELS = 5, 3


@pytest.fixture(params=[0, 2, 7], ids=["free", "whole", "whole and steps"])
def flow_and_context(request, randomize):
    flow = randomize(SequenceFlow(STEPS * CHANNELS, request.param, STEPS, window=2, hidden=8), std=0.4).double()
    context = torch.randn(4, request.param).double() if request.param else None
    return flow, context


def test_the_density_is_that_of_the_samples(flow_and_context):
    flow, context = flow_and_context
    noise = torch.randn(4, flow.features).double()
    samples = flow.sample(noise, context)
    for row in range(4):
        condition = None if context is None else context[row : row + 1]
        jacobian = torch.autograd.functional.jacobian(lambda n, c=condition: flow.sample(n[None], c)[0], noise[row])
        expected = flow.log_prob_of_noise(noise[row : row + 1]) - torch.linalg.slogdet(jacobian)[1]
        assert_close(flow.log_prob(samples[row : row + 1], condition), expected, atol=1e-8, rtol=0)


def test_a_step_sees_those_before_it_only(flow_and_context):
    flow, context = flow_and_context
    condition = None if context is None else context[:1]
    noise = torch.randn(flow.features).double()
    jacobian = torch.autograd.functional.jacobian(lambda n: flow.sample(n[None], condition)[0], noise)
    by_step = jacobian.unflatten(1, (CHANNELS, STEPS)).unflatten(0, (CHANNELS, STEPS)).abs().sum((0, 2))
    assert torch.all(by_step.triu(1) == 0)
    assert torch.all(by_step[1:].diagonal() != 0)
    assert by_step[-1, 0] != 0  # beyond the window, by memory


def test_it_starts_as_the_identity():
    flow, noise = SequenceFlow(6, 0, 3), torch.randn(4, 6)
    assert_close(flow.sample(noise), noise)


def test_steps_that_do_not_fit_are_refused():
    with pytest.raises(CalomanError, match="steps = 4 of a SequenceFlow does not divide its 6 features"):
        SequenceFlow(6, 0, 4)
