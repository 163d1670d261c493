import h5py
import numpy as np
import pytest
import torch
from torch import nn

from caloman import bundle
from caloman.cli import main
from caloman.errors import CalomanError
from caloman.generation.closure import encode, reconstruct
from caloman.models import FactorizedShowerModel, ShapeModel
from caloman.models.noise import Purpose, chunk_noise
from caloman.preprocessing import LayerwiseTransform
from caloman.showers.conditions import ENERGY_ONLY, Conditions
from caloman.showers.showers import Showers
from caloman.showers.spectra import CHUNK

N = CHUNK + 300
TRANSFORM = {"class_path": "caloman.preprocessing.LayerwiseTransform", "init_args": {"threshold": 0.01}}
FLOW = {"class_path": "caloman.flows.CouplingFlow", "init_args": {"transforms": 2, "hidden": 8, "bins": 4}}
DENSITY = {"class_path": "caloman.models.Density", "init_args": {"flow": FLOW}}
ENERGY = {"class_path": "caloman.models.LayerEnergyModel", "init_args": {"flow": FLOW, "threshold": 0.01}}
VAE = {
    "class_path": "caloman.manifold.VAE",
    "init_args": {"latent_dim": 3, "hidden": [8], "head": {"class_path": "caloman.manifold.HurdleHead"}},
}
IDENTITY = {"class_path": "caloman.manifold.Autoencoder", "init_args": {"latent_dim": 16, "hidden": []}}


def spec(autoencoder=VAE, transform=TRANSFORM, energy=ENERGY, residual=None):
    shape = {"autoencoder": autoencoder, "density": DENSITY, "residual": residual}
    shape = {"class_path": "caloman.models.ManifoldShape", "init_args": shape}
    parts = {"transform": transform, "shape": shape, "energy": energy}
    return {"class_path": "caloman.models.FactorizedShowerModel", "init_args": parts}


@pytest.fixture
def save(small, randomize, tmp_path):
    """Writes the bundle of a random model and returns its folder and the model."""

    def apply(arguments, change=lambda model: None):
        model = randomize(bundle.build_model(arguments, small, ENERGY_ONLY, tmp_path), std=0.2)
        model.conditions = Conditions.energies(256.0, 2.0**22)
        change(model)
        bundle.save(model, arguments, {"files": [], "showers": 0}, tmp_path / "run")
        return tmp_path / "run", model.eval()

    return apply


@pytest.fixture
def truth(make_showers, small, tmp_path):
    """Showers that a threshold of 0.01 MeV leaves as they are, under tmp_path / "truth.hdf5"."""
    showers = make_showers(N, small)
    showers.voxels[showers.voxels < 0.01] = 0
    showers.save(tmp_path / "truth.hdf5")
    return showers


@pytest.fixture
def reconstructed(small, tmp_path):
    def apply(run, rows="", name="out.hdf5", **options):
        reconstruct(run, f"{tmp_path / 'truth.hdf5'}{rows}", tmp_path / name, **options)
        return Showers.load(tmp_path / name, small)

    return apply


@pytest.fixture
def tables(tmp_path):
    def apply(run, **options):
        encode(run, str(tmp_path / "truth.hdf5"), tmp_path / "latents.hdf5", **options)
        with h5py.File(tmp_path / "latents.hdf5") as file:
            return {**{name: file[name][:] for name in file}, **file.attrs}

    return apply


def layer_energies(showers):
    return np.stack([showers.voxels[:, rows].sum(1, dtype=np.float64) for rows in showers.geometry.layer_slices], 1)


def inputs(showers):
    return torch.from_numpy(showers.voxels), torch.from_numpy(showers.incident_energies)[:, None]


def pass_through(model):
    """Makes encoder and decoder the identity on shapes."""
    autoencoder = model.manifold.autoencoder
    for network in (autoencoder.encoder, autoencoder.decoder):
        nn.init.zeros_(network.last.bias)
        nn.init.eye_(network.last.weight)
        with torch.no_grad():
            network.last.weight[:, 16:] = 0


