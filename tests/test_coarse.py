"""Coordinates that are functions of the shower, and a decoder that is held to them."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from caloman.errors import CalomanError
from caloman.manifold import CoarseManifold
from caloman.manifold.coordinates import CoarseCoordinates
from caloman.manifold.features import aligned, first_moments
from caloman.manifold.heads import HitSizes
from caloman.manifold.past import Past
from caloman.manifold.sampling import choose_hits, log_odds, score_hits, share_energy
from caloman.manifold.zones import Zones
from caloman.showers.geometry import Geometry, Layer

L, A, R = 5, 6, 4
REGULAR = Geometry("regular", "electron", tuple(Layer(i, (0, 1, 2, 4, 7), A) for i in range(L)), threshold=0.01)
LAYERS = (Layer(0, (0, 1, 3), 1), Layer(1, (0, 1, 2, 4, 7), A), Layer(2, (0, 3, 6, 9), A), Layer(3, (0, 9), A),
          Layer(12, (0, 2, 4, 6, 8), 1))  # fmt: skip
IRREGULAR = Geometry("irregular", "pion", LAYERS, threshold=0.01)
CONTEXT = 2 + L
"""The incident energy, layer energies, one condition more."""


@pytest.fixture(params=[REGULAR, IRREGULAR], ids=lambda geometry: geometry.name)
def geometry(request):
    return request.param


@pytest.fixture(params=[{}, {"groups": (2,)}, {"groups": (2,), "cores": True}], ids=["checkerboard", "groups", "cores"])
def manifold(geometry, request, randomize):
    return randomize(
        CoarseManifold(geometry, CONTEXT, zones=[1, 3], hidden=6, blocks=1, **request.param), std=0.2
    ).double()


@pytest.fixture
def shapes(geometry):
    """Sparse showers, some of their layers and zones empty."""
    zones = Zones(geometry, [1, 3])
    hits = (torch.rand(40, L, A, R) < torch.rand(40, L, 1, 1)) & (torch.rand(40, L, 1, R) < 0.8) & zones.is_voxel
    sizes = torch.rand(40, L, A, R).double() * hits * (torch.rand(40, L, 1, 1) < 0.8)
    return zones.voxels(sizes / sizes.sum((-2, -1), keepdim=True).clamp(min=1e-9))


@pytest.fixture
def context(geometry, shapes):
    """Conditions with an energy in each layer of the showers that has hits."""
    energies = torch.rand(40, L).double() * 50 + 1
    energies = energies * (sums(geometry, shapes) > 0)
    around = torch.randn(40, 2).double()
    return torch.cat([around[:, :1], ((energies + 1e-3) / 1e5).log10() - 1, around[:, 1:]], dim=1)


def sums(geometry, shapes):
    """Sums (N, L) over layers."""
    return torch.stack([layer.sum(1) for layer in shapes.split(geometry.layer_sizes, dim=1)], dim=1)


def turned(geometry, shapes, bins):
    """Shapes turned by a number of bins in alpha."""
    zones = Zones(geometry, [1])
    images = [
        image if layer.n_alpha == 1 else image.roll(bins, 1)
        for image, layer in zip(zones.images(shapes).unbind(1), geometry.layers, strict=True)
    ]
    return zones.voxels(torch.stack(images, dim=1))


def test_zones_sum_their_rings_and_tell_them_their_value(geometry):
    images = torch.randn(7, L, A, R).double()
    found = Zones(geometry, [1, 3]).sum(images)
    expected = np.add.reduceat(images.sum(2).numpy(), [0, 1, 3], axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    repeated = np.repeat(found.numpy(), [1, 2, R - 3], axis=-1)
    np.testing.assert_array_equal(Zones(geometry, [1, 3]).broadcast(found)[..., 0, :], repeated)


def noise_of(manifold, n=40):
    return torch.randn(n, manifold.noise_dim).double()


def test_voxels_come_back_from_images(geometry):
    zones = Zones(geometry, [1, 3])
    voxels = torch.rand(3, geometry.n_voxels) + 1
    images = zones.images(voxels)
    assert torch.equal(images > 0, zones.is_voxel.expand_as(images))
    assert torch.equal(zones.voxels(images), voxels)
    eighth = zones.images(voxels * (torch.arange(geometry.n_voxels) == 7))[0].nonzero().tolist()
    assert eighth == ([[0, 1, 3]] if geometry is REGULAR else [[1, 1, 1]])
    twice = [part for layer in voxels.split(geometry.layer_sizes, 1) for part in (layer, -layer)]
    draws = torch.stack(zones.draws(torch.cat(twice, dim=1), 2), dim=1)
    assert torch.equal(zones.voxels(draws[:, :, 0]), voxels)
    assert torch.equal(zones.voxels(draws[:, :, 1]), -voxels)


def test_the_past_holds_all_energy_before_a_layer_in_its_rings(geometry):
    past, zones = Past(geometry, Zones(geometry, []).grid), Zones(geometry, [])
    energies = torch.rand(4, L, A, R).double() * zones.is_voxel
    pasts = past.of_all(energies)
    layers = energies.sum((-2, -1))
    assert torch.all(pasts[:, 0] == 0)
    for k in range(1, L):
        memory = sum(0.8 ** (k - 1 - j) * layers[:, j] for j in range(k))
        expected = torch.stack([layers[:, k - 1], layers[:, k - 2] if k > 1 else 0 * memory, memory], dim=1)
        assert_close(pasts[:, k].sum((-2, -1)), expected)
        assert torch.all(pasts[:, k, :, :, geometry.layers[k].n_r :] == 0)


def test_energies_are_spread_over_other_rings_by_area():
    past = Past(IRREGULAR, Zones(IRREGULAR, []).grid)
    alone = torch.zeros(1, A, R)
    alone[0, 2, 2] = 12.0  # a ring from 2 to 4, before rings with edges at 3 and 6
    behind = past(past.nothing(alone), alone, 1)[0, 0]
    assert_close(behind[2], torch.tensor([5.0, 7.0, 0.0, 0.0]))
    assert behind.sum() == pytest.approx(12)


def test_coordinates_are_normal_where_they_say_nothing_and_lead_back_to_the_shower(geometry, shapes):
    coordinates = CoarseCoordinates(Zones(geometry, [1, 3]))
    coarse = coordinates.measure(shapes)
    noise = torch.randn(40, coordinates.features).double()
    encoded = coordinates(coarse, noise)
    back = coordinates.inverse(encoded, coarse.hits.sum(-1) > 0)
    assert torch.equal(back.hits, coarse.hits)
    assert_close(back.shares, coarse.shares, atol=1e-6, rtol=0)
    is_empty = (coarse.hits.sum(-1) == 0).repeat(1, 5)
    assert is_empty.any()
    assert torch.equal(encoded[is_empty], noise[is_empty])


@pytest.mark.parametrize("size", [-30.0, 30.0])
def test_a_layer_with_energy_has_a_hit_whatever_the_coordinates(geometry, size):
    zones = Zones(geometry, [1, 3])
    coordinates = CoarseCoordinates(zones)
    hits = coordinates.inverse(torch.full((2, coordinates.features), size), torch.ones(2, L, dtype=torch.bool)).hits
    assert torch.all(hits.sum(-1) >= 1)
    assert torch.all(hits <= zones.capacity)


def test_decoded_showers_have_the_hits_and_shares_of_their_coordinates(geometry, manifold, shapes, context):
    latents = manifold.encode(shapes, context, torch.randn(40, manifold.latent_dim).double())
    decoded = manifold.decode(latents, context, noise_of(manifold))
    for wanted, got in zip(
        manifold.coordinates.measure(shapes), manifold.coordinates.measure(decoded), strict=True
    ):  # fmt: skip
        assert_close(got, wanted, atol=1e-6, rtol=0)
    assert_close(sums(geometry, decoded), sums(geometry, shapes), atol=1e-6, rtol=0)
    assert not torch.equal(decoded > 0, shapes > 0)


def test_a_compiled_graph_draws_the_same_showers(manifold, shapes, context, monkeypatch):
    latents, noise = manifold.encode(shapes, context), noise_of(manifold)
    eager = manifold.decode(latents, context, noise)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert_close(manifold.decode(latents, context, noise), eager)


def test_training_sees_what_sampling_sees(geometry, manifold, shapes, context, monkeypatch):
    """The draws of all layers at once, under a finished shower, are those from layer to layer that made it."""
    seen, outputs = [], manifold.draws.outputs

    def record(turn, inputs, core):  # the cores of a finished shower may be others than those that were drawn
        core = None if core is None else torch.zeros_like(core)
        seen.append((turn, outputs(turn, inputs, core).logits))
        return outputs(turn, inputs, core)

    monkeypatch.setattr(manifold.draws, "outputs", record)
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)  # a graph does not leave out layers without hits
        decoded = manifold.decode(manifold.encode(shapes, context), context, noise_of(manifold))
    steps, seen[:] = list(seen), []
    for draw in range(manifold.draws.n_colors):
        manifold._log_prob(decoded, context, torch.full((40, L), draw))
    has_energy = sums(geometry, decoded) > 0
    for row, (shower, layer) in enumerate(has_energy.nonzero().tolist()):
        for draw, (turn, logits) in enumerate(seen):
            step, expected = steps[manifold.draws.n_colors * layer + draw]
            assert_close(turn.planes[row], step.planes[shower], atol=1e-5, rtol=1e-5)
            assert_close(logits[row], expected[shower], atol=1e-5, rtol=1e-5)


def test_a_draw_sees_the_colors_before_it_and_its_neighbors_never_have_its_color(manifold, shapes, context):
    shapes, draws = shapes.requires_grad_(), manifold.draws
    coarse = manifold.coordinates.measure(shapes)
    for number in range(draws.n_colors):
        turn = draws.turn(
            torch.zeros(40, 3, A, R).double(), torch.zeros(40, 1).double(), torch.zeros(40, dtype=torch.long),
            type(coarse)(*(part[:, 0] for part in coarse)), torch.full((40,), number),
            manifold.zones.images(shapes)[:, 0], torch.ones(40).double(),
        )  # fmt: skip
        (gradient,) = torch.autograd.grad(turn.planes.sum(), shapes, retain_graph=True)
        seen = (manifold.zones.images(gradient)[:, 0] != 0).any(0)
        there = (manifold.zones.images(shapes)[:, 0] > 0).any(0)
        assert torch.equal(seen, there & (draws.color < number))
    assert torch.all(draws.color != draws.color.roll(1, 0))
    assert torch.all(draws.color[:, 1:] != draws.color[:, :-1])
    assert torch.all(draws.color.amax(0).diff() >= 0 if draws.n_colors > 2 else draws.color < 2)


@pytest.fixture
def turn(manifold, shapes, context):
    """What the second draw of all layers knows, and their images."""
    coarse, layer = manifold.coordinates.measure(shapes), torch.arange(L).repeat(40)
    images = aligned(manifold.zones.images(shapes).flatten(0, 1), layer)
    scalars = manifold._scalars(coarse, context).flatten(0, 1)
    before, ones = torch.rand(40 * L, 3, A, R).double(), torch.ones(40 * L)
    coarse = type(coarse)(*(part.flatten(0, 1) for part in coarse))
    return manifold.draws.turn(before, scalars, layer, coarse, ones.long(), images, ones.double()), images


@pytest.mark.parametrize("manifold", [{"cores": True}], ids=["cores"], indirect=True)
def test_a_core_has_most_of_the_energy_that_is_left(manifold, turn):
    turn, images = turn
    left = (images * (manifold.draws.color >= 1)).sum(2)
    core = manifold.draws.core.of(images, turn.number)
    has_energy = left.sum(1) > 0
    assert torch.equal(core.argmax(1)[has_energy], left.argmax(1)[has_energy])
    assert torch.equal(core.sum(1), has_energy.double())


@pytest.mark.parametrize("manifold", [{"cores": True}], ids=["cores"], indirect=True)
def test_cores_are_drawn_with_their_chances(geometry, manifold, turn):
    turn, _ = turn
    draws, n = manifold.draws, 2000
    inputs = draws._inputs(turn)
    uniform = ((torch.arange(n).double() + 0.5) / n).view(-1, 1, 1).expand(-1, len(inputs), 1)
    frequency = torch.stack([draws.core.draw(u, inputs, turn) for u in uniform]).mean(0)
    each = torch.eye(A).double().unsqueeze(1).expand(-1, len(inputs), -1)
    chances = torch.stack([draws.core.log_prob(core, inputs, turn).exp() for core in each], dim=1)
    has_hits = (turn.left.hits.sum(1, keepdim=True) > 0).double()
    assert_close(frequency, chances * has_hits, atol=1.5 / n, rtol=0)
    assert_close(chances.sum(1), torch.ones(len(inputs)).double())
    assert torch.all(chances[~draws.is_voxel[turn.layer].any(2)] < 1e-9)


def test_a_turned_shower_is_as_likely(geometry, manifold, shapes, context):
    latents = manifold.encode(shapes, context)
    expected = manifold.log_likelihood(latents, context, shapes)
    assert torch.all(torch.isfinite(expected))
    if geometry is REGULAR:  # the only voxel of a ring has its place in an image
        assert_close(manifold.log_likelihood(latents, context, turned(geometry, shapes, 2)), expected)


def test_training_reaches_every_weight(manifold, shapes, context):
    manifold.fit(lambda: [(shapes, context)])
    manifold.loss(shapes, context)["loss"].backward()
    for name, parameter in manifold.named_parameters():
        assert torch.all(torch.isfinite(parameter.grad)), name
        assert torch.any(parameter.grad != 0), name


def test_hits_are_chosen_as_by_independent_voxels_under_their_number():
    logits, draws, count = torch.linspace(1, -2, 12), 50_000, 3
    odds = log_odds(torch.randn(draws, 12))
    is_hit, limit = choose_hits(logits.expand(draws, -1), odds, torch.full((draws,), count))
    assert torch.all(is_hit.sum(1) == count)
    pairs = list(itertools.combinations(range(12), count))
    weights = torch.stack([logits[list(pair)].sum().exp() for pair in pairs])
    exact = sum(w * torch.zeros(12).index_fill(0, torch.tensor(p), 1) for w, p in zip(weights, pairs, strict=True))
    assert_close(is_hit.float().mean(0), exact / weights.sum(), atol=0.03, rtol=0)
    scores = score_hits(logits.expand(draws, -1), odds, limit.unsqueeze(1))
    for voxel in (0, 11):
        assert stats.kstest(scores[is_hit[:, voxel], voxel], "norm").pvalue > 1e-4
    assert torch.all((torch.corrcoef(scores[is_hit].reshape(draws, count).T) - torch.eye(count)).abs() < 0.02)


@pytest.mark.parametrize("hits", [0, 6])
def test_no_voxel_and_all_voxels_can_be_chosen(hits):
    is_hit, limit = choose_hits(torch.randn(9, 6), log_odds(torch.randn(9, 6)), torch.full((9,), hits))
    assert torch.all(is_hit.sum(1) == hits)
    assert torch.all(torch.isfinite(score_hits(torch.randn(9, 6), log_odds(torch.randn(9, 6)), limit.unsqueeze(1))))


def test_shared_energy_is_a_sample_of_independent_sizes_under_their_sum():
    """Where sizes are nearly linear in normal scores, scores under their sum have correlation -1 / (n - 1)."""
    n, width = 4, 0.01
    ones = torch.ones(50_000, n).double()
    sizes = HitSizes(0 * ones, width * ones, 0 * ones, ones, 0 * ones)

    def add(values):
        return values.sum(1, keepdim=True).expand(-1, n)

    values = share_energy(sizes, torch.randn_like(ones), ones.bool(), add)
    assert_close(values.mean(1), ones[:, 0])
    covariance = torch.cov((values.log() / width).T)
    expected = (torch.eye(n) * n - 1).double() / (n - 1)
    assert_close(covariance, expected, atol=0.03, rtol=0)


def test_an_empty_detector_stays_empty_and_is_nothing_to_learn_from(manifold, shapes, context):
    nothing, no_energy = torch.zeros_like(shapes), torch.full_like(context, -9)
    decoded = manifold.decode(manifold.encode(nothing, no_energy), no_energy, noise_of(manifold))
    assert torch.equal(decoded, nothing)
    assert torch.isfinite(manifold.loss(nothing, no_energy)["loss"])
    with pytest.raises(CalomanError, match="all training showers are empty"):
        manifold.fit(lambda: [(nothing, no_energy)])


@pytest.mark.parametrize(
    ("geometry", "zones", "message"),
    [
        (Geometry("bins", "pion", (Layer(0, (0, 1), 2), Layer(1, (0, 1), 4))), [1], "'bins' has layers with different"),
        (REGULAR, [2, 2], r"zones = \[2, 2\] must be growing numbers of rings from 1 to 3"),
        (REGULAR, [4], r"zones = \[4\] must be growing"),
        (Geometry("odd", "electron", (Layer(0, (0, 1, 2), 5),), threshold=0.01), [1], "an even number of bins"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(geometry, zones, message):
    with pytest.raises(CalomanError, match=message):
        CoarseManifold(geometry, 1 + geometry.n_layers, zones=zones)


def test_images_that_would_fill_the_memory_are_refused():
    layers = (Layer(0, tuple(range(3001)), 1), Layer(1, (0, 1), 4000))
    with pytest.raises(CalomanError, match="too many for a CoarseManifold"):
        CoarseManifold(Geometry("large", "pion", layers, threshold=0.01), 3)


def test_groups_that_do_not_fit_are_refused():
    with pytest.raises(CalomanError, match=r"groups = \[4\] must be growing numbers of rings from 1 to 3"):
        CoarseManifold(REGULAR, CONTEXT, zones=[1], groups=[4])


def test_it_has_no_residual(manifold, shapes, context):
    with pytest.raises(CalomanError, match="has no residual"):
        manifold.to_noise(manifold.encode(shapes, context), context, shapes)


@pytest.mark.parametrize("bins", [0, 4])
@pytest.mark.parametrize("layers", [(Layer(0, (0, 1, 2), 4),), (Layer(0, (0, 1, 2), 4), Layer(1, (0, 1)))])
def test_decoding_can_be_exported(randomize, bins, layers):
    geometry = Geometry("tiny", "electron", layers, threshold=0.01)
    n_context, n_noise = 1 + geometry.n_layers, 2 * geometry.n_voxels
    manifold = randomize(CoarseManifold(geometry, n_context, hidden=4, blocks=1, bins=bins)).eval()

    class Decoding(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.manifold = manifold

        def forward(self, latents, context, noise):
            return self.manifold.decode(latents, context, noise)

    def inputs(rows):
        noise = torch.randn(rows, n_noise)
        return torch.randn(rows, manifold.latent_dim), torch.randn(rows, n_context) / 9 - 3, noise

    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(Decoding(), inputs(5), dynamic_shapes=({0: rows},) * 3)
    more = inputs(9)
    assert_close(program.module()(*more), manifold.decode(*more), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("directions", [False, True])
def test_only_a_decoder_with_directions_tells_a_turned_shower_from_another(randomize, directions):
    manifold = randomize(CoarseManifold(REGULAR, CONTEXT, [1, 3], 6, 1, directions), std=0.2).double().eval()
    images = torch.rand(40, L, A, R).double() * (torch.rand(40, L, A, R) < 0.5)
    shapes = (images / images.sum((-2, -1), keepdim=True).clamp(min=1e-9)).flatten(1)
    context = torch.cat([torch.randn(40, 1), torch.full((40, L), -3.0), torch.randn(40, 1)], dim=1).double()
    nothing = torch.zeros(40, manifold.latent_dim).double()
    before, after = (manifold.log_likelihood(nothing, context, each) for each in (shapes, turned(REGULAR, shapes, 2)))
    assert torch.allclose(before, after) is not directions


def test_first_moments_point_to_where_the_energy_is():
    images = torch.rand(7, 2, A, R).double()
    center = (torch.view_as_real(torch.fft.fft(images, dim=2)[:, :, 1]) * torch.tensor([1.0, -1.0])).double()
    cells = 2 * torch.pi / A * (2 * torch.arange(A // 2) + 0.5)  # between its two bins, from the middle of the first
    expected = torch.einsum("mprx,xc->mcpr", center, torch.stack([cells.cos(), cells.sin()]).double())
    assert_close(first_moments(images), expected.flatten(2), atol=1e-6, rtol=1e-5)
