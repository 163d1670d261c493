import copy
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
from torch.testing import assert_close

from caloman.errors import CalomanError
from caloman.flows import CouplingFlow
from caloman.manifold import VAE, HurdleHead
from caloman.models import Density, FactorizedShowerModel, LayerEnergyModel, ManifoldShape
from caloman.models.noise import chunk_noise
from caloman.preprocessing import GlobalTransform, LayerwiseTransform, LogStandardize, Standardize, Whiten
from caloman.showers.conditions import ENERGY_ONLY, Conditions
from caloman.showers.showers import CHUNK
from caloman.showers.spectra import parse_energies

THRESHOLD = 0.01
flow = partial(CouplingFlow, transforms=2, hidden=8, bins=4)
shape = partial(
    ManifoldShape,
    autoencoder=partial(VAE, latent_dim=3, hidden=(8, 8), head=HurdleHead),
    density=partial(Density, flow=flow),
)
VARIANTS = {
    "three-step": {
        "transform": partial(LayerwiseTransform, threshold=THRESHOLD),
        "energy": partial(LayerEnergyModel, flow=flow, threshold=THRESHOLD),
    },
    "two-step": {"transform": partial(GlobalTransform, threshold=THRESHOLD)},
}


@pytest.fixture(params=VARIANTS)
def model(request, small, randomize):
    model = FactorizedShowerModel(small, ENERGY_ONLY, shape=shape, **VARIANTS[request.param])
    model.conditions = Conditions.energies(256.0, 65536.0)
    return randomize(model, std=0.2).eval()


@pytest.fixture
def energies(rng):
    return rng.uniform(256, 65536, 2500).astype(np.float32)


def inputs(model, n=50):
    return torch.randn(n, model.noise_dim), 256 + 1000 * torch.rand(n, 1)


def test_noise_is_split_into_named_blocks(model):
    blocks = {"latent": 3, "decoder": 16} if model.energy is None else {"energy": 3, "latent": 3, "decoder": 16}
    assert model.noise_blocks == blocks
    assert model.noise_dim == sum(blocks.values())


def test_a_printed_model_tells_what_a_person_wants_to_know(small):
    model = FactorizedShowerModel(small, ENERGY_ONLY, shape=shape, **VARIANTS["three-step"])
    assert "the model is untrained" in str(model)
    model.conditions = Conditions.energies(256.0, 65536.0)
    total, energy = (sum(p.numel() for p in module.parameters()) for module in (model, model.energy))
    facts = ["photon", "'small'", "16 voxels in 3 layers", "threshold 0.01 MeV", "256 to 65536 MeV", f"{total:,}\n"]
    facts += ["22 standard normal numbers: energy 3, latent 3, decoder 16", f"energy: LayerEnergyModel, {energy:,}"]
    for fact in [*facts, "shape.autoencoder: VAE", "shape.density: Density"]:
        assert fact in str(model)
    assert len(str(model).splitlines()) == 8


def test_forward_is_a_pure_function(model):
    noise, incident = inputs(model)
    copies, state, generator = (
        (noise.clone(), incident.clone()),
        copy.deepcopy(model.state_dict()),
        torch.get_rng_state(),
    )
    first, second = model(noise, incident), model(noise, incident)
    assert torch.equal(first, second)
    assert torch.equal(noise, copies[0])
    assert torch.equal(incident, copies[1])
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_showers_are_non_negative_and_cut(model):
    voxels = model(*inputs(model))
    assert voxels.shape == (50, 16)
    assert torch.all((voxels == 0) | (voxels >= THRESHOLD * (1 - 1e-6)))
    assert torch.any(voxels > 0)


def test_every_block_of_the_noise_and_the_energy_matter(model):
    noise, incident = inputs(model)
    showers = model(noise, incident)
    assert not torch.equal(model(noise, 2 * incident), showers)
    start = 0
    for name, size in model.noise_blocks.items():
        other = noise.clone()
        other[:, start : start + size] = torch.randn(50, size)
        assert not torch.equal(model(other, incident), showers), name
        start += size


