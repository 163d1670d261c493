import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.testing import assert_close

from caloman.preprocessing import (
    ExcessTransform,
    GlobalTransform,
    LayerFractions,
    LayerLogarithms,
    LayerMap,
    LayerwiseTransform,
    Log,
    Logit,
    LogStandardize,
    MaxAbs,
    Standardize,
    Whiten,
)
from caloman.preprocessing.limits import ShareLimits
from caloman.showers.conditions import ENERGY_ONLY

RATIO = 3.0
"""Largest E_tot / E_inc of coordinates that were not fitted."""


def as_tensors(showers, dtype=torch.float32):
    return torch.from_numpy(showers.voxels).to(dtype), torch.from_numpy(showers.incident_energies).to(dtype)[:, None]


deposits = st.just(0.0) | st.floats(-3, 6).map(lambda exponent: 10**exponent)


@st.composite
def layer_energies(draw):
    """Energies of 5 layers and of the particle, from empty showers to more than the particle had."""
    energies = draw(arrays(np.float64, (8, 5), elements=deposits))
    response = draw(arrays(np.float64, (8, 1), elements=st.floats(0.01, RATIO * 0.998)))
    return torch.from_numpy(energies), torch.from_numpy(np.maximum(energies.sum(1, keepdims=True), 1e-3) / response)


@given(layer_energies())
@settings(deadline=None)
@pytest.mark.parametrize(
    ("dtype", "alpha", "tolerance"),
    [(torch.float32, 1e-6, 1e-5), (torch.float32, 1e-9, 1e-5), (torch.float64, 1e-9, 1e-10)],
)
def test_layer_fractions_are_inverted(dtype, alpha, tolerance, energies):
    layers, incident = (tensor.to(dtype) for tensor in energies)
    fractions = LayerFractions(5, alpha)
    logits = fractions(layers, incident)
    assert torch.all(torch.isfinite(logits))
    error = (fractions.inverse(logits, incident) - layers).abs()
    # a layer that is small against alpha keeps an absolute accuracy only
    assert torch.all(error <= tolerance * (layers + alpha * incident))


def test_layer_fractions_are_those_of_caloflow():
    alpha, incident = 1e-6, torch.tensor([[100.0]], dtype=torch.float64)
    layers = torch.tensor([[10.0, 0.0, 60.0, 20.0, 30.0]], dtype=torch.float64)
    u = torch.tensor([[120 / (RATIO * 100), 10 / 120, 0 / 110, 60 / 110, 20 / 50]], dtype=torch.float64)
    assert_close(LayerFractions(5, alpha)(layers, incident), torch.logit(alpha + (1 - 2 * alpha) * u))


@given(layer_energies())
@settings(deadline=None)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_layer_logarithms_are_inverted(dtype, tolerance, energies):
    layers = energies[0].clamp(min=1e-2).to(dtype)
    incident = torch.maximum(energies[1].to(dtype), 1.01 * layers.sum(1, keepdim=True) / RATIO)
    logarithms = LayerLogarithms(5, alpha=1e-9, blur=0.5)
    coordinates = logarithms(layers, incident)
    assert_close(logarithms.inverse(coordinates, incident), layers, rtol=tolerance, atol=0)
    factors = (coordinates[:, 1:] - layers.log()).exp()
    assert_close(factors, factors[:, :1].expand_as(factors))
    assert len(factors[:, 0].unique()) == len(factors)


def resolved(energies, n, dtype=torch.float64):
    """Layers (n, 3) of showers whose resolution is sharp at high energies, and their incident energies (n, 1)."""
    incident = torch.tensor(energies, dtype=dtype)[torch.arange(n) % len(energies)][:, None]
    shares = torch.rand(n, 3, dtype=dtype) + 0.1
    response = (1 + 0.2 * (256 / incident).sqrt() * torch.randn(n, 1, dtype=dtype)).clamp(min=0.1)
    return response * incident * shares / shares.sum(1, keepdim=True), incident


