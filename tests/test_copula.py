"""Marginals and copula: the scores of showers are normal one by one, and lead back to the showers."""

from functools import partial

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from caloman.errors import CalomanError
from caloman.flows import CouplingFlow
from caloman.models import Density, FactorizedShowerModel
from caloman.preprocessing import ExcessTransform
from caloman.rivals import CopulaShape, FlowShape, Marginals
from caloman.showers.conditions import ENERGY_ONLY
from caloman.training import CopulaTask, MarginalsTask

DENSITY = partial(Density, flow=partial(CouplingFlow, transforms=1))


@pytest.fixture
def marginals(small, randomize):
    return randomize(Marginals(small, 2, hidden=[8]), std=0.2)


def test_scores_lead_back_to_the_shapes(marginals):
    context = torch.randn(200, 2)
    hits = torch.rand(200, 16) < 0.5
    hits[:, ::2] = True  # a layer without any would be given one
    shapes = hits * (0.3 + torch.rand(200, 16))
    restored = marginals.sample(marginals.to_noise(shapes, context), context)
    assert torch.equal(restored > 0, shapes > 0)
    same = torch.isclose(restored, shapes, rtol=1e-2, atol=1e-6)
    assert same.float().mean() > 0.99  # the others are far smaller than random marginals expect, and are cut off there


def test_scores_of_each_voxel_are_standard_normal(marginals):
    marginals.head.hit_logit.fill_(1.0)
    context = torch.randn(1, 2).expand(5000, 2)
    shapes = marginals.sample(torch.randn(5000, 16), context)
    scores = marginals.to_noise(shapes, context)[:, 2:14]  # of two voxels, as in the other layers, one is always hit
    assert min(stats.kstest(column.numpy(), "norm").pvalue for column in scores.detach().T) > 1e-4


def test_marginals_learn_rates_and_sizes_of_hits(small):
    marginals = Marginals(small, 1, hidden=[16])
    optimizer = torch.optim.Adam(marginals.parameters(), lr=1e-2)
    context = torch.rand(4000, 1).round()
    shapes = torch.where(
        torch.rand(4000, 16) < 0.3 + 0.4 * context, (0.5 * torch.randn(4000, 16) - 3 + context).exp(), 0
    )
    marginals.fit(lambda: [(shapes, context)])
    for _ in range(100):
        optimizer.zero_grad()
        marginals.loss(shapes, context).backward()
        optimizer.step()
    for side in (0, 1):
        sample = marginals.sample(torch.randn(4000, 16), torch.full((4000, 1), float(side)))[:, 2:14]
        assert (sample > 0).float().mean().item() == pytest.approx(0.3 + 0.4 * side, abs=0.03)
        assert sample[sample > 0].log().mean().item() == pytest.approx(side - 3, abs=0.05)


def test_tasks_train_the_marginals_before_what_ties_them(small, make_showers):
    model = FactorizedShowerModel(
        small,
        ENERGY_ONLY,
        transform=partial(ExcessTransform, threshold=0.01),
        shape=partial(CopulaShape, density=DENSITY),
    )
    showers = make_showers(50, small)
    batch = torch.from_numpy(showers.voxels), torch.from_numpy(showers.incident_energies)[:, None]
    for kind in (MarginalsTask, CopulaTask):
        task = kind(model)
        task.fit_statistics(lambda: [batch])
        task.losses_of(batch)["loss"].backward()
        assert {p.grad is not None for p in task.module.parameters()} == {True}
        generated = task.showers(batch)
        energies = model.transform(*batch).layer_energies
        assert_close(model.transform.layers.sum(generated), energies, rtol=1e-4, atol=1e-4)
        model.zero_grad()
    assert all(p.grad is None for p in model.shape.marginals.parameters()), "they are fixed by then"
    assert CopulaTask.upstream == (MarginalsTask.part,)


def test_a_shape_without_marginals_is_refused(small):
    shape = partial(FlowShape, density=DENSITY)
    model = FactorizedShowerModel(small, ENERGY_ONLY, transform=partial(ExcessTransform, threshold=0.01), shape=shape)
    with pytest.raises(CalomanError, match=r"'shape\.marginals', which the model does not have"):
        MarginalsTask(model)
    with pytest.raises(CalomanError, match="needs a CopulaShape, not a FlowShape"):
        _ = CopulaTask(model).shape
