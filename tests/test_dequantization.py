import math
from functools import partial
from itertools import product

import pytest
import torch
from torch.distributions import Normal
from torch.testing import assert_close

from caloman.errors import CalomanError
from caloman.flows import BernoulliMask, CouplingFlow
from caloman.models import LayerEnergyModel
from caloman.preprocessing import (
    LayerFractions,
    LayerLogarithms,
    LayerwiseTransform,
    LogNormalFilling,
    LogUniformFilling,
    UniformFilling,
    VariationalFilling,
)
from caloman.rivals import JointDensity

THRESHOLD = 0.01

FILLINGS = {
    "uniform": lambda n: UniformFilling(n, 0, width=1e-3),
    "log-uniform": lambda n: LogUniformFilling(THRESHOLD),
    "log-normal": lambda n: LogNormalFilling(n, 0),
    "variational": lambda n: VariationalFilling(n, 0, THRESHOLD),
}

INTERVALS = {
    "uniform": (2e-4, 9e-4),
    "log-uniform": (2e-3, 9e-3),
    "log-normal": (4e-4, 1e-3),
    "variational": (1e-3, 8e-3),
}


@pytest.mark.parametrize("kind", FILLINGS)
def test_contribution_gives_the_probability_of_an_interval_back(kind):
    """E_q[p(v) / q(v)] over an interval of log v is what p has there, whatever q is."""
    filling = FILLINGS[kind](1).double()
    log_v = torch.tensor(INTERVALS[kind], dtype=torch.float64).log()
    density = Normal(log_v.mean(), 0.8)
    filled, minus_log_q = filling(torch.zeros(200_000, 1, dtype=torch.float64))
    y = filled.squeeze(1).log()
    weights = torch.where((y > log_v[0]) & (y < log_v[1]), (density.log_prob(y) + minus_log_q).exp(), 0.0)
    expected = density.cdf(log_v).diff().item()
    assert weights.mean().item() == pytest.approx(expected, abs=5 * weights.std().item() / math.sqrt(len(weights)))


@pytest.mark.parametrize("kind", FILLINGS)
def test_zeros_come_back_and_hits_stay(kind):
    filling = FILLINGS[kind](6)
    energies = torch.rand(5000, 6) * 10
    energies[torch.rand(5000, 6) < 0.5] = 0
    energies[energies < THRESHOLD] = 0
    filled, minus_log_q = filling(energies)
    assert torch.equal(torch.where(filled < THRESHOLD, 0, filled) > 0, energies > 0)
    assert torch.all(filled > 0)
    hits = energies > 0
    assert_close(filled[hits], energies[hits], rtol=1e-6, atol=1e-3 if kind == "uniform" else 0)
    assert torch.all(minus_log_q[hits.all(dim=1)] == 0)
    assert minus_log_q.shape == (5000,)


def test_variational_bound_becomes_tight():
    density = Normal(math.log(5e-3), 0.7)
    exact = density.cdf(torch.tensor(THRESHOLD).log()).log().item()
    filling = VariationalFilling(1, 0, THRESHOLD, hidden=8)
    optimizer = torch.optim.Adam(filling.parameters(), lr=3e-2)

    def bound(n):
        filled, minus_log_q = filling(torch.zeros(n, 1))
        return (density.log_prob(filled.log().squeeze(1)) + minus_log_q).mean()

    assert bound(20_000).item() < exact - 0.1
    for _ in range(200):
        optimizer.zero_grad()
        (-bound(256)).backward()
        optimizer.step()
    assert exact - 0.05 < bound(20_000).item() < exact + 0.005


def test_a_filling_that_would_not_be_cut_again_is_refused(small):
    with pytest.raises(CalomanError, match=r"0\.02 MeV, above threshold = 0\.01"):
        LayerwiseTransform(small, threshold=THRESHOLD, filling=partial(UniformFilling, width=0.02))
    with pytest.raises(CalomanError, match=r"0\.02 MeV, above threshold = 0\.01"):
        JointDensity(small, CouplingFlow, partial(UniformFilling, width=0.02), threshold=THRESHOLD)
    with pytest.raises(CalomanError, match="JointDensity"):
        LayerwiseTransform(small, threshold=THRESHOLD, filling=VariationalFilling)


def test_masks_have_probabilities_and_come_as_often(randomize):
    mask = randomize(BernoulliMask(4, 1, hidden=16), std=0.5).double()
    masks = torch.tensor(list(product([0.0, 1.0], repeat=4)), dtype=torch.float64)
    probabilities = mask.log_prob(masks, torch.ones(16, 1, dtype=torch.float64)).exp()
    assert probabilities.sum().item() == pytest.approx(1)
    n = 40_000
    samples = mask.sample(torch.randn(n, 4, dtype=torch.float64), torch.ones(n, 1, dtype=torch.float64))
    counts = (samples @ torch.tensor([8.0, 4, 2, 1], dtype=torch.float64)).long().bincount(minlength=16)
    assert_close(counts.double() / n, probabilities, rtol=0, atol=5 * 0.5 / math.sqrt(n))