def test_a_deterministic_autoencoder_of_full_rank_gives_the_showers_back(save, truth, reconstructed):
    run, _ = save(spec(IDENTITY), pass_through)
    showers = reconstructed(run)
    np.testing.assert_allclose(showers.voxels, truth.voxels, rtol=1e-5)
    np.testing.assert_array_equal(showers.incident_energies, truth.incident_energies)


@pytest.mark.parametrize("residual", [None, DENSITY])
def test_reconstructions_have_the_true_layer_energies_in_the_same_order(save, truth, reconstructed, residual):
    run, _ = save(spec(residual=residual))
    showers = reconstructed(run)
    np.testing.assert_allclose(layer_energies(showers), layer_energies(truth), rtol=1e-5)
    np.testing.assert_array_equal(showers.incident_energies, truth.incident_energies)
    assert not np.allclose(showers.voxels, truth.voxels, rtol=0.1)


def test_posterior_head_and_residual_are_sampled(save, truth):
    _, model = save(spec(residual=DENSITY))
    voxels, energies = inputs(truth[:50])
    noise = torch.randn(50, sum(model.shape.noise_blocks.values()))
    first = model.reconstruct(noise, voxels, energies)
    assert torch.equal(first, model.reconstruct(noise, voxels, energies))
    for block in (slice(0, 3), slice(3, None)):
        other = noise.clone()
        other[:, block] = torch.randn_like(other[:, block])
        assert not torch.equal(model.reconstruct(other, voxels, energies), first)