ENERGIES = [256.0, 1024.0, 4096.0, 16384.0, 65536.0]


@pytest.mark.parametrize("kind", [LayerFractions, LayerLogarithms])
def test_layer_energies_never_exceed_what_training_saw_at_their_energy(kind):
    layers, incident = resolved(ENERGIES, 5000)
    coordinates = kind(3).double()
    coordinates.fit([(layers[:2000], incident[:2000]), (layers[2000:], incident[2000:])])
    assert_close(coordinates.inverse(coordinates(layers, incident), incident), layers, rtol=1e-8, atol=0)
    limits = []
    for energy in [4096.0, 8000.0, 16384.0]:
        wild = 50 * torch.randn(2000, 3 + coordinates.extra, dtype=torch.float64)
        generated = coordinates.inverse(wild, torch.full((2000, 1), energy, dtype=torch.float64))
        assert torch.all(generated >= 0)
        limits.append(generated.sum(1).max() / energy)
    seen = [(layers.sum(1) / incident[:, 0])[incident[:, 0] == energy].max() for energy in (4096, 16384)]
    assert seen[0] < limits[0] < 1 + 1.5 * (seen[0] - 1) + 0.01
    assert seen[1] < limits[2] < 1 + 1.5 * (seen[1] - 1) + 0.01
    assert limits[0] > limits[1] > limits[2]


@pytest.mark.parametrize("kind", [LayerFractions, LayerLogarithms])
def test_shares_of_layers_stay_within_what_training_saw_at_their_energy(kind):
    layers, incident = resolved(ENERGIES, 5000)
    layers[:, 2] *= 256 / incident[:, 0]  # a small share at high energies
    coordinates = kind(3).double()
    coordinates.fit([(layers, incident)])
    for energy in ENERGIES[2:]:
        here = layers[incident[:, 0] == energy]
        shares = (here[:, 2] / here.sum(1)).sort().values
        wild = 50 * torch.randn(2000, 3 + coordinates.extra, dtype=torch.float64)
        wild[:, 0] = 0
        generated = coordinates.inverse(wild, torch.full((2000, 1), energy, dtype=torch.float64))
        found = (generated[:, 2] / generated.sum(1)).max()
        assert 1.5 < (found - shares[-1]) / (shares[-1] - shares[-10]) < 3.001
        assert_close(generated.sum(1), generated[:1].sum().expand(2000))


def test_limits_of_shares_are_a_bijection():
    """The step is undone by finding the part of the rooms, of which the sum of all shares is a monotone function."""
    limits, incident = ShareLimits(4).double(), torch.full((2000, 1), 100.0, dtype=torch.float64)
    limits.fit(torch.rand(500, 4, dtype=torch.float64).softmax(1), incident[:500])
    shares = (3 * torch.randn(2000, 4, dtype=torch.float64)).softmax(1)
    edges, largest = limits.edges[:1], limits.limits[:1]
    found = limits(shares, incident)
    assert torch.all((found >= 0) & (found < largest))
    assert_close(found.sum(1), torch.ones(2000, dtype=torch.float64))
    inside = (shares <= edges).all(1)
    assert 20 < inside.sum() < 1980
    assert torch.equal(found[inside], shares[inside])
    assert torch.all((found > edges).any(1)[~inside])

    def before(part):
        """Shares before the step if the others had got this part of the rooms."""
        squeezed = largest - (largest - found) / (1 - part)
        excess = ((squeezed - edges) / (largest - edges)).clamp(0, 1 - 1e-15)
        return torch.where(excess > 0, edges + (largest - edges) * excess.atanh(), squeezed)

    low, high = torch.zeros_like(incident), torch.ones_like(incident)
    for _ in range(60):
        middle = (low + high) / 2
        too_much = before(middle).sum(1, keepdim=True) > 1
        low, high = torch.where(too_much, middle, low), torch.where(too_much, high, middle)
    mild = ((shares - edges) / (largest - edges)).amax(1) < 5  # tanh keeps digits
    assert_close(before(high)[mild], shares[mild], rtol=1e-6, atol=1e-9)