def test_log_determinant_of_layer_fractions():
    fractions = LayerFractions(3.1, alpha=1e-3)
    log_energies, incident = torch.randn(20, 4, dtype=torch.float64), torch.full((20, 1), 50.0, dtype=torch.float64)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda y, e: fractions(y.exp()[None], e[None])[0]))
    expected = torch.linalg.slogdet(jacobian(log_energies, incident)).logabsdet
    energies = log_energies.exp()
    assert_close(fractions.log_det(fractions(energies, incident), energies, incident), expected)


@pytest.mark.parametrize("mask", [None, partial(BernoulliMask, hidden=8)])
def test_density_of_layer_energies_is_normalized(mask, small, randomize):
    """Importance sampling where all layers have energy: a mask has its probability there, nothing else is lost."""
    flow, n = partial(CouplingFlow, transforms=2, hidden=8), 100_000
    model = randomize(LayerEnergyModel(small, flow, threshold=THRESHOLD, mask=mask), std=0.1).double()
    incident = torch.full((n, 1), 100.0, dtype=torch.float64)
    logits = 1.5 * torch.randn(n, 3, dtype=torch.float64)
    energies = model.coordinates.inverse(logits, incident)
    log_q = Normal(0, 1.5).log_prob(logits).sum(1) + model.coordinates.log_det(logits, energies, incident)
    with torch.no_grad():
        model.density.scaling.std.fill_(0.8)
        weights = torch.where((energies >= THRESHOLD).all(1), (model.log_prob(energies, incident) - log_q).exp(), 0)
        ones = torch.ones(1, 3, dtype=torch.float64)
        expected = model.mask.log_prob(ones, incident[:1].log10()).exp().item() if mask else 1.0
    assert weights.mean().item() == pytest.approx(expected, abs=5 * weights.std().item() / math.sqrt(n) + 1e-3)
    assert weights.std().item() / math.sqrt(n) < 0.02


def test_density_of_layer_logarithms_is_normalized():
    """The blur is a dimension more, over which the estimate of the density has the right mean."""
    coordinates, n, normal = LayerLogarithms(3.1, blur=3.0), 400_000, Normal(0.0, 1.0)
    proposal, incident = Normal(0.0, 2.0), torch.full((n, 1), 2.0, dtype=torch.float64)
    log_energies = 2 * torch.randn(n, 3, dtype=torch.float64)
    x = coordinates(log_energies.exp(), incident)
    log_prob = normal.log_prob(x).sum(1) + coordinates.log_det(x, log_energies.exp(), incident)
    weights = (log_prob - proposal.log_prob(log_energies).sum(1)).exp()
    assert weights.std().item() / math.sqrt(n) < 0.01
    assert weights.mean().item() == pytest.approx(1, abs=5 * weights.std().item() / math.sqrt(n))


def test_logarithms_of_layers_need_a_filling_of_empty_ones(small, randomize):
    model = randomize(LayerEnergyModel(small, CouplingFlow, THRESHOLD, coordinates=LayerLogarithms))
    layers, incident = torch.tensor([[0.0, 50.0, 3.0]] * 4), torch.full((4, 1), 100.0)
    assert torch.all(torch.isfinite(model.log_prob(layers, incident)))
    generated = model(torch.randn(500, model.noise_dim), torch.full((500, 1), 0.03))
    assert torch.all((generated == 0) | (generated >= THRESHOLD))
    assert torch.any(generated == 0)
    assert torch.any(generated > 0)
    with pytest.raises(CalomanError, match="LayerLogarithms of an energy model needs a threshold"):
        LayerEnergyModel(small, CouplingFlow, coordinates=LayerLogarithms)


def test_mask_decides_which_layers_are_empty(small, randomize):
    model = randomize(
        LayerEnergyModel(small, partial(CouplingFlow, transforms=1), THRESHOLD, mask=partial(BernoulliMask, hidden=8))
    )
    incident = torch.full((2000, 1), 1e4)
    noise = torch.randn(2000, model.noise_dim)
    mask = model.mask.sample(noise[:, 3:], incident.log10())
    layers = model(noise, incident)
    assert torch.all(layers[mask == 0] == 0)
    assert torch.all((layers == 0) | (layers >= THRESHOLD))
    assert torch.any(layers > 0)
    model.loss(layers, incident).backward()
    assert all(p.grad is not None and torch.all(torch.isfinite(p.grad)) for p in model.parameters())
    with pytest.raises(CalomanError, match="needs a threshold"):
        LayerEnergyModel(small, CouplingFlow, mask=BernoulliMask)
