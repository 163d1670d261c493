import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from caloman.preprocessing import ExcessTransform, SmoothSpectrum
from caloman.showers.conditions import ENERGY_ONLY
from caloman.showers.geometry import BUILT_IN

STEPS = torch.tensor([0.5, 1.0, 1.5, 2.0])  # energies at which every shower has a step [MeV]


@pytest.fixture
def hits(rng, photons):
    """Energies (4000, 368) [MeV]: log-normal, and a fifth of them crowded at the same places."""
    energies = torch.from_numpy(rng.lognormal(1, 1.5, (4000, photons.n_voxels))).float()
    crowded = STEPS[torch.from_numpy(rng.integers(4, size=energies.shape))] * (1 + 0.05 * torch.randn(energies.shape))
    chosen = torch.where(torch.rand(energies.shape) < 0.2, crowded, energies)
    return torch.where(torch.rand(energies.shape) < 0.3, 0.0, chosen)


@pytest.fixture
def spectrum(hits, photons):
    smooth = SmoothSpectrum(photons)
    smooth.fit(hits.split(1000))
    return smooth


def test_map_is_the_identity_before_it_is_fitted(photons):
    smooth, logs = SmoothSpectrum(photons), 6 * torch.randn(50, photons.n_voxels)
    assert_close(smooth(logs), logs, rtol=1e-5, atol=1e-4)
    back, slopes = smooth.inverse(logs)
    assert_close(back, logs, rtol=1e-5, atol=1e-4)
    assert_close(slopes, torch.ones_like(logs), rtol=1e-4, atol=1e-4)


def test_inverse_undoes_the_map_within_and_beyond_its_range(spectrum, photons):
    spectrum.double()
    logs = 8 * torch.randn(200, photons.n_voxels, dtype=torch.float64)
    ironed = spectrum(logs)
    back, _ = spectrum.inverse(ironed)
    assert_close(back, logs, rtol=0, atol=1e-9)
    order = logs[:, 0].argsort()
    assert torch.all(ironed[order, 0].diff() > 0)
    assert spectrum.inverse(torch.full((1, photons.n_voxels), math.nan))[0].isnan().all()  # and no index beyond a table


def test_slopes_are_the_derivatives_of_the_inverse(spectrum, photons):
    spectrum.double()
    ironed = torch.randn(20, photons.n_voxels, dtype=torch.float64, requires_grad=True)
    logs, slopes = spectrum.inverse(ironed)
    (expected,) = torch.autograd.grad(logs.sum(), ironed)
    assert_close(slopes, expected)


def test_what_is_narrow_is_ironed_and_what_is_wide_stays(spectrum, hits):
    def roughness(logs):
        """Largest ratio of neighboring bins 0.1 wide."""
        counts = np.histogram(logs[logs.isfinite()].numpy(), np.arange(-1, 1, 0.1))[0]
        return np.abs(np.diff(np.log(counts))).max()

    logs = hits.log()
    ironed = torch.where(hits > 0, spectrum(logs.clamp(min=-20)), -torch.inf)
    assert roughness(logs) > 0.5
    assert roughness(ironed) < 0.2
    known = logs.isfinite()
    assert_close(ironed[known].std(), logs[known].std(), rtol=0.1, atol=0)


def test_showers_come_back_from_a_smooth_spectrum(hits, photons):
    transform = ExcessTransform(photons, ENERGY_ONLY, threshold=0.01)
    transform.fit([hits])
    incident = torch.full((len(hits), 1), 1e5)
    voxels = torch.where(hits < 0.01, 0.0, hits)
    prepared = transform(voxels, incident)
    restored = transform.inverse(prepared.shapes, incident, prepared.layer_energies)
    assert torch.equal(restored > 0, voxels > 0)
    assert_close(restored, voxels, rtol=1e-3, atol=0)
    assert_close(transform.layers.sum(restored), prepared.layer_energies, rtol=1e-5, atol=0)
    far = (0.3 * torch.randn_like(voxels)).exp() * prepared.shapes
    layers = transform.layers.sum(transform.inverse(far, incident, prepared.layer_energies))
    assert_close(layers, prepared.layer_energies, rtol=1e-5, atol=0)


def test_each_zone_of_a_layer_has_a_map_of_its_own(hits):
    geometry = BUILT_IN["1-photons"]
    zoned = SmoothSpectrum(geometry, zones=[3])
    rings = np.concatenate([np.arange(layer.n_voxels) % layer.n_r for layer in geometry.layers])
    inner, logs = torch.from_numpy(rings < 3), torch.randn(50, geometry.n_voxels)
    for part in (inner, ~inner):
        zoned.fit([hits])
        expected, plain = zoned(logs)[:, part], SmoothSpectrum(geometry)
        plain.fit([hits * part])
        assert_close(plain(logs)[:, part], expected)
        zoned.fit([hits * part])
        assert_close(zoned(logs)[:, part], expected)
        assert_close(zoned(logs)[:, ~part], logs[:, ~part], rtol=1e-5, atol=1e-4)
    assert_close(zoned.inverse(zoned(logs))[0], logs, rtol=1e-4, atol=1e-4)
