import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import multinomial
from torch.distributions import Bernoulli
from torch.testing import assert_close

from caloman.errors import CalomanError
from caloman.manifold import BernoulliHead, SoftmaxHead
from caloman.preprocessing import GlobalTransform, LayerwiseTransform
from caloman.showers.conditions import ENERGY_ONLY

FRACTION_HEADS = [BernoulliHead, SoftmaxHead]


@pytest.fixture
def shapes(make_showers, small):
    return prepared(LayerwiseTransform(small, ENERGY_ONLY), make_showers(64, small))


def prepared(transform, showers):
    energies = torch.from_numpy(showers.incident_energies)[:, None]
    return transform(torch.from_numpy(showers.voxels), energies).shapes


def fitted(kind, geometry, shapes):
    head = kind(geometry)
    head.fit(shapes.split(10))
    return head, torch.randn(len(shapes), head.n_parameters)


@pytest.mark.parametrize("kind", FRACTION_HEADS)
def test_fraction_heads_start_at_the_mean_shape_and_take_no_noise(kind, small, shapes):
    head, parameters = fitted(kind, small, shapes)
    average = shapes.mean(0)
    if kind is SoftmaxHead:  # some layers are empty, but never in what is decoded
        average = average / head.layers.broadcast(head.layers.sum(average[None]))[0]
    assert_close(head.sample(torch.zeros_like(parameters), torch.zeros(64, 0)), average.expand(64, -1))
    assert head.to_noise(parameters, shapes).shape == (64, head.noise_dim) == (64, 0)


def test_bernoulli_head_is_the_expected_likelihood_of_hits(small, shapes):
    head, parameters = fitted(BernoulliHead, small, shapes)
    hit = Bernoulli(logits=torch.log(shapes.mean(0) / (1 - shapes.mean(0))) + parameters)
    ones = torch.ones_like(shapes)
    expected = shapes * hit.log_prob(ones) + (1 - shapes) * hit.log_prob(0 * ones)
    assert_close(head.log_prob(parameters, shapes), expected.sum(1))
    assert_close(head.mean(parameters), hit.mean)


def test_softmax_head_is_the_multinomial_likelihood_of_a_unit_count_in_each_layer(small):
    head, _ = fitted(SoftmaxHead, small, torch.rand(5, 16).softmax(dim=1) * 0)  # all empty: no layer is preferred
    parameters, layers = torch.randn(1, 16), small.layer_slices
    chosen = torch.tensor([1, 7, 15])
    shapes = torch.zeros(1, 16)
    shapes[0, chosen] = 1
    probabilities = [softmax(parameters[0, columns].double().numpy()) for columns in layers]
    counts = [shapes[0, columns].int().numpy() for columns in layers]
    expected = sum(multinomial.logpmf(n, 1, p) for n, p in zip(counts, probabilities, strict=True))
    assert head.log_prob(parameters, shapes).item() == pytest.approx(expected, rel=1e-5)
    assert_close(head.mean(parameters)[0].numpy(), np.concatenate(probabilities).astype(np.float32))
    assert_close(head.layers.sum(head.mean(parameters)), torch.ones(1, 3))


@pytest.mark.parametrize("kind", FRACTION_HEADS)
def test_fraction_heads_are_best_at_the_mean_of_the_data(kind, small, shapes):
    head, _ = fitted(kind, small, shapes[shapes.sum(1) > 2.5])
    parameters = torch.zeros(1, 16, dtype=torch.float64, requires_grad=True)
    data = shapes[shapes.sum(1) > 2.5]  # without empty layers
    head.log_prob(parameters.expand(len(data), -1), data).mean().backward()
    assert_close(parameters.grad, torch.zeros_like(parameters), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("kind", "wrong"), [(BernoulliHead, 3.0), (SoftmaxHead, 0.5)])
def test_fraction_heads_refuse_shapes_that_are_no_fractions(kind, wrong, small, shapes):
    with pytest.raises(CalomanError, match=f"{kind.__name__} needs shapes .*; use a LayerwiseTransform"):
        kind(small).fit([wrong * shapes])


def test_softmax_head_refuses_the_global_transform(small, make_showers):
    with pytest.raises(CalomanError, match="SoftmaxHead needs shapes of unit sum"):
        SoftmaxHead(small).fit([prepared(GlobalTransform(small, ENERGY_ONLY), make_showers(20, small))])