def test_the_coordinate_of_the_total_is_standard_at_each_energy():
    layers, incident = resolved(ENERGIES, 10_000)
    coordinates = LayerFractions(3).double()
    coordinates.fit([(layers, incident)])
    totals = coordinates(layers, incident)[:, :1]
    for energy in ENERGIES:
        here = totals[incident == energy]
        assert abs(here.mean().item()) < 0.1
        assert here.std().item() == pytest.approx(1, abs=0.1)


def test_without_unit_width_the_coordinate_of_the_total_is_centered_and_keeps_its_resolution():
    layers, incident = resolved(ENERGIES, 10_000)
    coordinates = LayerFractions(3, unit_width=False).double()
    coordinates.fit([(layers, incident)])
    found = coordinates(layers, incident)
    here = [found[incident[:, 0] == energy, 0] for energy in ENERGIES]
    assert max(abs(values.mean().item()) for values in here) < 0.1
    assert here[0].std() > 1.2 * here[-1].std()
    assert_close(coordinates.inverse(found, incident), layers, rtol=1e-8, atol=0)


@pytest.mark.parametrize("kind", [LayerFractions, LayerLogarithms])
@pytest.mark.parametrize("damage", ["absurd", "empty layer", "empty showers", "one energy", "one shower", "constant"])
def test_no_training_shower_is_refused(kind, damage):
    layers, incident = resolved(ENERGIES, 1000)
    if damage == "absurd":
        layers[17] *= 1e3
    elif damage == "empty layer":
        layers[:, 1] = 1e-3
    elif damage == "empty showers":
        layers[incident[:, 0] == 1024.0] = 1e-3
    elif damage == "one energy":
        incident[:] = 256.0
    elif damage == "one shower":
        layers, incident = layers[:1], incident[:1]
    else:
        layers = incident.expand(-1, 3) / 3
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-3)):
        batch = layers.to(dtype), incident.to(dtype)
        coordinates = kind(3, alpha=1e-9).to(dtype)
        coordinates.fit([batch])
        found = coordinates(*batch)
        assert torch.all(torch.isfinite(coordinates.log_det(found, *batch)))
        assert_close(coordinates.inverse(found, batch[1]).sum(1), batch[0].sum(1), rtol=tolerance, atol=0)


def test_an_absurd_shower_widens_the_limit_near_its_energy_only():
    layers, incident = resolved(ENERGIES, 5000)
    layers[3] *= 100  # 16384 MeV
    coordinates = LayerFractions(3).double()
    coordinates.fit([(layers, incident)])
    largest = [coordinates.inverse(torch.full((1, 3), 1e3).double(), torch.tensor([[e]]).double()) for e in ENERGIES]
    responses = [float(layers.sum()) / energy for layers, energy in zip(largest, ENERGIES, strict=True)]
    assert responses[3] > 100
    assert max(responses[:3]) < 3
    assert responses[4] < 2


def test_showers_beyond_the_limit_have_a_low_density_but_no_infinite_one():
    layers, incident = resolved(ENERGIES, 5000)
    coordinates = LayerLogarithms(3, alpha=1e-9).double()
    coordinates.fit([(layers, incident)])
    beyond, edge = coordinates(50 * layers, incident)[:, 0], coordinates(layers, incident)[:, 0].max()
    assert torch.all((beyond > edge) & (beyond < 50))