def test_layers_hold_the_energy_that_the_energy_model_gave_them(small, randomize):
    model = randomize(FactorizedShowerModel(small, ENERGY_ONLY, shape=shape, **VARIANTS["three-step"]), std=0.5)
    noise, incident = inputs(model, 500)
    expected = model.energy(noise[:, :3], incident)
    assert_close(model.transform.layers.sum(model(noise, incident)), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("scaling", [Whiten, Standardize, LogStandardize])
def test_a_density_is_that_of_its_unscaled_variables(scaling, randomize):
    density = randomize(Density(4, 1, flow, scaling), std=0.3).double()
    x, context = torch.randn(50, 4, dtype=torch.float64).exp(), torch.randn(50, 1, dtype=torch.float64)
    density.fit(lambda: [(x, context)])

    def to_noise(x, context):
        return density.flow.trace(density.scaling(x[None]), density.context_scaling(context[None]))[-1].outputs[0]

    noise = torch.func.vmap(to_noise)(x, context)
    jacobians = torch.func.vmap(torch.func.jacrev(to_noise))(x, context)
    expected = torch.distributions.Normal(0, 1).log_prob(noise).sum(1) + torch.linalg.slogdet(jacobians).logabsdet
    assert_close(density.log_prob(x, context), expected)
    assert_close(density.sample(noise, context), x)
    constant = density.scaling.log_det(x).mean()
    assert_close(density.loss(x, context), constant - density.log_prob(x, context).mean())


def test_energy_model_empties_layers_below_its_threshold(small, randomize):
    model = randomize(LayerEnergyModel(small, ENERGY_ONLY, flow, threshold=500.0))
    layers = model(torch.randn(500, 3), torch.full((500, 1), 1000.0))
    assert torch.all((layers == 0) | (layers >= 500))
    assert torch.any(layers == 0)
    assert torch.any(layers > 0)


def test_energy_model_has_a_density_for_empty_layers(make_showers, small):
    model = LayerEnergyModel(small, ENERGY_ONLY, flow, threshold=THRESHOLD)
    showers = make_showers(100, small)
    layers = torch.stack([torch.from_numpy(showers.voxels[:, s]).sum(1) for s in small.layer_slices], 1)
    incident = torch.from_numpy(showers.incident_energies)[:, None]
    assert torch.any(layers == 0)
    model.fit(lambda: [(layers, incident)])
    assert torch.all(torch.isfinite(model.log_prob(layers, incident)))


def test_same_seed_gives_the_same_bits_and_another_seed_others(model, energies):
    a, b, c = (model.sample(energies[:100], seed=seed).voxels for seed in (3, 3, 4))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_showers_do_not_depend_on_how_many_follow_in_other_chunks(model, energies):
    many = model.sample(energies, seed=1)
    assert len(many) == 2500
    assert np.array_equal(model.sample(energies[:CHUNK], seed=1).voxels, many.voxels[:CHUNK])
    third = model.sample_chunk(energies[2 * CHUNK :, None], seed=1, chunk=2)
    assert np.array_equal(third.voxels, many.voxels[2 * CHUNK :])


def test_showers_do_not_depend_on_how_many_are_computed_together(model, energies, monkeypatch):
    together = model.sample(energies, seed=3).voxels
    monkeypatch.setattr("caloman.models.shower.MAX_BATCH_VOXELS", 7 * model.geometry.n_voxels)
    assert model.batch_size == 7
    np.testing.assert_allclose(model.sample(energies, seed=3).voxels, together, rtol=1e-3, atol=1e-3)


def test_chunks_have_noise_of_their_own(model):
    showers = model.sample(np.full(2 * CHUNK, 1024.0), seed=1).voxels
    assert not np.array_equal(showers[:CHUNK], showers[CHUNK:])


def test_noise_of_a_shower_does_not_depend_on_the_size_of_its_chunk():
    assert np.array_equal(chunk_noise(5, 2, 10, 7), chunk_noise(5, 2, CHUNK, 7)[:10])
    assert abs(chunk_noise(5, 2, CHUNK, 7).mean()) < 0.05


@pytest.mark.parametrize("energy", [250.0, 66500.0, -1.0, 0.0, np.nan, np.inf])
def test_energies_outside_the_trained_range_are_refused(model, energy):
    with pytest.raises(CalomanError, match=r"256 to 65536 MeV|energies must be positive"):
        model.sample([1000.0, energy])


def test_ends_of_the_range_are_inside(model):
    assert len(model.sample([256.0, 65536.0])) == 2


def test_empty_request_gives_no_showers(model):
    assert model.sample([]).voxels.shape == (0, 16)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("1024", [1024]),
        ("1GeV,2.5GeV, 1TeV", [1e3, 2.5e3, 1e6]),
        ("500keV,512 MeV,1e3", [0.5, 512, 1e3]),
    ],
)
def test_listed_energies(spec, expected):
    spectrum = parse_energies(spec)
    assert spectrum.size == len(expected)
    np.testing.assert_allclose(spectrum.chunk(0, 0, len(expected)), expected)


@pytest.fixture
def histogram(tmp_path):
    (tmp_path / "spectrum.txt").write_text("# low high weight\n1GeV 2GeV 3\n2000 4000 0\n4GeV 10GeV 1\n")
    return f"histogram:{tmp_path / 'spectrum.txt'}"


def test_discrete_energies_follow_their_weights():
    energies = np.concatenate([parse_energies("discrete:1GeV=3,10GeV=1,2TeV=0").chunk(1, i, CHUNK) for i in range(20)])
    values, counts = np.unique(energies, return_counts=True)
    assert values.tolist() == [1e3, 1e4]
    assert scipy.stats.chisquare(counts, [15e3, 5e3]).pvalue > 1e-3