def test_large_meshes_are_reconstructed_in_parts_of_a_chunk(save, truth, tmp_path, monkeypatch):
    folder, _ = save(spec(IDENTITY))
    monkeypatch.setattr("caloman.models.shower.MAX_BATCH_VOXELS", 300 * truth.geometry.n_voxels)
    reconstruct(folder, str(tmp_path / "truth.hdf5"), tmp_path / "parts.hdf5")
    monkeypatch.undo()
    reconstruct(folder, str(tmp_path / "truth.hdf5"), tmp_path / "whole.hdf5")
    parts, whole = (Showers.load(tmp_path / f"{name}.hdf5", truth.geometry) for name in ("parts", "whole"))
    np.testing.assert_allclose(parts.voxels, whole.voxels, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(parts.incident_energies, truth.incident_energies)


def test_chunks_do_not_depend_on_what_follows_them(save, truth, reconstructed):
    run, _ = save(spec())
    whole = reconstructed(run, seed=3)
    np.testing.assert_array_equal(reconstructed(run, f"[0:{CHUNK}]", seed=3).voxels, whole.voxels[:CHUNK])
    assert not np.array_equal(reconstructed(run, f"[0:{CHUNK}]", seed=4).voxels, whole.voxels[:CHUNK])


def test_encodings_are_those_of_the_model(save, truth, tables):
    run, model = save(spec())
    file = tables(run, seed=2)
    voxels, energies = inputs(truth[CHUNK:])
    noise = torch.from_numpy(chunk_noise(2, 1, N - CHUNK, 3, Purpose.ENCODINGS))
    prepared = model.transform(voxels, energies)
    expected = model.manifold.encode(prepared.shapes, prepared.context, noise)
    torch.testing.assert_close(torch.from_numpy(file["latents"][CHUNK:]), expected)
    torch.testing.assert_close(torch.from_numpy(file["contexts"][CHUNK:]), prepared.context)
    np.testing.assert_array_equal(file["incident_energies"][:, 0], truth.incident_energies)
    assert (file["content"], file["dataset"], file["seed"]) == ("encodings", "small", 2)
    assert file["showers"].endswith("truth.hdf5")


def test_sampled_latents_follow_the_density_under_the_same_contexts(save, truth, tables):
    run, model = save(spec())
    encoded, sampled = tables(run), tables(run, sampled=True)
    np.testing.assert_array_equal(sampled["contexts"], encoded["contexts"])
    assert sampled["content"] == "latents"
    noise = torch.from_numpy(chunk_noise(0, 0, CHUNK, 3, Purpose.LATENTS))
    expected = model.manifold.density.sample(noise, torch.from_numpy(sampled["contexts"][:CHUNK]))
    torch.testing.assert_close(torch.from_numpy(sampled["latents"][:CHUNK]), expected)
    assert not np.allclose(sampled["latents"], encoded["latents"], atol=0.1)


def test_generated_shapes_have_the_layer_energies_of_the_file(save, truth, small, tmp_path):
    run, _ = save(spec())
    for name in ("a.hdf5", "b.hdf5"):
        reconstruct(run, str(tmp_path / "truth.hdf5"), tmp_path / name, part="shapes", seed=int(name == "b.hdf5"))
    showers, others = (Showers.load(tmp_path / name, small) for name in ("a.hdf5", "b.hdf5"))
    np.testing.assert_allclose(layer_energies(showers), layer_energies(truth), rtol=1e-5)
    np.testing.assert_array_equal(showers.incident_energies, truth.incident_energies)
    assert not np.array_equal(showers.voxels, others.voxels)


def test_the_forward_pass_is_layer_energies_then_shapes(save):
    _, model = save(spec())
    noise, energies = torch.randn(20, model.noise_dim), torch.full((20, 1), 1e4)
    layers = model.energy(noise[:, :3], energies)
    assert torch.equal(model.forward_shapes(noise[:, 3:], energies, layers), model(noise, energies))


def test_no_two_purposes_share_noise():
    draws = np.stack([chunk_noise(0, 0, 100, 3, purpose).ravel() for purpose in Purpose])
    assert np.abs(np.corrcoef(draws) - np.eye(len(Purpose))).max() < 0.3


def test_the_two_step_model_reconstructs_but_has_no_layer_energies_to_be_given(save, truth, reconstructed, tmp_path):
    run, _ = save(spec(transform={"class_path": "caloman.preprocessing.GlobalTransform"}, energy=None))
    assert len(reconstructed(run)) == N
    with pytest.raises(CalomanError, match="layer energies; use `caloman generate`"):
        reconstruct(run, str(tmp_path / "truth.hdf5"), tmp_path / "shapes.hdf5", part="shapes")


class Uniform(ShapeModel):
    """Every voxel gets the same."""

    def __init__(self):
        super().__init__()
        self.noise_blocks = {}

    def forward(self, noise, context):
        return torch.full((len(context), 16), 1 / 16)


def test_a_model_without_a_manifold_is_refused(truth, small, reconstructed, tmp_path, monkeypatch):
    model = FactorizedShowerModel(small, ENERGY_ONLY, LayerwiseTransform, shape=lambda geometry, context: Uniform())
    monkeypatch.setattr("caloman.generation.closure.load", lambda run: model)  # a bundle cannot hold a class of a test
    for command in (reconstruct, encode):
        with pytest.raises(CalomanError, match="run: a Uniform has no manifold"):
            command("run", str(tmp_path / "truth.hdf5"), tmp_path / "out.hdf5")


def test_bad_requests_leave_no_file(save, truth, make_showers, photons, tmp_path, capsys):
    run, _ = save(spec())
    make_showers(5, photons).save(tmp_path / "photons.hdf5")
    Showers(2 * truth.incident_energies, truth.voxels, truth.geometry).save(tmp_path / "hot.hdf5")
    before = sorted(path.name for path in tmp_path.iterdir())
    output, good = tmp_path / "out.hdf5", tmp_path / "truth.hdf5"
    for command, message in [
        (["reconstruct", run, tmp_path / "photons.hdf5", output], "needs numbers of shape (N, 16)"),
        (["encode", run, tmp_path / "photons.hdf5", output], "needs numbers of shape (N, 16)"),
        (["reconstruct", run, tmp_path / "hot.hdf5", output], "outside the range"),
        (["encode", run, good, good, "--sampled"], "another name"),
        (["reconstruct", run, good, output, "--seed", 2**63], "--seed 9223372036854775808: must lie"),
        (["encode", run, good, output, "--seed", -1], "--seed -1: must lie"),
        (["encode", run, good, output, "--device", "abacus"], "--device abacus: cannot be used"),
        (["encode", run, good, tmp_path / "nowhere" / "out.hdf5"], "nowhere"),
    ]:
        assert main([str(argument) for argument in command]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before