def test_layer_map_sums_and_broadcasts(make_showers, photons):
    voxels, _ = as_tensors(make_showers(20, photons))
    layers = LayerMap(photons)
    sums = layers.sum(voxels)
    for i, columns in enumerate(photons.layer_slices):
        assert_close(sums[:, i], voxels[:, columns].sum(1))
        assert torch.all(layers.broadcast(sums)[:, columns] == sums[:, i : i + 1])
    assert torch.all(layers.sum(layers.is_largest(voxels).float()) == 1)
    assert_close(layers.sum(torch.where(layers.is_largest(voxels), voxels, 0)).max(1).values, voxels.max(1).values)


TRANSFORMS = [LayerwiseTransform, GlobalTransform]


@pytest.mark.parametrize("kind", TRANSFORMS)
@pytest.mark.parametrize("threshold", [0.0, 0.01, 10.0])
def test_showers_are_restored_to_rounding(kind, threshold, make_showers, photons):
    voxels, incident = as_tensors(make_showers(500, photons))
    voxels[7] = 0
    transform = kind(photons, ENERGY_ONLY, threshold)
    expected = torch.where(voxels < threshold, 0, voxels)
    prepared = transform(voxels, incident)
    restored = transform.inverse(prepared.shapes, incident, prepared.layer_energies)
    assert_close(restored, expected, rtol=1e-5, atol=0)
    assert torch.equal(restored == 0, expected == 0)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_voxels_at_the_threshold_are_restored(kind, photons):
    threshold, n = 0.01, 200
    voxels = threshold * (torch.rand(n, 368) < 0.3) + 1000 * torch.rand(n, 368) * (torch.rand(n, 368) < 0.05)
    incident = torch.full((n, 1), 65536.0)
    transform = kind(photons, ENERGY_ONLY, threshold)
    prepared = transform(voxels, incident)
    restored = transform.inverse(prepared.shapes, incident, prepared.layer_energies)
    assert_close(restored, voxels, rtol=1e-5, atol=0)


def test_layerwise_shapes_have_unit_sum_or_are_empty(make_showers, photons):
    voxels, incident = as_tensors(make_showers(200, photons))
    transform = LayerwiseTransform(photons, ENERGY_ONLY, threshold=0.01)
    prepared = transform(voxels, incident)
    sums = transform.layers.sum(prepared.shapes)
    assert torch.any(prepared.layer_energies == 0)
    assert_close(sums, (prepared.layer_energies > 0).float())
    assert_close(prepared.layer_energies, transform.layers.sum(torch.where(voxels < 0.01, 0, voxels)))


def test_contexts_are_those_of_caloman(photons):
    incident = torch.tensor([[1000.0]])
    layers = torch.tensor([[0.0, 10.0, 500.0, 1e3, 1e5]])
    context = LayerwiseTransform(photons, ENERGY_ONLY).context(incident, layers)
    expected = torch.cat([torch.log10(incident + 0.001), torch.log10((layers + 0.001) / 1e5) - 1], dim=1)
    assert_close(context, expected)
    assert context.shape[1] == LayerwiseTransform(photons, ENERGY_ONLY).context_dim == 6
    assert_close(GlobalTransform(photons, ENERGY_ONLY).context(incident, None), torch.zeros(1, 1))


def test_global_shapes_are_those_of_the_paper(make_showers, photons):
    voxels, incident = as_tensors(make_showers(10, photons))
    prepared = GlobalTransform(photons, ENERGY_ONLY)(voxels, incident)
    assert_close(prepared.shapes, voxels / (3.1 * incident))


def garbage(n, geometry):
    """Shapes as a bad decoder makes them: any size, many decades, some beyond the bounds."""
    return 10 ** (2 * torch.randn(n, geometry.n_voxels) - 3)


