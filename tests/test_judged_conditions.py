"""Conditions beside the energy in the judge."""

import json

import numpy as np
import pytest
import torch

from caloman.errors import CalomanError
from caloman.evaluation.binnings import challenge_binnings
from caloman.evaluation.command import evaluate
from caloman.evaluation.conditions import profiles, windows
from caloman.evaluation.histograms import fill_histograms
from caloman.evaluation.inputs import collect, condition_columns, low_level_inputs
from caloman.evaluation.judge import Judge
from caloman.evaluation.networks import ResNet
from caloman.evaluation.samples import LoadedSample
from caloman.evaluation.summary import summarize
from caloman.evaluation.validation import read_metrics
from caloman.showers.geometry import Geometry, Layer
from caloman.showers.showers import Showers

MESH = Geometry("raw", "photon", tuple(Layer(i, (0, 10, 30), 4) for i in range(3)), threshold=5e-4)


def make_showers(n, seed, slope=0.2, **conditions):
    """Raw deposits of 3 % of the energy, whose share in the first layer grows with theta by a slope."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-1, 1, n).astype(np.float32)
    energies = rng.uniform(1e3, 2e3, n).astype(np.float32)
    first = 0.5 + slope * theta + 0.05 * rng.normal(size=n)
    layers = np.stack([first, (1 - first) / 2, (1 - first) / 2], axis=1).clip(0.01)
    voxels = rng.gamma(5, size=(n, 3, 8))
    voxels *= ((0.03 * energies * rng.normal(1, 0.1, n))[:, None] * layers / voxels.sum(axis=2))[..., None]
    return Showers(energies, voxels.reshape(n, -1).astype(np.float32), MESH, {"theta": theta} | conditions)


def summaries(*showers):
    first = summarize(LoadedSample.of(showers[0]))
    return first, *(summarize(LoadedSample.of(other), first.spectrum_edges) for other in showers[1:])


def without_conditions(showers):
    return Showers(showers.incident_energies, showers.voxels, showers.geometry)


def judge(mode):
    return Judge("quick", [mode], range(1), 100, lambda step: None)


@pytest.mark.parametrize("mode", ["cls-trees", "cls-high", "cls-low"])
def test_classifiers_see_showers_at_another_angle(mode):
    reference = make_showers(500, 1)
    turned = Showers(*vars(make_showers(500, 2)).values())
    turned.conditions["theta"][:] *= -1  # all else is as in the reference
    blind = judge(mode).classify(mode, *summaries(*map(without_conditions, (turned, reference)))).auc[0]
    assert blind < 0.6
    assert judge(mode).classify(mode, *summaries(turned, reference)).auc[0] > 0.8


def test_conditions_are_columns_for_classifiers():
    detector = np.tile(np.float32([3, 7]), 10)
    phi = np.linspace(-3, 3, 20, dtype=np.float32)
    samples = [LoadedSample.of(make_showers(20, seed, detector=detector, phi=phi)) for seed in (1, 2)]
    theta = np.concatenate([sample.showers.conditions["theta"] for sample in samples])
    expected = [np.tile(detector == 3, 2), np.tile(detector == 7, 2), *np.tile([np.sin(phi), np.cos(phi)], 2), theta]
    np.testing.assert_allclose(condition_columns(samples), np.transpose(expected), rtol=1e-6)


def test_energy_alone_changes_no_input():
    samples = [LoadedSample.of(without_conditions(make_showers(20, seed))) for seed in (1, 2)]
    columns = condition_columns(samples)
    assert columns.shape == (40, 0)
    np.testing.assert_array_equal(
        collect(low_level_inputs, samples, columns).values, collect(low_level_inputs, samples).values
    )


def test_convolutions_are_told_the_conditions(randomize):
    network = randomize(ResNet(Geometry.load("2"), n_conditions=2)).eval()
    inputs = torch.rand(3, 1 + 6480 + 2)
    changed = inputs.clone()
    changed[:, -1] += 1
    assert not torch.allclose(network(inputs), network(changed))


def test_profiles_are_means_in_bins():
    showers = [make_showers(400, seed, slope) for seed, slope in ((1, 0.2), (2, 0.0))]
    energy, theta = profiles(*summaries(*showers))
    assert [energy["condition"], theta["condition"]] == ["incident_energy", "theta"]
    reference, generated = showers
    edges = np.linspace(reference.conditions["theta"].min(), reference.conditions["theta"].max(), 6)
    for low, high, entry in zip(edges[:-2], edges[1:-1], theta["bins"], strict=False):
        for own, name in ((generated, "generated"), (reference, "reference")):
            inside = (own.conditions["theta"] >= low) & (own.conditions["theta"] < high)
            response = own.voxels[inside].sum(axis=1) / own.incident_energies[inside]
            found = entry["quantities"]
            assert found["response"][name][0] == pytest.approx(response.mean(), rel=1e-5)
            assert found["resolution"][name][0] == pytest.approx(response.std() / response.mean(), rel=1e-2)
            shares = own.voxels[inside].reshape(-1, 3, 8).sum(axis=2) / own.voxels[inside].sum(axis=1, keepdims=True)
            depth = shares @ np.arange(3)
            assert found["depth"][name] == pytest.approx([depth.mean(), depth.std() / inside.sum() ** 0.5], rel=1e-2)
    pulls = [entry["quantities"]["depth"]["pull"] for entry in theta["bins"]]
    assert pulls[0] < -10
    assert pulls[-1] > 10


def test_errors_of_profiles_are_those_of_repetitions():
    numbers = [profiles(*summaries(make_showers(300, 2 * i), make_showers(300, 2 * i + 1))) for i in range(40)]
    tables = [entry["quantities"] for found in numbers for entry in found[1]["bins"]]
    pulls = [[table[key]["pull"] for table in tables] for key in ("depth", "width_r", "center_eta", "resolution")]
    assert np.std(pulls, axis=1) == pytest.approx(1, abs=0.2)


def test_windows_of_categories_are_the_categories():
    sample = LoadedSample.of(make_showers(20, 1, detector=np.tile(np.float32([3, 7]), 10)))
    assert [window.name for window in windows(sample, "detector")] == ["3", "7"]


def test_response_of_raw_deposits_has_bins_of_its_own():
    reference, generated = make_showers(400, 1), make_showers(400, 2)
    generated.voxels[:] *= 1.2
    truth, other = summaries(reference, generated)
    response = fill_histograms(challenge_binnings(truth, MESH), truth, other)[0]
    assert response.binning.observable == "response"
    assert response.outside[0] < 4
    assert response.separation > 0.3
    assert response.outside[1] < 40


def test_conditions_without_a_common_value_are_refused(tmp_path):
    generated = make_showers(40, 1)
    generated.conditions["theta"][:] += 3
    generated.save(tmp_path / "generated.hdf5")
    make_showers(40, 2).save(tmp_path / "reference.hdf5")
    with pytest.raises(CalomanError, match=r"incident theta of 2\.\d+ to 3\.\d+ rad have nothing in common with"):
        evaluate(tmp_path / "generated.hdf5", tmp_path / "reference.hdf5", output=tmp_path / "report")


def test_report_tells_the_conditions(tmp_path):
    reference, generated = make_showers(300, 1), make_showers(300, 2)
    generated.conditions["theta"][:] = abs(generated.conditions["theta"])
    for name, showers in (("reference", reference), ("generated", generated)):
        showers.save(tmp_path / f"{name}.hdf5")
    paths = [tmp_path / "generated.hdf5", tmp_path / "reference.hdf5"]
    report = evaluate(*paths, output=tmp_path / "report", modes=["cls-trees"], repeats=1)
    (sample,) = read_metrics(tmp_path / "report" / "metrics.json")["samples"]
    assert [table["condition"] for table in sample["conditions"]] == ["incident_energy", "theta"]
    assert any(warning.startswith("Unequal incident theta (Kolmogorov-Smirnov p = ") for warning in sample["warnings"])
    assert any(picture.name == "mean_showers_theta" for picture in report.pictures)
    assert "Showers of generated by theta" in report.page.read_text()
    assert json.dumps(sample["conditions"]).count("pull") > 20


def test_a_condition_of_one_side_is_pointed_out(tmp_path):
    make_showers(60, 1).save(tmp_path / "reference.hdf5")
    without_conditions(make_showers(60, 2)).save(tmp_path / "generated.hdf5")
    report = evaluate(tmp_path / "generated.hdf5", tmp_path / "reference.hdf5", output=tmp_path / "r", modes=["hist"])
    warnings = report.metrics["samples"][0]["warnings"]
    assert any("The generated file has no incident_theta: showers may differ in it" in warning for warning in warnings)
