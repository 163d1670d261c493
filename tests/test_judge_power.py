"""What the judge sees: planted distortions, boosted trees, folds, learning curves and equivalent numbers."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from caloman.evaluation.classifier import ClassifierTest, auc_error, train_trees
from caloman.evaluation.distortions import DISTORTIONS, distorted
from caloman.evaluation.equivalent import MEASURES, equivalent, equivalent_number, equivalents
from caloman.evaluation.fitting import split
from caloman.evaluation.inputs import Inputs, collect, detailed_inputs, relative_observables
from caloman.evaluation.learning import expected_auc, extrapolated, learning_curve, subsamples, trainings
from caloman.evaluation.power import _crossing, measure_power
from caloman.evaluation.presets import OFFICIAL, QUICK
from caloman.evaluation.samples import LoadedSample
from caloman.evaluation.summary import summarize
from caloman.showers.geometry import Geometry
from caloman.showers.observables import compute_observables
from caloman.showers.showers import Showers

PHOTONS = Geometry.load("1-photons")


def make_showers(n, seed):
    """Sparse showers of two incident energies whose voxels fall with the radius."""
    rng = np.random.default_rng(seed)
    incident = rng.permutation(np.resize([512.0, 4096.0], n)).astype(np.float32)
    profile = np.concatenate([np.exp(-layer.r / 40) for layer in PHOTONS.layers])
    voxels = rng.gamma(0.5, 2.0, (n, PHOTONS.n_voxels)) * profile * (rng.random((n, PHOTONS.n_voxels)) < 0.6)
    voxels *= (incident * rng.normal(0.95, 0.05, n) / voxels.sum(axis=1))[:, None]
    return Showers(incident, voxels.astype(np.float32), PHOTONS)


def gaussians(rng, n, shift, dimensions=4):
    values = rng.normal(size=(2 * n, dimensions))
    values[n:, 0] += shift
    return Inputs.of(values[:n], values[n:])


# ---- distortions ------------------------------------------------------------------------------------------------


def test_distortions_do_what_they_say():
    showers = make_showers(400, 1)
    found = {name: distorted(showers, name, distortion.size).voxels for name, distortion in DISTORTIONS.items()}
    voxels, layers = showers.voxels, PHOTONS.layer_energies(showers.voxels)
    np.testing.assert_allclose(found["energy"], 1.01 * voxels, rtol=1e-6)
    np.testing.assert_allclose(PHOTONS.layer_energies(found["moved"]), layers, rtol=1e-5)
    assert np.mean(found["moved"][voxels > 0] != voxels[voxels > 0]) == pytest.approx(0.04, abs=0.015)
    np.testing.assert_allclose(PHOTONS.layer_energies(found["wider"]), layers, rtol=1e-5)
    np.testing.assert_array_equal(found["wider"] > 0, voxels > 0)
    for layer, columns in zip(PHOTONS.layers, PHOTONS.layer_slices, strict=True):
        radii = [
            array[:, columns].sum(axis=0) @ layer.r / array[:, columns].sum() for array in (voxels, found["wider"])
        ]
        assert radii[1] / radii[0] == pytest.approx(1.02, abs=0.002)
    lost = (voxels > 0) & (found["threshold"] == 0)
    np.testing.assert_array_equal(lost, (voxels > 0) & (voxels < 1.1))
    changed = (found["voxel"] != voxels).any(axis=0)
    assert changed.sum() == 1


def test_decorrelated_layers_keep_their_distribution():
    showers = make_showers(400, 2)
    voxels = distorted(showers, "correlation", 1.0).voxels
    columns = PHOTONS.layer_slices[1]
    np.testing.assert_array_equal(np.delete(voxels, columns, axis=1), np.delete(showers.voxels, columns, axis=1))
    energies = [array[:, columns].sum(axis=1) for array in (showers.voxels, voxels)]
    for energy in (512.0, 4096.0):
        own, other = (set(e[showers.incident_energies == energy].round(1)) for e in energies)
        assert len(own - other) <= 5  # one shower comes from the other energy, and sums are rounded
    some = distorted(showers, "correlation", 0.25).voxels
    assert np.mean((some != showers.voxels).any(axis=1)) == pytest.approx(0.25, abs=0.06)


# ---- boosted trees and folds ------------------------------------------------------------------------------------


def test_detailed_inputs_equal_a_slow_loop():
    sample = LoadedSample.of(make_showers(30, 3))
    showers = next(sample.blocks())
    found = collect(detailed_inputs, [sample]).values
    o = compute_observables([showers])
    np.testing.assert_allclose(found[:, 1 : 1 + relative_observables(o).shape[1]], relative_observables(o), rtol=1e-5)
    np.testing.assert_allclose(found[:, 1:6], o.layer_energies / showers.incident_energies[:, None], rtol=1e-5)
    rows = []
    for shower in showers.voxels.astype(np.float64):
        hits = [shower[columns][shower[columns] > 0] for columns in PHOTONS.layer_slices]
        rows.append([
            *(h.min() if len(h) else 0 for h in hits),
            *(h.max() / h.sum() if len(h) else 0 for h in hits),
            *(np.log(h).mean() if len(h) else 0 for h in hits),
        ])  # fmt: skip
    np.testing.assert_allclose(found[:, -15:], rows, rtol=1e-4, atol=1e-5)


def test_trees_learn_the_likelihood_ratio_of_gaussians(rng):
    shift = 0.7
    found = train_trees(gaussians(rng, 4000, shift), QUICK, seed=0, fold=0)
    assert found.auc == pytest.approx(norm.cdf(shift / np.sqrt(2)), abs=0.03)
    assert found.mean_weight == pytest.approx(1, abs=0.1)


def test_trainings_of_a_preset_score_every_shower_once():
    parts = [split((103, 55), QUICK, seed=7 + fold, fold=fold) for fold in range(6)]
    scored = np.concatenate([part.score.numpy() for part in parts[:5]])
    assert len(np.unique(scored)) == 158
    assert len(scored) <= 158 + 10  # sizes are no multiples of five
    for part in parts:
        assert sorted(np.concatenate(part).tolist()) == list(range(158))
    assert set(parts[5].score.tolist()) != set(parts[0].score.tolist())
    official = replace(OFFICIAL, train=0.6, select=0.2)
    assert len({tuple(split((50, 50), official, seed, fold).score.tolist()) for fold, seed in enumerate((3, 4))}) == 2


def test_folds_tell_more_than_repetitions():
    areas, n = [0.5, 0.51, 0.49, 0.5, 0.5], 200
    guessing = np.sqrt((2 * n + 1) / (12 * n**2))
    assert auc_error(areas, (n, n), 1) == pytest.approx(guessing)
    assert auc_error(areas[:1], (n, n), 5) == pytest.approx(guessing)
    assert guessing / np.sqrt(5) < auc_error(areas, (n, n), 5) < guessing
    assert auc_error([0.5, 0.9], (n, n), 2) == pytest.approx(0.2 / np.sqrt(2))


def test_errors_of_equal_samples_cover(rng):
    """Of 60 pairs of equal distributions about two thirds are within the error of 1/2, with any seed."""
    pulls = []
    for _ in range(60):
        inputs = gaussians(rng, 100, 0.0, dimensions=2)
        folds = tuple(_linear(inputs, seed) for seed in range(5))
        value, error = ClassifierTest(folds, recalibrated=False, folds=5).auc
        pulls.append((value - 0.5) / error)
    assert 0.5 < np.mean(np.abs(pulls) < 1) < 0.86


def _linear(inputs, fold):
    """A training of the difference of the means, which takes no time."""
    from caloman.evaluation.classifier import Training

    parts = split(inputs.sizes, QUICK, fold, fold)
    known = np.concatenate([parts.train, parts.select])
    x, labels = inputs.values[known], inputs.labels[known]
    scored = parts.score.numpy()
    logits = inputs.values[scored] @ (x[labels == 1].mean(axis=0) - x[labels == 0].mean(axis=0))
    return Training(inputs.labels[scored], logits.astype(float), np.full(len(scored), 0.5), np.zeros(len(scored)))


# ---- learning curves and power ----------------------------------------------------------------------------------


def test_the_law_is_that_of_a_linear_classifier(rng):
    """Means of 20 dimensions learned from n points of each class."""
    shift, dimensions = 0.5, 20
    for n in (50, 400):
        areas = []
        for _ in range(200):
            direction = rng.normal(size=dimensions) * np.sqrt(2 / n)
            direction[0] += shift
            areas.append(norm.cdf(shift * direction[0] / np.linalg.norm(direction) / np.sqrt(2)))
        assert np.mean(areas) == pytest.approx(expected_auc(n, shift**2, 2 * dimensions), abs=0.01)


def points(showers, areas, error):
    return [{"showers": n, "value": area, "error": error} for n, area in zip(showers, areas, strict=True)]


def test_a_curve_is_extrapolated_with_its_error():
    showers, error = (250, 500, 1000, 2000), 0.004
    truth = [expected_auc(n, 0.1, 60.0) for n in showers]
    pulls = []
    for seed in range(8):
        areas = np.random.default_rng(seed).normal(truth, error)
        (found,) = extrapolated(points(showers, areas, error), [20_000])
        pulls.append((found["value"] - expected_auc(20_000, 0.1, 60.0)) / found["error"])
    assert 0.3 < np.std(pulls) < 1.7
    assert abs(np.mean(pulls)) < 0.8
    flat = learning_curve(points(showers, [0.5] * 4, 0.01))["extrapolated"]
    assert [point["showers"] for point in flat] == [4000, 10_000, 20_000]
    assert flat[-1]["value"] < 0.52


def test_subsamples_are_disjoint():
    inputs = Inputs.of(np.arange(900.0)[:, None], np.arange(820.0)[:, None])
    found = dict(subsamples(inputs))
    assert list(found) == [103, 205, 410]
    for parts in found.values():
        assert not set(parts[0].values[:, 0]) & set(parts[1].values[:, 0])
        assert all(len(part.values) == sum(part.sizes) for part in parts)
    assert (trainings(820), trainings(400), trainings(399)) == (6, 4, 0)


def test_a_size_is_seen_where_the_auc_crosses_the_limit():
    squares = {size: 0.5 + 20 * size**2 for size in (0.01, 0.02, 0.04)}
    assert _crossing(squares, 0.51) == pytest.approx(np.sqrt(0.01 / 20), rel=1e-6)
    assert _crossing({0.01: 0.5, 0.02: 0.501}, 0.51) is None
    assert _crossing({0.1: 0.9, 0.05: 0.7}, 0.51) == 0.05


def test_power_names_every_distortion(monkeypatch):
    monkeypatch.setattr("caloman.evaluation.power.MOST_STEPS", 2)
    first, second = (LoadedSample.of(make_showers(200, seed)) for seed in (4, 5))
    steps = []
    power = measure_power(first, second, steps.append)
    assert len(steps) == len(power["distortions"]) == len(DISTORTIONS)
    assert power["showers"] == 200
    seen = {entry["name"]: entry["seen"] for entry in power["distortions"]}
    assert seen["threshold"] is not None
    assert seen["voxel"] is None
    assert "threshold" in power["statement"]
    assert "not even hottest voxel 6 % too high" in power["statement"]


# ---- equivalent numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", MEASURES)
def test_a_memory_of_n_points_is_worth_n_points(key):
    """Points that are drawn again and again from n ones are as far from the truth as these."""
    calibration, n = key == "calibration", 150
    dimensions, size, seeds = (12, 4000, 10) if calibration else (6, 1600, 4)
    inverses = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        scale = rng.uniform(0.5, 2, dimensions)
        memory, geant4, reference = (rng.normal(1, scale, (count, dimensions)) for count in (n, size, size))
        found = equivalent(memory[rng.integers(0, n, 3000)], geant4, reference, MEASURES[key])
        assert not found["at_least"]
        assert found["error"] < found["showers"]
        inverses.append(1 / found["showers"])
    # a calibration that is learned from n points is better or worse by chance, by sqrt(2 / dimensions)
    assert 1 / np.mean(inverses) == pytest.approx(n, rel=0.5 if calibration else 0.35)


@pytest.mark.parametrize("key", MEASURES)
def test_perfect_points_have_a_lower_limit_only(key):
    found, shape = [], (4000, 12) if key == "calibration" else (1000, 4)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        found.append(equivalent(*(rng.normal(1, 1, shape) for _ in range(3)), MEASURES[key]))
    assert sum(one["at_least"] for one in found) >= 3
    assert all(one["showers"] > 200 for one in found)
    assert found[0]["words"].startswith("at least") == found[0]["at_least"]


def test_words_have_the_digits_of_the_error():
    assert equivalent_number((1 / 9512, 6.6e-6), 0.1, [])["words"] == "9510 ± 600"
    assert equivalent_number((-1e-5, 1e-4), 0.1, [])["words"] == "at least 5000"


def test_equivalents_of_samples_are_by_energy_too():
    generated, geant4, reference = (summarize(LoadedSample.of(make_showers(600, seed))) for seed in (6, 7, 8))
    wide = summarize(LoadedSample.of(distorted(make_showers(600, 9), "wider", 0.5)))
    good, bad = (equivalents(one, geant4, reference) for one in (generated, wide))
    assert len(good["windows"]) == 2
    assert good["measures"]["ks"]["at_least"]
    assert bad["measures"]["ks"]["showers"] < 300
    assert good["measures"]["classifier"]["at_least"]
    assert bad["training_showers"] is None
    assert bad["statement"].startswith("worth about")


def test_the_score_of_trees_is_worth_what_theory_says():
    """Of n and m points of one distribution, the KS distance has the mean square pi^2 / 12 (1/n + 1/m)."""
    n, ratios = 1500, []
    for seed in range(2):
        geant4, reference = (summarize(LoadedSample.of(make_showers(n, 10 * seed + other))) for other in (1, 2))
        wide = summarize(LoadedSample.of(distorted(make_showers(n, 10 * seed), "wider", 0.05)))
        found = equivalents(wide, geant4, reference)["measures"]
        expected = 12 / np.pi**2 * found["classifier"]["distance"] ** 2 - 2 / n
        assert found["classifier"]["showers"] < found["ks"]["showers"]
        ratios.append(found["classifier"]["showers"] * expected)
    assert 0.4 < np.mean(ratios) < 2
