"""The distribution of sizes of hits with bins at fixed energies."""

from itertools import combinations

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from caloman.errors import CalomanError
from caloman.manifold import CoarseManifold
from caloman.manifold.bins import PIECES, LowHits, informative_bounds
from caloman.manifold.heads import HitSizes
from caloman.showers.geometry import BUILT_IN

BINS, BELOW = 8, 8.0


@pytest.fixture
def hits():
    """Energies [MeV] in two layers: flat up to a step at 2 MeV, and log-normal beyond; the first has a higher step."""
    flat, beyond = 0.02 + 1.98 * torch.rand(2, 40_000), 2 + 4 * torch.randn(2, 40_000).exp()
    is_flat = torch.rand(2, 40_000) < torch.tensor([[0.05], [0.5]])
    energies = torch.where(is_flat, flat, beyond) * (torch.rand(2, 40_000) < 0.9)
    return energies.T.double()[:, :, None, None]


@pytest.fixture
def low(hits):
    low = LowHits(BINS, BELOW, n_r=3).double()
    low.fit(hits.split(15_000))
    return low


def sizes_of(low, n, unit=1.0):
    """Distributions of n sizes, each with parameters of its own."""
    above = HitSizes.of(0.5 * torch.randn(5, n).double(), torch.zeros(n).double(), torch.ones(n).double())
    return low.sizes(torch.randn(BINS, n).double(), above, torch.full((n,), unit).double().log())


def test_edges_lie_where_layers_differ_and_pieces_hold_equally_many_hits(low, hits):
    counts = torch.histogram(hits[hits > 0], low.knots).hist.view(BINS, PIECES)
    shares = counts / counts.sum(1, keepdim=True)
    assert_close(shares, torch.full_like(shares, 1 / PIECES), atol=0.02, rtol=0)
    assert (low.knots[::PIECES] - 2).abs().min() < 0.05
    assert_close(low.knots[-1].item(), BELOW, rtol=1e-3, atol=0)
    assert torch.all(low.knots.diff() > 0)
    assert hits[hits > 0].min() * (1 - 1e-6) <= low.knots[0] < 0.03


def test_bounds_are_those_of_the_largest_mutual_information():
    counts = torch.randint(1, 30, (3, 9)).double()

    def information(bounds):
        joint = torch.stack([part.sum(1) for part in counts.tensor_split(bounds, dim=1)], dim=1) / counts.sum()
        return (joint * (joint / joint.sum(0) / joint.sum(1, keepdim=True)).log()).sum()

    best = max(combinations(range(1, 9), 3), key=information)
    assert_close(information(informative_bounds(counts, 4)[1:-1]), information(best))


def test_no_piece_is_empty_over_five_decades():
    hits = 10 ** (5 * torch.rand(50_000, 1, 1, 1).double() - 3)
    low = LowHits(BINS, 90.0, n_r=3).double()
    low.fit([hits])
    assert torch.all(low.knots.diff() > 0)
    smallest = hits.min().expand(5)
    assert torch.all(sizes_of(low, 5).log_prob(smallest.log()).isfinite())


@pytest.mark.parametrize("unit", [0.5, 3.0, 40.0])
def test_density_and_quantiles_belong_to_one_distribution(low, unit):
    """Density of the size at a score times the derivative of the size is the density of the score."""
    scores = torch.linspace(-3, 3, 400).double()
    sizes = sizes_of(low, len(scores), unit)
    logs, slopes = sizes.log_size(scores)
    expected = stats.norm.logpdf(scores)
    assert_close(sizes.log_prob(logs) + slopes.log(), torch.from_numpy(expected), atol=1e-6, rtol=1e-6)
    step = 1e-6
    numeric = (sizes.log_size(scores + step)[0] - sizes.log_size(scores - step)[0]) / (2 * step)
    assert (numeric - slopes).abs().median() < 1e-6  # all but those that have an edge between
    assert torch.all(slopes > 0)


def test_the_chances_of_bins_give_the_spectrum_with_its_step(hits):
    low, count = LowHits(4 * BINS, BELOW, n_r=3).double(), 100_000
    low.fit([hits])
    above = HitSizes.of(torch.zeros(5, count).double(), torch.zeros(()), torch.ones(()))
    nothing = torch.zeros(4 * BINS, count).double()
    even = low.sizes(nothing, above, torch.zeros(count).double()).log_masses[:-1]
    chances = torch.histogram(hits[hits > 0], low.knots[::PIECES].contiguous()).hist.log().unsqueeze(1)
    sizes = low.sizes(chances - even, above, torch.zeros(count).double())
    drawn = sizes.log_size(torch.randn(count).double())[0].exp()
    known, drawn = (x[(x > 0) & (x < BELOW)] for x in (hits, drawn))
    assert stats.ks_2samp(known, drawn).statistic < 0.015
    for lower, upper in [(0, 1), (1, 1.9), (1.9, 2.1), (2.1, 2.5), (2.5, 4)]:
        wanted, got = (((x > lower) & (x <= upper)).double().mean() for x in (known, drawn))
        assert_close(got, wanted, rtol=0.06, atol=3e-3)


def test_a_manifold_with_bins_is_held_to_hits_and_energies(randomize):
    geometry = BUILT_IN["2"]
    manifold = randomize(CoarseManifold(geometry, 46, hidden=4, blocks=1, bins=BINS, below=BELOW), std=0.1)
    energies = 200 * torch.rand(6, 45)
    context = torch.cat([torch.ones(6, 1), ((energies + 1e-3) / 1e5).log10() - 1], dim=1)
    hits = torch.rand(6, 45, 144) < 0.1
    shapes = (torch.rand(6, 45, 144) * hits).flatten(1)
    manifold.fit(lambda: [(shapes, context)])
    decoded = manifold.decode(manifold.encode(shapes, context), context, torch.randn(6, manifold.noise_dim))
    for wanted, got in zip(manifold.coordinates.measure(shapes), manifold.coordinates.measure(decoded), strict=True):
        assert_close(got, wanted, atol=1e-4, rtol=0)
    manifold.loss(shapes, context)["loss"].backward()
    assert all(torch.all(torch.isfinite(parameter.grad)) for parameter in manifold.parameters())


def test_bins_that_make_no_groups_are_refused():
    with pytest.raises(CalomanError, match="bins = 6 must be a positive multiple of 4"):
        CoarseManifold(BUILT_IN["2"], 46, bins=6)
