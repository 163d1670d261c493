import numpy as np
import pytest

import caloman
from caloman.errors import CalomanError
from caloman.evaluation.downstream import downstream
from caloman.evaluation.downstream.calibration import calibration
from caloman.evaluation.downstream.overlap import fit_fraction, overlap, single_and_double, turned
from caloman.evaluation.measures import MISTAKEN
from caloman.evaluation.samples import LoadedSample
from caloman.showers.geometry import Geometry, Layer
from caloman.showers.showers import Showers

MESH = Geometry("toy", "photon", (Layer(0, (0, 10, 20, 40), 4), Layer(1, (0, 10, 20, 40), 4), Layer(2, (0, 20))), 0.01)
ENERGIES = (500.0, 1000.0, 2000.0, 4000.0)


def make(seed, n=1000, scale=(1.0, 1.0, 1.0)):
    """Showers that start at random, with 5 % sampling fluctuations, and a direction in alpha of their own."""
    rng = np.random.default_rng(seed)
    incident = rng.permutation(np.resize(ENERGIES, n)).astype(np.float32)
    shares = rng.dirichlet((4.0, 6.0, 2.0), n) * rng.normal(1, 0.05, (n, 1))
    voxels = np.zeros((n, MESH.n_voxels))
    for i, (layer, columns) in enumerate(zip(MESH.layers, MESH.layer_slices, strict=True)):
        radial = rng.dirichlet((6.0, 3.0, 1.0)[: layer.n_r], n) if layer.n_r > 1 else np.ones((n, 1))
        angular = np.zeros((n, layer.n_alpha))
        angular[np.arange(n), rng.integers(layer.n_alpha, size=n)] = 1
        cells = (angular[:, :, None] * radial[:, None, :]).reshape(n, -1)
        voxels[:, columns] = cells * (scale[i] * shares[:, i] * incident)[:, None]
    return Showers(incident, voxels.astype(np.float32), MESH)


def test_a_calibration_with_the_truth_has_the_resolution_of_the_showers():
    found = calibration(make(1), make(2))
    assert found["calibration_bias"] == pytest.approx(0, abs=0.6)
    assert found["calibration_linearity"] < 1
    assert found["calibration_resolution"] == pytest.approx(5, abs=0.5)


def test_a_calibration_corrects_layers_that_it_was_shown():
    layers = (0.5, 1.0, 3.0)
    found = calibration(make(1, scale=layers), make(2, scale=layers))
    assert found["calibration_resolution"] == pytest.approx(5, abs=0.6)
    wrong = calibration(make(1, scale=layers), make(2))
    assert wrong["calibration_resolution"] > 10


def test_showers_with_too_much_energy_give_a_calibration_that_is_too_low():
    found, truth = (calibration(make(1, scale=(s, s, s)), make(2))["calibration_bias"] for s in (1.03, 1.0))
    assert found - truth == pytest.approx(100 * (1 / 1.03 - 1), abs=0.3)


def test_sums_of_two_have_the_energies_of_the_single_showers():
    showers = make(1)
    single, double = single_and_double(showers, seed=3)
    assert len(single) == len(double) > 100
    np.testing.assert_allclose(double.incident_energies, single.incident_energies, rtol=0.05)
    sums = showers.voxels.sum(axis=1)
    assert set(np.round(single.voxels.sum(axis=1), 1)) <= set(np.round(sums, 1))
    assert double.voxels.sum(axis=1).mean() == pytest.approx(single.voxels.sum(axis=1).mean(), rel=0.03)


def test_four_quarter_turns_are_none():
    showers = make(1, 20)
    once = Showers(showers.incident_energies, turned(showers), MESH)
    assert np.abs(once.voxels - showers.voxels).max() > 10
    np.testing.assert_array_equal(MESH.layer_energies(once.voxels), MESH.layer_energies(showers.voxels))
    for _ in range(3):
        once = Showers(once.incident_energies, turned(once), MESH)
    np.testing.assert_array_equal(once.voxels, showers.voxels)


def test_two_photons_are_told_from_one():
    test = make(2)
    right = overlap(make(1), test)
    assert right["overlap_auc"] > 0.9
    found = [right[f"overlap_found_{share}"] for share in MISTAKEN]
    assert found == sorted(found)
    assert found[-1] > 85
    assert abs(right["overlap_fraction"]) < 5
    assert 0 < right["overlap_limit"] < 10


@pytest.mark.parametrize("truth", [0.0, 0.1, 0.5])
def test_a_fitted_fraction_is_unbiased_and_its_limit_covers(truth, rng):
    background, signal = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.3, 0.6])
    counts = rng.multinomial(1000, (1 - truth) * background + truth * signal, size=200)
    found = np.array([fit_fraction(own.astype(float), background, signal) for own in counts])
    assert found[:, 0].mean() == pytest.approx(truth, abs=5 * found[:, 0].std() / np.sqrt(200))
    assert 0.93 < (found[:, 1] >= truth).mean() <= 1


def test_errors_cover_the_spread_between_samples(monkeypatch):
    monkeypatch.setattr("caloman.evaluation.downstream.TASKS", {"energy calibration": calibration})
    found = [dict(downstream(*(LoadedSample.of(make(s)) for s in (2 * i, 2 * i + 1)), 1000)) for i in range(12)]
    for key in ("calibration_bias", "calibration_resolution"):
        values, errors = np.array([numbers[key] for numbers in found]).T
        assert 0.4 < values.std(ddof=1) / np.median(errors) < 2


def test_the_mode_stands_beside_its_floor_and_needs_showers(tmp_path, monkeypatch):
    monkeypatch.setattr("caloman.evaluation.plots.pictures", lambda results: [])
    MESH.to_xml(tmp_path / "mesh.xml")
    monkeypatch.setattr("caloman.evaluation.downstream.TASKS", {"energy calibration": calibration})
    for name, showers in (("generated", make(1, scale=(1.05,) * 3)), ("geant4", make(2)), ("other", make(3))):
        showers.save(tmp_path / f"{name}.hdf5")
    files = [tmp_path / f"{name}.hdf5" for name in ("generated", "geant4")]
    options = {"dataset": tmp_path / "mesh.xml", "output": tmp_path / "report", "modes": ["downstream"]}
    metrics = caloman.evaluate(*files, floor=tmp_path / "other.hdf5", **options).metrics["samples"][0]["metrics"]
    bias = metrics["calibration_bias"]
    assert bias["value"] == pytest.approx(-100 * (1 - 1 / 1.05), abs=0.7)
    assert abs(bias["floor"]) < 0.7
    assert bias["words"] == "clearly worse than Geant4"
    with pytest.raises(CalomanError, match="mode 'downstream' needs 1000 showers"):
        caloman.evaluate(*files, **options)