@pytest.mark.parametrize("kind", [LayerwiseTransform, ExcessTransform])
@pytest.mark.parametrize("threshold", [0.0, 0.01, 10.0])
def test_layerwise_inverse_conserves_layer_energies(kind, threshold, photons):
    layers = 10 ** (6 * torch.rand(500, 5) - 2)
    transform = kind(photons, ENERGY_ONLY, threshold)
    voxels = transform.inverse(garbage(500, photons), torch.full((500, 1), 1e6), layers)
    assert_close(transform.layers.sum(voxels), torch.where(layers < threshold, 0, layers), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", [*TRANSFORMS, ExcessTransform])
def test_no_voxel_is_left_below_the_threshold(kind, photons):
    layers = 10 ** (6 * torch.rand(500, 5) - 2)
    voxels = kind(photons, ENERGY_ONLY, 10.0).inverse(garbage(500, photons), torch.full((500, 1), 1e4), layers)
    assert torch.all((voxels == 0) | (voxels >= 10 * (1 - 1e-6)))
    assert torch.any(voxels > 0)


@pytest.mark.parametrize("kind", [LayerwiseTransform, ExcessTransform])
def test_layers_without_energy_stay_empty_whatever_the_shape(kind, photons):
    transform = kind(photons, ENERGY_ONLY, threshold=0.01)
    layers = torch.rand(100, 5) * (torch.rand(100, 5) < 0.5)
    voxels = transform.inverse(garbage(100, photons), torch.full((100, 1), 1e3), layers)
    assert torch.equal(transform.layers.sum(voxels) > 0, layers >= 0.01)


@pytest.mark.parametrize("threshold", [0.0, 0.01, 10.0])
def test_an_excess_restores_all_hits_whatever_its_scale(threshold, make_showers, photons):
    voxels, incident = as_tensors(make_showers(500, photons))
    voxels[7] = 0
    voxels[8] = threshold
    transform = ExcessTransform(photons, ENERGY_ONLY, threshold)
    expected = torch.where(voxels < threshold, 0, voxels)
    first, second = transform(voxels, incident), transform(voxels, incident)
    assert torch.equal(first.shapes > 0, expected > 0)
    assert torch.any(first.shapes != second.shapes)
    for prepared in (first, second):
        restored = transform.inverse(prepared.shapes, incident, prepared.layer_energies)
        assert torch.equal(restored == 0, expected == 0)
        assert_close(restored, expected, rtol=1e-3, atol=0)


def test_the_scale_of_a_layer_is_random_while_training_and_fades_with_its_hits(photons):
    voxels = torch.zeros(4000, 368)
    voxels[:, 0] = 5.0  # one hit in the first layer, 160 in the second
    voxels[:, 8:168] = torch.rand(4000, 160) + 1
    transform = ExcessTransform(photons, ENERGY_ONLY, threshold=0.01)
    scales = transform.layers.sum(transform(voxels, torch.full((4000, 1), 1e3)).shapes).log().std(dim=0)
    assert_close(scales[:2], torch.tensor([1.0, 1 / 160]), rtol=0.1, atol=0)
    sums = transform.eval().layers.sum(transform(voxels, torch.full((4000, 1), 1e3)).shapes)
    assert_close(sums[:, :2], torch.ones(4000, 2))


def test_hits_that_the_energy_of_a_layer_cannot_pay_for_are_dropped(photons):
    shapes = torch.zeros(1, 368)
    shapes[0, 8:48] = torch.linspace(1, 40, 40)
    layers = torch.tensor([[0.0, 35.0, 0.0, 0.0, 0.0]])
    voxels = ExcessTransform(photons, ENERGY_ONLY, threshold=1.0).inverse(shapes, torch.full((1, 1), 1e3), layers)
    hits = voxels[0] > 0
    assert hits[8:48].tolist() == [False] * 23 + [True] * 17  # share = 35 k / 820 of a layer with hits k = 1 ... 40
    assert torch.all(voxels[0, hits] >= 1)
    assert_close(voxels.sum(), torch.tensor(35.0))


def test_published_variant_does_not_renormalize(photons):
    shapes, layers = torch.rand(10, 368) / 100, torch.full((10, 5), 100.0)
    transform = LayerwiseTransform(photons, ENERGY_ONLY, renormalize=False)
    assert_close(transform.inverse(shapes, torch.ones(10, 1), layers), shapes * 100)


SCALINGS = [Standardize, LogStandardize, MaxAbs, Whiten]  # those with statistics


@pytest.fixture
def correlated():
    """Positive rows of 6 entries: mixed, of different sizes, the last one constant."""
    rows = (0.5 * torch.randn(1000, 6) @ torch.randn(6, 6)).exp() * torch.tensor([1e-2, 1, 1, 10, 100, 1])
    rows[:, 5] = 3.0
    return rows


def fitted(kind, batches):
    scaling = kind(6)
    scaling.fit(batches)
    return scaling


@pytest.mark.parametrize("kind", SCALINGS)
def test_fit_in_batches_equals_fit_on_all(kind, correlated):
    whole, parts = fitted(kind, [correlated]), fitted(kind, iter(correlated.split(137)))
    assert whole.state_dict()
    for name, value in whole.state_dict().items():
        assert_close(parts.state_dict()[name], value, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("kind", SCALINGS)
def test_scaling_is_inverted(kind, correlated):
    scaling = fitted(kind, [correlated])
    assert_close(scaling.inverse(scaling(correlated)), correlated, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", SCALINGS)
def test_state_dict_carries_the_statistics(kind, correlated):
    scaling, fresh = fitted(kind, [correlated]), kind(6)
    assert not torch.allclose(fresh(correlated), scaling(correlated))
    fresh.load_state_dict(scaling.state_dict())
    assert torch.equal(fresh(correlated), scaling(correlated))


@pytest.mark.parametrize("kind", [Standardize, MaxAbs, Whiten])
def test_scaling_is_the_identity_before_the_fit(kind, correlated):
    assert_close(kind(6)(correlated), correlated)


@pytest.mark.parametrize("kind", [Standardize, LogStandardize])
def test_standardized_entries_have_zero_mean_and_unit_variance(kind, correlated):
    scaled = fitted(kind, [correlated])(correlated)
    assert_close(scaled.mean(0), torch.zeros(6), rtol=0, atol=1e-4)
    assert_close(scaled[:, :5].std(0, correction=0), torch.ones(5), rtol=1e-3, atol=0)
    assert_close(scaled[:, 5], torch.zeros(1000), rtol=0, atol=1e-4)


def test_whitened_entries_have_unit_covariance_and_a_constant_stays_constant(correlated):
    rows = correlated.log()  # sizes alike, strongly correlated
    scaled = fitted(Whiten, [rows])(rows)
    variances = torch.linalg.eigvalsh(torch.cov(scaled.T, correction=0))
    assert_close(variances, torch.tensor([0.0, 1, 1, 1, 1, 1]), rtol=0, atol=1e-3)
    assert_close(scaled.mean(0), torch.zeros(6), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", [*SCALINGS, Log, Logit])
def test_log_determinants_of_scalings_are_those_of_their_jacobians(kind, correlated):
    rows = torch.rand(500, 6, dtype=torch.float64) if kind is Logit else correlated.double()
    scaling = kind(6).double()
    scaling.fit([rows])
    expected = torch.linalg.slogdet(torch.func.vmap(torch.func.jacrev(lambda x: scaling(x[None])[0]))(rows)).logabsdet
    assert_close(scaling.log_det(rows), expected)


def test_max_abs_uses_one_scale_for_all_entries():
    scaling = fitted(MaxAbs, [torch.tensor([[1.0, -8, 0, 0, 0, 2]])])
    assert_close(scaling(torch.full((1, 6), 4.0)), torch.full((1, 6), 0.5))


def test_whitening_is_undone_within_mixed_precision():
    batch = torch.randn(500, 6) @ torch.randn(6, 6)
    whiten = Whiten(6)
    whiten.fit([batch])
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(whiten.inverse(whiten(batch)), batch, rtol=1e-4, atol=1e-4)
