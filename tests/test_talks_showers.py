"""The talks' pages about showers, in small: what goes into their tables is what they say."""

import importlib
from argparse import Namespace

import numpy as np
import pytest
import torch
from conftest import ROOT

from caloman.showers.geometry import BUILT_IN
from caloman.showers.showers import Showers


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module


def showers(geometry, n=40):
    rng = np.random.default_rng(0)
    voxels = rng.exponential(size=(n, geometry.n_voxels)) * (rng.random((n, geometry.n_voxels)) < 0.5)
    return Showers(rng.choice([256.0, 512.0], n).astype(np.float32), voxels.astype(np.float32), geometry)


@pytest.mark.parametrize("mesh", ["1-photons", "1-pions"])
def test_the_common_mesh_keeps_the_layer_energies(script, tmp_path, mesh):
    module, given = script("common_mesh"), showers(BUILT_IN[mesh])
    given.save(tmp_path / "showers.hdf5")
    summed = module.summed(tmp_path / "showers.hdf5", mesh)
    expected = given.geometry.layer_energies(given.voxels)[:, :5]
    np.testing.assert_allclose(module.MESH.layer_energies(summed.voxels), expected, rtol=1e-5)
    fine, coarse = (g.layers[2].r_edges for g in (given.geometry, module.MESH))
    inner = [g.layer_slices[2] for g in (given.geometry, module.MESH)]
    halves = []
    for edges, columns, voxels in zip((fine, coarse), inner, (given.voxels, summed.voxels), strict=True):
        rings = voxels[:, columns].reshape(len(voxels), 10, -1)
        halves.append(rings[:, :, : edges.index(50)].sum(axis=2))
    np.testing.assert_allclose(*halves, rtol=1e-5)


def test_faults_change_one_sector_or_one_voxel(script):
    module = script("common_mesh")
    given, rng = showers(module.MESH), np.random.default_rng(1)
    lost = given.voxels - module.dead_sector(given, rng).voxels
    sectors = lost[:, module.MESH.layer_slices[1]].reshape(len(lost), 10, -1).sum(axis=2)
    assert ((sectors > 0).sum(axis=1) == 1).all()
    assert lost[:, module.MESH.voxel_layer != 1].max() == 0
    more = module.hot_voxel(given, rng, 0.02).voxels - given.voxels
    assert ((more > 0).sum(axis=1) == 1).all()
    np.testing.assert_allclose(more.sum(axis=1), 0.02 * given.incident_energies, rtol=1e-4)


def test_pions_get_the_energies_of_the_photons(script):
    module, rng = script("common_mesh"), np.random.default_rng(0)
    photons, pions = showers(module.MESH, 40), showers(module.MESH, 400)
    photons.incident_energies[:10], photons.incident_energies[10:] = 256.0, 512.0
    chosen = module.with_energies_of(pions, photons, rng)
    assert (chosen.incident_energies == 256).mean() == pytest.approx(0.25, abs=0.01)
    assert len(chosen) > 200


@pytest.fixture
def energies(script):
    module, rng = script("layer_energies"), np.random.default_rng(0)
    incident = rng.choice([512.0, 4096.0, 32768.0], 1500)
    layers = incident[:, None] * np.exp(0.3 * rng.standard_normal((1500, 5)) - 2)
    layers[rng.random(1500) < 0.3, 4] = 0
    return module.Energies(incident, layers)


def test_the_precision_of_a_layer_is_the_fisher_information_of_its_weights_and_a_prior(script, energies):
    module = script("benchmark_bands")
    torch.manual_seed(0)
    model = module.LayerFlow(energies)
    layer = model.flow.transforms[0].conditioner.last
    torch.nn.init.normal_(layer.weight, std=0.1)
    rows = torch.cat(model.tensors(energies), dim=1)
    rows = rows[(rows > 0).all(dim=1)][:20]  # no noise in empty layers
    root = module.posterior_root(model, layer, rows)
    expected = torch.eye(len(root)) / layer.weight.detach().square().mean()
    for row in rows:
        weight, bias = torch.autograd.grad(model.log_prob(row[None]).sum(), [layer.weight, layer.bias])
        gradient = torch.cat([weight, bias[:, None]], dim=1).flatten()
        expected += gradient.outer(gradient)
    torch.testing.assert_close((root @ root.T).float(), expected, rtol=1e-3, atol=1e-2)


def test_members_differ_where_their_method_says_so(script, energies):
    module = script("benchmark_bands")
    experiment = object.__new__(module.Experiment)
    experiment.train = experiment.test = energies
    experiment.options = Namespace(members=2, epochs=1, batch=250, learning_rate=1e-3)
    rows = {method: experiment.measure(method, 0) for method in module.METHODS}
    assert rows["noise"]["gain"] == pytest.approx(0, abs=1e-5)
    assert all(rows[method]["gain"] > 1e-5 for method in module.METHODS[1:])
    assert "| last layer | 1 |" in module.table([{"method": name, **row} for name, row in rows.items()])
    assert module.figure([{"method": name, **row} for name, row in rows.items()]).startswith(b"\x89PNG")


def test_fractions_are_joined_again_and_the_floor_is_that_of_guessing(script, energies):
    module = script("benchmark_scaling")
    fractions = energies.layers / energies.incident[:, None] + 1e-6
    np.testing.assert_allclose(module.joined(module.broken_off(fractions)), fractions, rtol=1e-6)
    halves = [module.Energies(*(values[i::2] for values in energies)) for i in (0, 1)]
    assert module.compared(*halves, seed=0)["AUC"] == pytest.approx(0.5, abs=0.08)
    doubled = module.Energies(halves[1].incident, 2 * halves[1].layers)
    assert module.compared(halves[0], doubled, seed=0)["AUC"] > 0.8


@pytest.mark.parametrize("scaling", ["min-max", "square root", "logit", "normal scores"])
def test_scaled_flows_give_layer_energies(script, energies, scaling):
    module = script("benchmark_scaling")
    options = Namespace(epochs=1, batch=250, learning_rate=1e-3)
    made = module.generated(scaling, energies, energies, 0, options)
    assert made.layers.shape == energies.layers.shape
    assert ((made.layers == 0) | (made.layers >= module.THRESHOLD)).all()
    assert 0.5 < made.layers[:, 0].mean() / energies.layers[:, 0].mean() < 2
