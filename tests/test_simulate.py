import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import gamma

from caloman.cli import main
from caloman.data.simulation.detector import find_detector
from caloman.data.simulation.profiles import DepthProfile, RadialProfile
from caloman.data.simulation.sampler import Rings, ShowerSampler
from caloman.data.simulation.simulate import BLOCK_VOXELS, GENERATOR, block_size, simulate, simulate_blocks
from caloman.errors import CalomanError
from caloman.showers.geometry import BUILT_IN, Geometry, Layer
from caloman.showers.showers import CHUNK, Showers
from caloman.showers.spectra import Uniform, parse_energies

ROOT = Path(__file__).parent.parent


@pytest.fixture
def sample():
    """Voxels of n showers of one energy [MeV]."""

    def apply(geometry, energy, n=300, seed=0):
        sampler = ShowerSampler(geometry)
        return sampler.sample(np.full(n, energy, dtype=np.float32), np.random.default_rng(seed))

    return apply


@pytest.fixture
def file(tmp_path):
    def apply(name="out.hdf5", dataset="1-photons", energies="log-uniform:1GeV:100GeV", **options):
        simulate(tmp_path / name, dataset, energies=energies, **options)
        return Showers.load(tmp_path / name, Geometry.load(dataset))

    return apply


@pytest.mark.parametrize("n", [1, 99, 250, CHUNK + 30])
def test_fewer_showers_are_the_first_of_more(file, n):
    many = file("many.hdf5", n=CHUNK + 250, seed=3)
    few = file("few.hdf5", n=n, seed=3)
    np.testing.assert_array_equal(few.incident_energies, many.incident_energies[:n])
    np.testing.assert_array_equal(few.voxels, many.voxels[:n])


def test_seeds_chunks_and_blocks_differ(file):
    showers = file(n=2 * CHUNK, energies="10GeV").voxels
    assert len(np.unique(showers.sum(axis=1))) > 1990
    assert not np.array_equal(showers[:100], file("other.hdf5", n=100, energies="10GeV", seed=1).voxels)


@pytest.mark.parametrize("name", ["1-photons", "2"])
def test_response_is_linear_and_resolution_improves_with_the_root_of_the_energy(name, sample):
    geometry = BUILT_IN[name]
    totals = {energy: sample(geometry, energy).sum(axis=1) / energy for energy in (4e3, 6.4e4)}
    means = [total.mean() for total in totals.values()]
    widths = [total.std() / total.mean() for total in totals.values()]
    assert np.all(np.abs(np.array(means) - 1) < 0.1)
    assert abs(means[1] / means[0] - 1) < 0.06
    assert 2.5 < widths[0] / widths[1] < 5.5


@pytest.mark.parametrize("name", ["2", "3"])
def test_shower_maximum_moves_with_the_logarithm_of_the_energy(name, sample):
    geometry = BUILT_IN[name]
    energies = [1e3, 1e4, 1e5, 1e6]
    mean = [geometry.layer_energies(sample(geometry, energy, 100)).mean(axis=0) for energy in energies]
    steps = np.diff([profile @ np.arange(45) / profile.sum() for profile in mean])
    # about one radiation length, 1.25 layers, for each factor e
    np.testing.assert_allclose(steps, np.log(10) / 0.8, rtol=0.3)


@pytest.mark.parametrize("name", ["1-photons", "1-pions", "2", "3"])
def test_showers_are_possible_and_fill_more_voxels_at_higher_energy(name, sample):
    geometry = BUILT_IN[name]
    empty = []
    for energy in (1e3, 3e4, 1e6):
        voxels = sample(geometry, energy, 100)
        assert voxels.dtype == np.float32
        assert voxels.shape == (100, geometry.n_voxels)
        assert np.isfinite(voxels).all()
        assert voxels.min() >= 0
        assert 0.5 < voxels.sum(axis=1).mean() / energy < 1.1
        empty.append((voxels == 0).mean())
    assert empty[0] > empty[1] > empty[2]
    if name in ("2", "3"):
        assert voxels[voxels > 0].min() >= np.float32(geometry.threshold)