def test_energies_of_a_histogram_are_uniform_within_its_bins(histogram):
    spectrum = parse_energies(histogram)
    energies = np.concatenate([spectrum.chunk(1, i, CHUNK) for i in range(20)])
    counts = np.histogram(energies, [1e3, 1.5e3, 2e3, 4e3, 7e3, 1e4])[0]
    assert scipy.stats.chisquare(counts[[0, 1, 3, 4]], [7.5e3, 7.5e3, 2.5e3, 2.5e3]).pvalue > 1e-3
    assert counts.sum() == len(energies)
    assert spectrum.bounds.tolist() == [1e3, 1e4]
    np.testing.assert_array_equal(spectrum.chunk(1, 3, 10), spectrum.chunk(1, 3, CHUNK)[:10])


@pytest.mark.parametrize("lines", ["", "1 2", "2GeV 1GeV 1", "1GeV 2GeV -1", "1GeV 2GeV 0", "1GeV 2GeV x", "0 1 1"])
def test_bad_histogram_names_the_file(tmp_path, lines):
    (tmp_path / "spectrum.txt").write_text(lines)
    with pytest.raises(CalomanError, match=r"spectrum\.txt"):
        parse_energies(f"histogram:{tmp_path / 'spectrum.txt'}")


def test_spectra_are_told_apart_by_their_text(histogram):
    specs = [
        "1GeV",
        "2GeV",
        "1,2,3",
        "uniform:1:2",
        "log-uniform:1:2",
        "discrete:1=1,2=2",
        "discrete:1=1,2=3",
        histogram,
    ]
    long = [",".join(map(str, range(1, n))) for n in (30, 31)]
    assert len({str(parse_energies(spec)) for spec in [*specs, *long]}) == len(specs) + len(long)
    assert str(parse_energies("1GeV,2GeV")) == str(parse_energies("1000, 2000.0"))


def test_listed_energies_start_again_across_chunks():
    spectrum = parse_energies("1,2,3")
    joined = np.concatenate([spectrum.chunk(0, 0, CHUNK), spectrum.chunk(0, 1, 10)])
    np.testing.assert_array_equal(joined, np.resize([1, 2, 3], CHUNK + 10))


@pytest.mark.parametrize(("kind", "scale"), [("uniform", lambda e: e), ("log-uniform", np.log)])
def test_spectra_fill_their_range_evenly(kind, scale):
    energies = parse_energies(f"{kind}:1GeV:1TeV").chunk(seed=1, chunk=0, rows=CHUNK)
    u = (scale(energies.astype(float)) - scale(1e3)) / (scale(1e6) - scale(1e3))
    assert u.min() >= -1e-6
    assert u.max() <= 1 + 1e-6
    np.testing.assert_allclose(np.quantile(u, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.05)


def test_spectra_are_seeded_by_chunk():
    spectrum = parse_energies("uniform:1:2")
    assert np.array_equal(spectrum.chunk(1, 5, 10), spectrum.chunk(1, 5, CHUNK)[:10])
    assert not np.array_equal(spectrum.chunk(1, 5, 10), spectrum.chunk(1, 6, 10))
    assert not np.array_equal(spectrum.chunk(1, 5, 10), spectrum.chunk(2, 5, 10))


def test_energies_from_a_file(make_showers, small, tmp_path):
    showers = make_showers(20, small)
    showers.save(tmp_path / "showers.hdf5")
    spectrum = parse_energies(str(tmp_path / "showers.hdf5"))
    assert np.array_equal(spectrum.chunk(0, 0, spectrum.size), showers.incident_energies)


BAD_SPECS = [
    "", "abc", "1GeV,", "1GeV,,2GeV", "-5", "0", "1XeV", "1.2.3", "nan", "inf", "9e999", "1 GeV 2", "uniform:1GeV",
    "uniform:2GeV:1GeV", "log-uniform:0:1GeV", "log-uniform:1:2:3", "gauss:1:2", "none.hdf5",
]  # fmt: skip


@pytest.mark.parametrize("spec", BAD_SPECS)
def test_unreadable_energies_are_quoted_back(spec):
    with pytest.raises(CalomanError) as error:
        parse_energies(spec)
    assert spec in str(error.value)


ODD_ENERGIES = (
    np.zeros((0, 1)), [[1.0], [0]], np.ones((5, 1), complex), np.full((5, 1), b"1"), [[1e300]], np.ones((5, 2))
)  # fmt: skip


@pytest.mark.parametrize("content", [{}, *({"incident_energies": values} for values in ODD_ENERGIES)])
def test_files_without_usable_energies_are_named(write_hdf5, content):
    path = write_hdf5(content, "energies.hdf5")
    with pytest.raises(CalomanError, match=r"energies\.hdf5.*'incident_energies'"):
        parse_energies(str(path))
