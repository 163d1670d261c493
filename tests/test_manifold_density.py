import math
from copy import deepcopy

import h5py
import numpy as np
import pytest
import torch
from conftest import TINY_MODEL
from numpy.testing import assert_allclose
from scipy.stats import norm
from torch import nn

from caloman import bundle
from caloman.cli import main
from caloman.demonstrations.mflow import MFlow
from caloman.errors import CalomanError
from caloman.flows import CouplingFlow
from caloman.generation.anomaly import SCORES, Significances, anomaly_scores, score, significance_improvements
from caloman.manifold.density import jacobian, log_volume
from caloman.nn.mlp import MLP
from caloman.showers.conditions import ENERGY_ONLY
from caloman.showers.showers import Showers


@pytest.fixture
def mflow(randomize):
    flows = [CouplingFlow(features, transforms=2, hidden=8, bins=4) for features in (4, 2)]
    return randomize(MFlow(*flows), std=0.1).double()


def full_jacobian(decode, latents):
    """Shape (N, D, d), by backward mode, one point after the other."""
    return torch.stack([torch.autograd.functional.jacobian(lambda row: decode(row[None])[0], row) for row in latents])


def test_jacobian_and_volume_are_those_of_autograd():
    decode = MLP(3, [16, 16], 7, nn.Tanh).double()
    latents = torch.randn(20, 3, dtype=torch.float64)
    expected = full_jacobian(decode, latents)
    assert_allclose(jacobian(decode, latents).detach(), expected.mT, atol=1e-12)
    volume = log_volume(decode, latents)
    assert_allclose(volume.detach(), 0.5 * torch.logdet(expected.mT @ expected), atol=1e-9)
    assert torch.autograd.gradcheck(lambda z: log_volume(decode, z), latents[:2].requires_grad_())
    single = log_volume(decode.float(), latents.float())
    assert single.dtype == torch.float32
    assert_allclose(single.detach(), volume.detach(), atol=1e-4)


def test_volume_of_a_linear_map_and_of_a_sphere():
    latents = torch.rand(10, 2, dtype=torch.float64) + 0.5
    matrix = torch.randn(2, 5, dtype=torch.float64)
    assert_allclose(log_volume(lambda z: z @ matrix, latents), (0.5 * torch.logdet(matrix @ matrix.T)).expand(10))

    def sphere(angles):
        polar, azimuth = angles.unbind(dim=1)
        return 3 * torch.stack([polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin(), polar.cos()], dim=1)

    assert_allclose(log_volume(sphere, latents), (9 * latents[:, 0].sin()).log())


def test_a_coordinate_that_the_decoder_ignores_leaves_the_volume_finite():
    latents = torch.randn(5, 3)
    for decode in (lambda z: torch.cat([z[:, :2], z[:, :2]], dim=1), lambda z: 0 * z):
        assert log_volume(decode, latents).isfinite().all()


def test_the_density_of_a_chart_is_that_on_the_circle():
    """A normal density of the angle, on a circle of radius 2 whose coordinate is a third of the angle."""
    angle = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    volume = log_volume(lambda u: 2 * torch.cat([(3 * u).cos(), (3 * u).sin()], dim=1), angle / 3)
    log_prob = torch.from_numpy(norm.logpdf(angle[:, 0] / 3, scale=0.5 / 3)) - volume
    assert_allclose(log_prob, norm.logpdf(angle[:, 0], scale=0.5) - math.log(2))


def test_projections_lie_on_the_manifold_and_have_the_density_of_the_flow(mflow):
    x = torch.randn(30, 4, dtype=torch.float64)
    projected = mflow.project(x)
    assert_allclose(mflow.project(projected).detach(), projected.detach(), atol=1e-9)
    assert (mflow.reconstruction_error(x) > 0).all()
    assert_allclose(mflow.reconstruction_error(projected).detach(), 0, atol=1e-15)
    latents = mflow.encode(x)
    derivatives = full_jacobian(mflow.decode, latents.detach())
    expected = mflow.inner.log_prob(latents) - 0.5 * torch.logdet(derivatives.mT @ derivatives)
    assert_allclose(mflow.log_prob(x).detach(), expected.detach(), atol=1e-8)
    assert_allclose(mflow.log_prob(projected).detach(), expected.detach(), atol=1e-8)