def test_pions_reach_deeper_and_fluctuate_more_than_photons(sample):
    photons, pions = BUILT_IN["1-photons"], BUILT_IN["1-pions"]
    of_photons, of_pions = sample(photons, 5e4), sample(pions, 5e4)
    behind = [
        geometry.layer_energies(voxels)[:, 4:].sum() / voxels.sum()
        for geometry, voxels in ((photons, of_photons), (pions, of_pions))
    ]
    assert behind[0] < 0.05
    assert behind[1] > 0.3
    assert of_pions.sum(axis=1).std() > 3 * of_photons.sum(axis=1).std()
    first = pions.layer_energies(of_pions)[:, :4].sum(axis=1) / of_pions.sum(axis=1)
    assert ((first < 0.1).sum() > 20) & ((first > 0.8).sum() > 5)  # late starts, and electromagnetic ones


@pytest.mark.parametrize("particle", ["photon", "electron", "pion", "muon"])
@pytest.mark.parametrize("energy", [1.0, 256.0, 1e9])
def test_any_mesh_takes_any_energy(particle, energy, rng, sample):
    layers = tuple(
        Layer(i, tuple(np.cumsum([0, *rng.uniform(1, 50, rng.integers(1, 9))])), int(rng.integers(1, 20)))
        for i in (0, 2, 3, 17)
    )
    voxels = sample(Geometry("random", particle, layers), energy, 20)
    assert np.isfinite(voxels).all()
    assert (voxels.min() >= 0) & (voxels.sum() < 40 * energy)


def test_showers_are_even_in_alpha(sample):
    slices = sample(BUILT_IN["2"], 1e5, 200).reshape(-1, 16, 9).sum(axis=(0, 2))
    np.testing.assert_allclose(slices / slices.mean(), 1, atol=0.03)


def test_layers_of_a_depth_profile_are_integrals_of_the_gamma_distribution():
    edges = np.array([0.0, 2.0, 7.0, 30.0])
    alpha, beta, start = np.array([3.0, 5.5]), np.array([0.5, 0.4]), np.array([0.0, 1.0])
    share, depth = DepthProfile(start, alpha, beta).layers(edges)
    for i in range(2):
        density = gamma(alpha[i], scale=1 / beta[i]).pdf
        for j, (low, high) in enumerate(pairwise(np.maximum(edges - start[i], 0))):
            energy = quad(density, low, high)[0]
            np.testing.assert_allclose(share[i, j], energy)
            np.testing.assert_allclose(depth[i, j], quad(lambda t: t * density(t), low, high)[0] / energy)  # noqa: B023


def test_rings_share_out_all_of_a_layer():
    geometry = Geometry("wide", "photon", (Layer(0, (0, 1, 2, 5, 1e5), 3), Layer(1, (0, 3, 1e5))))
    rings = Rings(geometry)
    radius = np.full((1, 2), 4.0)
    share = RadialProfile(radius, 2 * radius, 0.3 * np.ones((1, 2)), np.inf).rings(rings.layer, rings.edges_squared)
    np.testing.assert_allclose(np.bincount(rings.layer, share[0]), 1, rtol=1e-6)
    radii = np.concatenate([layer.r for layer in geometry.layers])
    inner, outer = np.sqrt(rings.edges_squared)[:, rings.of_voxels]
    assert ((inner < radii) & (radii < outer)).all()
    np.testing.assert_array_equal(rings.layer[rings.of_voxels], geometry.voxel_layer)


def test_a_mesh_from_a_file_has_the_depths_of_the_dataset_it_equals(tmp_path):
    for name, known in BUILT_IN.items():
        known.to_xml(tmp_path / "binning.xml")
        read = Geometry("other", known.particle, Geometry.from_xml(tmp_path / "binning.xml").layers)
        np.testing.assert_array_equal(find_detector(read).depths, find_detector(known).depths, err_msg=name)
        np.testing.assert_allclose(find_detector(known, depth=30.0).depths[[0, -1]], [0, 30])


