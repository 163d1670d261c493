import math
from functools import partial

import pytest
import torch
from torch.distributions import Normal
from torch.testing import assert_close

from caloman.errors import CalomanError
from caloman.flows import CouplingFlow
from caloman.models import LayerEnergyModel
from caloman.preprocessing import (
    LayerFractions,
    LayerLogarithms,
    LayerwiseTransform,
    LogNormalDequantization,
    LogUniformDequantization,
    UniformDequantization,
)
from caloman.rivals import JointDensity
from caloman.showers.conditions import ENERGY_ONLY

THRESHOLD = 0.01

KINDS = {
    "uniform": UniformDequantization(width=1e-3),
    "log-uniform": LogUniformDequantization(THRESHOLD),
    "log-normal": LogNormalDequantization(mean=-3.2),
}

INTERVALS = {
    "uniform": (2e-4, 9e-4),
    "log-uniform": (2e-3, 9e-3),
    "log-normal": (4e-4, 1e-3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_contribution_gives_the_probability_of_an_interval_back(kind):
    """E_q[p(v) / q(v)] over an interval of log v is what p has there, whatever q is."""
    log_v = torch.tensor(INTERVALS[kind], dtype=torch.float64).log()
    density = Normal(log_v.mean(), 0.8)
    filled, minus_log_q = KINDS[kind](torch.zeros(200_000, 1, dtype=torch.float64))
    y = filled.squeeze(1).log()
    weights = torch.where((y > log_v[0]) & (y < log_v[1]), (density.log_prob(y) + minus_log_q).exp(), 0.0)
    expected = density.cdf(log_v).diff().item()
    assert weights.mean().item() == pytest.approx(expected, abs=5 * weights.std().item() / math.sqrt(len(weights)))


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_come_back_and_hits_stay(kind):
    energies = torch.rand(5000, 6) * 10
    energies[torch.rand(5000, 6) < 0.5] = 0
    energies[energies < THRESHOLD] = 0
    filled, minus_log_q = KINDS[kind](energies)
    assert torch.equal(torch.where(filled < THRESHOLD, 0, filled) > 0, energies > 0)
    assert torch.all(filled > 0)
    hits = energies > 0
    assert_close(filled[hits], energies[hits], rtol=1e-6, atol=1e-3 if kind == "uniform" else 0)
    assert torch.all(minus_log_q[hits.all(dim=1)] == 0)
    assert minus_log_q.shape == (5000,)


def test_noise_above_the_threshold_is_refused(small):
    with pytest.raises(CalomanError, match=r"0\.02 MeV, above threshold = 0\.01"):
        LayerwiseTransform(small, ENERGY_ONLY, threshold=THRESHOLD, dequantization=UniformDequantization(0.02))
    with pytest.raises(CalomanError, match=r"0\.02 MeV, above threshold = 0\.01"):
        JointDensity(small, ENERGY_ONLY, CouplingFlow, UniformDequantization(0.02), threshold=THRESHOLD)


def test_log_determinant_of_layer_fractions():
    fractions = LayerFractions(4, alpha=1e-3).double()
    log_energies = torch.randn(500, 4, dtype=torch.float64)
    incident = 20 * log_energies.exp().sum(1, keepdim=True) ** 0.8
    fractions.fit([(log_energies.exp(), incident)])
    assert fractions.total.stds.unique().numel() > 1
    log_energies, incident = log_energies[:20], incident[:20]
    jacobian = torch.func.vmap(torch.func.jacrev(lambda y, e: fractions(y.exp()[None], e[None])[0]))
    expected = torch.linalg.slogdet(jacobian(log_energies, incident)).logabsdet
    energies = log_energies.exp()
    assert_close(fractions.log_det(fractions(energies, incident), energies, incident), expected)


def test_density_of_layer_energies_is_normalized(small, randomize):
    """By importance sampling; a layer below the threshold is hardly ever generated."""
    flow, n = partial(CouplingFlow, transforms=2, hidden=8), 100_000
    model = randomize(LayerEnergyModel(small, ENERGY_ONLY, flow, threshold=THRESHOLD), std=0.1).double()
    incident = torch.full((n, 1), 100.0, dtype=torch.float64)
    logits = 1.5 * torch.randn(n, 3, dtype=torch.float64)
    energies = model.coordinates.inverse(logits, incident)
    log_q = Normal(0, 1.5).log_prob(logits).sum(1) + model.coordinates.log_det(logits, energies, incident)
    with torch.no_grad():
        model.density.scaling.std.fill_(0.8)
        weights = torch.where((energies >= THRESHOLD).all(1), (model.log_prob(energies, incident) - log_q).exp(), 0)
    assert weights.mean().item() == pytest.approx(1, abs=5 * weights.std().item() / math.sqrt(n) + 1e-3)
    assert weights.std().item() / math.sqrt(n) < 0.02


def test_log_determinant_of_layer_logarithms():
    """Shares keep their scale and the common factor is drawn: what is left is the slope of E_tot, and of the factor."""
    logarithms, blur = LayerLogarithms(4, alpha=1e-3).double(), 0.03
    energies = torch.rand(500, 4, dtype=torch.float64) + 0.1
    incident = 20 * energies.sum(1, keepdim=True) ** 0.8
    logarithms.fit([(energies, incident)])
    log_totals = energies.sum(1, keepdim=True).log().requires_grad_()
    slopes = torch.autograd.grad(logarithms.total(log_totals.exp(), incident).sum(), log_totals)[0].squeeze(1)
    coordinates = logarithms(energies, incident)
    factors = (coordinates[:, 1:] - energies.log()).mean(1)
    expected = slopes.log() - Normal(0.0, blur).log_prob(factors)
    assert_close(logarithms.log_det(coordinates, energies, incident), expected)


def test_density_of_layer_logarithms_is_normalized():
    """The blur is a dimension more, over which the estimate of the density has the right mean."""
    coordinates, n, normal = LayerLogarithms(3, blur=3.0), 400_000, Normal(0.0, 1.0)
    proposal, incident = Normal(0.0, 2.0), torch.full((n, 1), 2.0, dtype=torch.float64)
    log_energies = 2 * torch.randn(n, 3, dtype=torch.float64)
    x = coordinates(log_energies.exp(), incident)
    log_prob = normal.log_prob(x).sum(1) + coordinates.log_det(x, log_energies.exp(), incident)
    weights = (log_prob - proposal.log_prob(log_energies).sum(1)).exp()
    assert weights.std().item() / math.sqrt(n) < 0.01
    assert weights.mean().item() == pytest.approx(1, abs=5 * weights.std().item() / math.sqrt(n))


def test_logarithms_of_layers_need_noise_in_empty_ones(small, randomize):
    model = randomize(LayerEnergyModel(small, ENERGY_ONLY, CouplingFlow, THRESHOLD, coordinates=LayerLogarithms))
    layers, incident = torch.tensor([[0.0, 50.0, 3.0]] * 4), torch.full((4, 1), 100.0)
    assert torch.all(torch.isfinite(model.log_prob(layers, incident)))
    generated = model(torch.randn(500, model.noise_dim), torch.full((500, 1), 0.03))
    assert torch.all((generated == 0) | (generated >= THRESHOLD))
    assert torch.any(generated == 0)
    assert torch.any(generated > 0)
    with pytest.raises(CalomanError, match="LayerLogarithms of an energy model needs a threshold"):
        LayerEnergyModel(small, ENERGY_ONLY, CouplingFlow, coordinates=LayerLogarithms)