def test_the_density_of_samples_integrates_to_one_over_the_manifold(mflow):
    side = torch.linspace(-12, 12, 121, dtype=torch.float64)
    latents = torch.cartesian_prod(side, side)
    with torch.no_grad():
        density = mflow.log_prob(mflow.decode(latents)) + log_volume(mflow.decode, latents)
    assert density.exp().sum() * 0.2**2 == pytest.approx(1, abs=1e-3)
    assert mflow.sample(torch.randn(7, 2, dtype=torch.float64)).shape == (7, 4)


def test_the_phases_train_different_parameters(mflow):
    x = torch.randn(10, 4, dtype=torch.float64)
    outer, inner = list(mflow.outer.parameters()), list(mflow.inner.parameters())
    assert all(g is None for g in torch.autograd.grad(mflow.latent_loss(x), outer, allow_unused=True))
    gradients = torch.autograd.grad(mflow.reconstruction_error(x).sum(), inner, allow_unused=True)
    assert all(gradient is None for gradient in gradients)
    # the volume does not depend on the density, so that this is the gradient of the likelihood
    of_loss = torch.autograd.grad(mflow.latent_loss(x), inner)
    of_likelihood = torch.autograd.grad(-mflow.log_prob(x).mean(), inner)
    for first, second in zip(of_loss, of_likelihood, strict=True):
        assert_allclose(first, second, atol=1e-12)


def test_significance_improvements_are_those_of_counting():
    rng = np.random.default_rng(0)
    usual, anomalous = rng.standard_normal(10_000), rng.normal(2, 1, 3000)
    points = significance_improvements(usual, anomalous)
    assert list(points) == [1e-2, 1e-3]  # one shower is no working point
    threshold = np.quantile(usual, 0.99)
    efficiency, background = np.mean(anomalous > threshold), np.mean(usual > threshold)
    assert points[1e-2][0] == pytest.approx(efficiency / math.sqrt(background), rel=1e-3)
    assert points[1e-2][0] == pytest.approx(norm.sf(norm.isf(0.01) - 2) / 0.1, abs=3 * points[1e-2][1])
    same = significance_improvements(usual, rng.standard_normal(10_000))
    for fraction, (value, error) in same.items():
        assert value == pytest.approx(math.sqrt(fraction), abs=4 * error)
    assert significance_improvements(usual, usual - 100)[1e-2][0] == 0
    assert significance_improvements(usual, usual + 100)[1e-2][0] == pytest.approx(10)


def test_errors_of_significance_improvements_are_the_spread_of_repetitions():
    rng = np.random.default_rng(0)
    repeats = [
        significance_improvements(rng.standard_normal(2000), rng.normal(2, 1, 500))[1e-2] for _ in range(200)
    ]  # fmt: skip
    values, errors = np.transpose(repeats)
    assert 0.5 < values.std() / errors.mean() < 2


def test_the_table_tells_scores_that_see_an_anomaly_from_those_that_do_not():
    rng = np.random.default_rng(0)
    usual = {name: rng.standard_normal(1000) for name in ("blind", "sharp")}
    text = str(Significances(usual, {"blind": rng.standard_normal(500), "sharp": usual["sharp"] + 9}))
    _, _, blind, sharp = ([cell.strip() for cell in line.split("|")] for line in text.splitlines())
    assert float(blind[2]) == pytest.approx(0.5, abs=0.06)
    assert float(sharp[2]) > 0.999
    assert sharp[-2] == sharp[3].split()[0] == "10.00"
    assert sharp[4:6] == ["-", "-"]


@pytest.fixture
def truth(make_showers, small, tmp_path):
    """Showers that the model of the run covers."""
    showers = make_showers(60, small)
    energies = showers.incident_energies.clip(1e3, 1e5)
    Showers(energies, showers.voxels, small).save(tmp_path / "truth.hdf5")
    return tmp_path / "truth.hdf5"