def test_a_file_says_that_it_is_not_geant4(file, tmp_path):
    file(n=3, energies="1GeV,2GeV", dataset="2", seed=7)
    with h5py.File(tmp_path / "out.hdf5") as hdf5:
        assert hdf5["showers"].shape == (3, 6480)
        assert hdf5["incident_energies"][:, 0].tolist() == [1000, 2000, 1000]
        assert {key: hdf5.attrs[key] for key in ("generator", "dataset", "seed", "energies")} == {
            "generator": GENERATOR, "dataset": "2", "seed": 7, "energies": "1GeV,2GeV",
        }  # fmt: skip
    assert "not Geant4" in GENERATOR


def test_blocks_bound_the_memory():
    huge = Geometry("huge", "electron", (Layer(0, tuple(range(2001)), 3000),))
    assert block_size(huge) == 1
    assert all(block_size(geometry) * geometry.n_voxels <= BLOCK_VOXELS for geometry in BUILT_IN.values())
    blocks = simulate_blocks(ShowerSampler(BUILT_IN["3"]), Uniform(1e3, 1e6, log=True), 10**12, seed=0)
    assert len(next(blocks)) == 100  # the first of a trillion showers come at once


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "4"}, "unknown dataset '4'"),
        ({"dataset": None}, "--dataset"),
        ({"energies": None}, "--energies"),
        ({"energies": "10furlongs"}, "10furlongs"),
        ({"energies": "log-uniform:-1GeV:1TeV"}, "-1GeV"),
        ({"energies": "log-uniform:1GeV:1TeV"}, "--n"),
        ({"n": 0}, "--n"),
        ({"n": -5}, "--n"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**63}, "--seed 9223372036854775808"),
        ({"n": 10**30}, "--n"),
        ({"energies": "discrete:1GeV=1e308,2GeV=1e308"}, "weights"),
        ({"energies": "1e40MeV"}, "1e40MeV"),
        ({"depth": 0.0}, "depth 0"),
        ({"energies": "1keV"}, "0.001"),
        ({"energies": "1e7TeV"}, "1e\\+13"),
        ({"output": "nowhere/out.hdf5"}, "nowhere"),
    ],
)
def test_a_bad_request_is_one_sentence_and_leaves_no_file(tmp_path, options, message):
    request = {"output": "out.hdf5", "dataset": "1-photons", "energies": "1GeV", **options}
    with pytest.raises(CalomanError, match=message) as error:
        simulate(tmp_path / request.pop("output"), **request)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_the_command_and_the_script_write_the_same_file(tmp_path, capsys):
    options = ["--dataset", "1-photons", "--n", "5", "--energies", "uniform:1GeV:2GeV", "--seed", "2"]
    assert main(["simulate", str(tmp_path / "command.hdf5"), *options]) == 0
    assert "5 parametric showers, not Geant4" in capsys.readouterr().out
    script = [sys.executable, str(ROOT / "data_prep" / "simulate.py"), str(tmp_path / "script.hdf5"), *options]
    subprocess.run(script, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True)
    files = [Showers.load(tmp_path / name, BUILT_IN["1-photons"]) for name in ("command.hdf5", "script.hdf5")]
    np.testing.assert_array_equal(files[0].voxels, files[1].voxels)


def test_sampling_needs_no_torch():
    code = "import sys, caloman.data.simulation.simulate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_sampler_resembles_the_geant4_sample():
    """Geant4 photons in data_prep: response, its width and sparsity by energy."""
    path = ROOT / "data_prep" / "samples" / "photons_train.hdf5"
    geant4 = Showers.load(path, BUILT_IN["1-photons"])
    spectrum = parse_energies(str(path))
    n = min(len(geant4), 4000)
    blocks = simulate_blocks(ShowerSampler(BUILT_IN["1-photons"]), spectrum, n, seed=0)
    parametric = np.concatenate([block.voxels for block in blocks])
    for energy in (256, 1024, 4096):
        rows = geant4.incident_energies[:n] == energy
        pairs = [voxels[:n][rows] for voxels in (geant4.voxels, parametric)]
        response = [voxels.sum(axis=1) / energy for voxels in pairs]
        assert abs(response[1].mean() / response[0].mean() - 1) < 0.04
        assert 1 / 1.3 < response[1].std() / response[0].std() < 1.3
        assert abs((pairs[1] == 0).mean() / (pairs[0] == 0).mean() - 1) < 0.12