def test_scores_of_a_model_are_those_of_its_parts(run, truth, small):
    model = bundle.load(run).double()
    showers = Showers.load(truth, small)
    voxels, energies = torch.from_numpy(showers.voxels).double(), torch.from_numpy(showers.incident_energies)[:, None]
    with torch.no_grad():
        scores = anomaly_scores(model, voxels, energies.double())
    shapes, context, _ = model.transform(voxels, energies.double())
    autoencoder, density = model.manifold.autoencoder, model.manifold.density
    latents = autoencoder.encode(shapes, context)
    decoded = autoencoder.decode(latents, context, torch.zeros(60, 16))
    assert_allclose(scores["reconstruction"], (shapes - decoded).norm(dim=1).detach(), rtol=1e-5)
    likelihood = autoencoder.head.log_prob(autoencoder._decoder_output(latents, context), shapes)
    assert_allclose(scores["decoder"], -likelihood.detach(), rtol=1e-5)
    assert_allclose(scores["latent"], -density.log_prob(latents, context).detach())
    assert tuple(scores) == SCORES
    model.energy.dequantization = None  # an empty layer has no density then
    assert "layer_energies" not in anomaly_scores(model, voxels, energies.double())
    assert all(values.isfinite().all() for values in scores.values())


def test_scores_are_a_function_of_the_shower(truth, small, randomize, tmp_path):
    """Neither of random numbers in the preprocessing, nor of the other showers of a batch."""
    spec = deepcopy(TINY_MODEL)
    spec["init_args"]["transform"]["class_path"] = "caloman.preprocessing.ExcessTransform"
    spec["init_args"]["energy"]["init_args"]["coordinates"] = {"class_path": "caloman.preprocessing.LayerLogarithms"}
    model = randomize(bundle.build_model(spec, small, ENERGY_ONLY, tmp_path), std=0.2).eval()
    showers = Showers.load(truth, small)
    voxels, energies = torch.from_numpy(showers.voxels), torch.from_numpy(showers.incident_energies)[:, None]
    assert (model.transform.layers.sum(voxels) == 0).any()
    with torch.no_grad():
        scores, some = anomaly_scores(model, voxels, energies), anomaly_scores(model, voxels[20:40], energies[20:40])
    for name, values in scores.items():
        assert_allclose(some[name], values[20:40], rtol=1e-4, atol=1e-4, err_msg=name)


def test_the_projected_density_does_not_depend_on_the_coordinates(run, truth, small):
    """Stretched latents, with a decoder that takes that back, are other coordinates of the same manifold."""
    model = bundle.load(run).double()
    showers = Showers.load(truth, small)
    inputs = [torch.from_numpy(part).double() for part in (showers.voxels, showers.incident_energies[:, None])]
    with torch.no_grad():
        before = anomaly_scores(model, *inputs)
        autoencoder, scaling = model.manifold.autoencoder, model.manifold.density.scaling
        for stretched in (autoencoder.encoder.last.weight, autoencoder.encoder.last.bias, scaling.mean):
            stretched.mul_(3)
        autoencoder.decoder.tower[0].weight[:, :3].div_(3)
        scaling.matrix.div_(3)
        scaling.inverse_matrix.mul_(3)
        after = anomaly_scores(model, *inputs)
    # the Gram matrix squares the condition of the Jacobian: of 16 digits a few are left
    assert_allclose(after["projected"], before["projected"], rtol=1e-4, atol=2e-3)
    assert_allclose(after["latent"], before["latent"] + 3 * math.log(3), rtol=1e-6, atol=1e-6)


def test_the_command_writes_scores_and_judges_them(run, truth, tmp_path, capsys):
    usual, odd = tmp_path / "usual.hdf5", tmp_path / "odd.hdf5"
    assert main(["score", str(run), f"{truth}[0:10]", str(odd)]) == 0
    assert capsys.readouterr().out == f"scores of 10 showers written to {odd}\n"
    assert main(["score", str(run), str(truth), str(usual), "--anomalies", str(odd)]) == 0
    message, header, *rows = capsys.readouterr().out.splitlines()
    assert message.startswith("scores of 60 showers")
    assert [row.split()[1] for row in rows[1:]] == list(SCORES)
    assert "AUC" in header
    with h5py.File(usual) as first, h5py.File(odd) as second:
        for name in SCORES:
            assert first[name].shape == (60, 1)
            assert_allclose(first[name][:10], second[name][:], rtol=1e-5)


def test_scores_need_a_file_of_scores(run, truth, tmp_path):
    with pytest.raises(CalomanError, match=r"truth.hdf5: has no table 'reconstruction'; make it with `caloman score`"):
        score(run, str(truth), tmp_path / "out.hdf5", anomalies=truth)
    assert not (tmp_path / "out.hdf5").exists()
