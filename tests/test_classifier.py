from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu, norm
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss, roc_auc_score

from caloman.errors import CalomanError
from caloman.evaluation.classifier import (
    NUMBERS,
    ClassifierTest,
    Training,
    log_ratios,
    recalibrate,
    train_classifier,
    train_multiclass,
)
from caloman.evaluation.fitting import split
from caloman.evaluation.inputs import Inputs, collect, high_level_inputs, low_level_inputs, normed_inputs
from caloman.evaluation.networks import ResNet, dense
from caloman.evaluation.presets import OFFICIAL, QUICK, preset_for
from caloman.evaluation.samples import Sample
from caloman.showers.geometry import BUILT_IN, Geometry, Layer
from caloman.showers.observables import compute_observables

TINY_OFFICIAL = replace(
    OFFICIAL, hidden=(32,), epochs=10, batch_size=100, learning_rate=5e-3, train=0.66, select=0.17
)  # fmt: skip
LENGTHS = {"1-photons": (369, 374, 30), "1-pions": (534, 541, 46), "2": (6481, 6526, 362), "3": (40501, 40546, 362)}


def trainings(inputs, preset=QUICK, seeds=(0,)):
    network = partial(dense, inputs.n_features, preset.hidden)
    return [train_classifier(inputs, preset, seed, network) for seed in seeds]


def gaussians(n, shift, dim=4, seed=0):
    """Two classes of normal numbers; the second is moved along the first axis."""
    values = np.random.default_rng(seed).normal(size=(2 * n, dim)).astype(np.float32)
    values[n:, 0] += shift
    return Inputs(values, (n, n))


@pytest.fixture
def opened(tmp_path, make_showers):
    def save_and_open(n, geometry):
        showers = make_showers(n, geometry)
        path = tmp_path / f"{geometry.name}-{n}.hdf5"
        showers.save(path)
        return Sample.open(path, geometry)

    return save_and_open


# ---- inputs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", LENGTHS)
def test_input_vectors_have_the_official_length(opened, dataset):
    samples = [opened(n, BUILT_IN[dataset]) for n in (2, 3)]
    low, normed = collect(low_level_inputs, samples), collect(normed_inputs, samples)
    high = Inputs.of(*(high_level_inputs(compute_observables(sample.blocks())) for sample in samples))
    assert tuple(inputs.n_features for inputs in (low, normed, high)) == LENGTHS[dataset]
    for inputs in (low, normed, high):
        assert (inputs.sizes, inputs.labels.tolist()) == ((2, 3), [0, 0, 1, 1, 1])
        assert inputs.values.dtype == np.float32


def slow_inputs(showers, geometry):
    """The three official vectors, one shower and one layer at a time."""
    vectors = [], [], []
    for energy, voxels in zip(showers.incident_energies.astype(float), showers.voxels.astype(float), strict=True):
        cut = np.where(voxels < geometry.threshold, 0, voxels)
        layers = [cut[columns] for columns in geometry.layer_slices]
        energies = np.array([cells.sum() for cells in layers])
        moments = {name: [] for name in ("ceta", "cphi", "weta", "wphi", "sparsity", "cr", "wr")}
        for layer, cells in zip(geometry.layers, layers, strict=True):
            moments["sparsity"].append(np.mean(cells == 0))
            positions = {"r": layer.r}
            if layer.n_alpha > 1:
                positions |= {"eta": layer.r * np.cos(layer.alpha), "phi": layer.r * np.sin(layer.alpha)}
            for name, position in positions.items():
                mean = (position * cells).sum() / (cells.sum() + 1e-16)
                square = (position**2 * cells).sum() / (cells.sum() + 1e-16)
                moments["c" + name].append(mean / 100)
                moments["w" + name].append(np.sqrt(max(square - mean**2, 0)) / 100)
        first = [np.log10(energy)]
        log_energies = np.log10(energies + 1e-8)
        vectors[0].append(np.concatenate([first, cut / energy]))
        shapes = [cells / (cells.sum() + 1e-16) for cells in layers]
        vectors[1].append(np.concatenate([first, *shapes, log_energies]))
        centers = [moments[name] for name in ("ceta", "cphi", "weta", "wphi")]
        total = [np.log10(energies.sum() + 1e-8)]
        rest = [moments[name] for name in ("sparsity", "cr", "wr")]
        vectors[2].append(np.concatenate([first, log_energies, *centers, total, *rest]))
    return map(np.array, vectors)


def test_inputs_equal_a_slow_loop(opened, photons):
    sample = opened(40, photons)
    showers = next(sample.blocks())
    low, normed, high = slow_inputs(showers, photons)
    np.testing.assert_allclose(collect(low_level_inputs, [sample]).values, low, rtol=1e-5)
    np.testing.assert_allclose(collect(normed_inputs, [sample]).values, normed, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(high_level_inputs(compute_observables([showers])), high, rtol=1e-5, atol=1e-5)


def test_normed_layers_sum_to_one_or_nothing(opened, photons):
    values = collect(normed_inputs, [opened(40, photons)]).values[:, 1 : 1 + photons.n_voxels]
    sums = np.add.reduceat(values, [columns.start for columns in photons.layer_slices], axis=1)
    np.testing.assert_allclose(sums[sums > 0], 1, rtol=1e-5)
    assert (sums == 0).any()


def test_large_inputs_are_mapped_from_disk_and_train_alike(opened, small, monkeypatch):
    samples = [opened(n, small) for n in (300, 200)]
    held = collect(low_level_inputs, samples)
    monkeypatch.setattr("caloman.evaluation.inputs.MEMORY_LIMIT", 0)
    mapped = collect(low_level_inputs, samples)
    assert isinstance(mapped.values, np.memmap)
    assert not isinstance(held.values, np.memmap)
    np.testing.assert_array_equal(mapped.values, held.values)
    preset = replace(QUICK, hidden=(8,), epochs=1, min_updates=0)
    np.testing.assert_allclose(trainings(mapped, preset)[0].logits, trainings(held, preset)[0].logits, rtol=1e-5)


def test_a_full_disk_is_named(opened, small, monkeypatch):
    sample = opened(10, small)
    monkeypatch.setattr("caloman.evaluation.inputs.MEMORY_LIMIT", 0)
    monkeypatch.setattr("tempfile.tempdir", "/proc")  # always has 0 bytes free
    with pytest.raises(CalomanError, match=r"/proc: only 0 MiB are free there.*TMPDIR"):
        collect(low_level_inputs, [sample])


def test_values_that_are_no_numbers_are_named():
    generated, reference = np.zeros((5000, 3)), np.zeros((10, 3))
    reference[7, 2] = np.nan
    with pytest.raises(CalomanError, match="nan in column 2 of shower 7 of sample 1"):
        Inputs.of(generated, reference)


# ---- networks and presets ---------------------------------------------------------------------------------------


def n_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("dataset", "low", "high"),
    [("1-photons", 9_152_513, 8_458_241), ("1-pions", 9_490_433, 8_491_009),
     ("2", 21_669_889, 9_138_177), ("3", 91_342_849, 9_138_177)],
)  # fmt: skip
def test_dense_networks_have_the_official_number_of_parameters(dataset, low, high):
    n_low, _, n_high = LENGTHS[dataset]
    with torch.device("meta"):
        assert n_parameters(dense(n_low, OFFICIAL.hidden)) == low
        assert n_parameters(dense(n_high, OFFICIAL.hidden)) == high


@pytest.mark.parametrize("dataset", ["2", "3"])
def test_resnet_has_the_official_number_of_parameters(dataset):
    assert n_parameters(ResNet(BUILT_IN[dataset])) == 2_516_644


def test_resnet_needs_equal_layers(photons):
    with pytest.raises(CalomanError, match="'1-photons': the ResNet needs layers with equal voxels"):
        ResNet(photons)


def test_several_outputs_are_log_probabilities():
    outputs = dense(20, (8,), n_outputs=5)(torch.rand(2, 20))
    torch.testing.assert_close(outputs.exp().sum(dim=1), torch.ones(2))
    assert dense(20, (8,))(torch.rand(2, 20)).shape == (2, 1)


def test_resnet_sees_what_is_next_to_what():
    """Two classes with equal voxels on average: pairs of lit voxels are neighbors in angle or in radius."""
    mesh = Geometry("regular", "electron", tuple(Layer(i, (0, 1, 2, 3, 4), 4) for i in range(4)))
    rng = np.random.default_rng(0)
    n = 400
    showers = np.zeros((2 * n, 4, 4, 4))
    layer, alpha, r = rng.integers(0, [[4], [3], [3]], (3, 2 * n))
    along_r = np.arange(2 * n) >= n
    showers[np.arange(2 * n), layer, alpha, r] = 1
    showers[np.arange(2 * n), layer, alpha + ~along_r, r + along_r] = 1
    inputs = Inputs.of(*np.split(np.hstack([np.full((2 * n, 1), 3.0), showers.reshape(2 * n, -1)]), 2))
    preset = replace(QUICK, batch_size=32, epochs=5, min_updates=0, clip=None)
    training = train_classifier(inputs, preset, 0, partial(ResNet, mesh))
    assert training.auc > 0.9


@pytest.mark.parametrize(
    ("dataset", "count", "name", "sizes"),
    [
        ("1-photons", 121_000, "official", (80_000, 20_000, 21_000)),
        ("1-pions", 120_800, "official", (80_000, 20_000, 20_800)),
        ("2", 100_000, "official", (60_000, 20_000, 20_000)),
        ("3", 100_000, "official", (60_000, 20_000, 20_000)),
        ("2", 99_999, "official-reduced", (65_999, 16_999, 17_001)),
        ("1-photons", 100_000, "official-reduced", (66_000, 17_000, 17_000)),
        ("1-photons", 9272, "official-reduced", (6119, 1576, 1577)),
    ],
)
def test_official_split_or_a_reduced_one(dataset, count, name, sizes):
    preset = preset_for("official", BUILT_IN[dataset], (count, 500_000))
    assert (preset.name, preset.split_sizes(count)) == (name, sizes)
    assert replace(preset, name="official", train=OFFICIAL.train, select=OFFICIAL.select) == OFFICIAL


def test_presets_have_names(photons):
    assert preset_for("quick", photons, (10, 10)) is QUICK
    with pytest.raises(CalomanError, match="'fast': use quick or official"):
        preset_for("fast", photons, (10, 10))


def test_split_gives_every_shower_to_one_part():
    parts = split((100, 50), TINY_OFFICIAL, 0)
    assert torch.cat(parts).sort().values.tolist() == list(range(150))
    assert [(int((rows < 100).sum()), int((rows >= 100).sum())) for rows in parts] == [(66, 33), (17, 8), (17, 9)]


def test_showers_of_one_number_are_in_the_same_part():
    parts = split((50, 50), QUICK, 0)
    for rows in parts:
        first, second = rows[rows < 50], rows[rows >= 50] - 50
        assert torch.equal(first.sort().values, second.sort().values)


def test_too_few_showers_are_named():
    with pytest.raises(CalomanError, match="preset 'quick': sample 1 has only 4 showers"):
        trainings(Inputs.of(np.zeros((100, 2)), np.zeros((4, 2))))
    with pytest.raises(CalomanError, match="preset 'official': sample 0 has only 80000 showers"):
        trainings(Inputs.of(np.zeros((80_000, 1)), np.zeros((80_001, 1))), OFFICIAL)


# ---- calibration ------------------------------------------------------------------------------------------------


@pytest.fixture
def scored(rng):
    """Labels and outputs of a classifier that is far from calibrated: 3 (ln ratio) + 1."""
    labels = np.repeat([0, 1], 4000)
    position = rng.normal(labels * 0.8)
    return labels, 3 * (0.8 * position - 0.32) + 1


def training(labels, logits):
    known, new = slice(None, None, 2), slice(1, None, 2)
    calibrated = [f(logits[known], labels[known], logits[new]) for f in (recalibrate, log_ratios)]
    return Training(labels[new], logits[new], *calibrated)


def test_recalibrated_scores_equal_those_of_scikit_learn(scored):
    labels, logits = scored
    found = training(labels, logits)
    scores = 1 / (1 + np.exp(-logits))
    oracle = IsotonicRegression(out_of_bounds="clip", y_min=1 / 2002, y_max=2001 / 2002).fit(scores[::2], labels[::2])
    expected = oracle.predict(scores[1::2])
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-9)
    assert found.jsd == pytest.approx(1 - log_loss(labels[1::2], expected) / np.log(2))
    assert found.recalibrated_auc == pytest.approx(roc_auc_score(labels[1::2], expected))
    assert found.accuracy == np.mean((expected > 0.5) == labels[1::2])


def test_a_few_showers_on_the_wrong_side_do_not_make_a_negative_divergence():
    """A channel that is wrong in 6 % of all cases, of which the showers for the calibration show none."""
    known, labels = np.repeat([0, 1], 50), np.repeat([0, 1], 100)
    logits = np.where(np.arange(200) % 100 < 6, 1, -1) * (1 - 2 * labels)
    found = Training(labels, logits, recalibrate(2.0 * known - 1, known, logits), np.zeros(200))
    entropy = -(0.06 * np.log2(0.06) + 0.94 * np.log2(0.94))
    assert found.accuracy == pytest.approx(0.94)
    assert found.jsd == pytest.approx(1 - entropy, abs=0.1)
    guessing = Training(labels, logits, np.where(labels == 1, 0.4, 0.6), np.zeros(200))
    assert guessing.jsd == 0


def test_auc_is_the_statistic_of_mann_and_whitney(scored):
    found = training(*scored)
    statistic = mannwhitneyu(found.logits[found.labels == 1], found.logits[found.labels == 0]).statistic
    assert found.auc == pytest.approx(statistic / 2000**2)


def test_log_ratios_undo_a_linear_distortion(scored):
    labels, logits = scored
    found = training(labels, logits)
    np.testing.assert_allclose(found.log_ratios, (logits[1::2] - 1) / 3, atol=0.2)


def test_classes_of_unequal_size_count_the_same(scored):
    labels, logits = scored
    some = (labels == 1) | (np.arange(8000) < 800)
    unequal, equal = training(labels[some], logits[some]), training(labels, logits)
    np.testing.assert_allclose(unequal.log_ratios, (logits[some][1::2] - 1) / 3, atol=0.6)
    assert unequal.accuracy == pytest.approx(equal.accuracy, abs=0.03)
    assert unequal.n_scored == (400, 2000)


def test_diagnostics_follow_from_the_weights():
    ratios = np.log([0.05, 0.5, 1, 20, 1, 1])
    found = Training(np.array([0, 0, 0, 0, 1, 1]), np.zeros(6), np.full(6, 0.5), ratios)
    weights = np.array([0.05, 0.5, 1, 20])
    np.testing.assert_allclose(found.weights, weights)
    assert found.mean_weight == pytest.approx(weights.mean())
    assert found.effective_fraction == pytest.approx(weights.sum() ** 2 / (4 * (weights**2).sum()))


def test_perfect_separation_stays_finite():
    labels = np.repeat([0, 1], 100)
    found = training(labels, 1e4 * (labels - 0.5))
    assert (found.auc, found.recalibrated_auc, found.accuracy) == (1, 1, 1)
    assert found.jsd == pytest.approx(1 + np.log2(51 / 52))  # 50 showers of each cannot tell more
    assert all(np.isfinite(getattr(found, name)) for name in NUMBERS)


# ---- trainings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [QUICK, TINY_OFFICIAL])
def test_equal_distributions_cannot_be_told_apart(preset):
    preset = replace(preset, epochs=5)
    score = ClassifierTest(tuple(trainings(gaussians(1500, 0.0), preset, range(2))), preset.recalibrated)
    area, error = score.auc
    assert area == pytest.approx(0.5, abs=4 * error)
    assert np.mean([training.mean_weight for training in score.trainings]) == pytest.approx(1, abs=0.05)
    assert np.mean([training.effective_fraction for training in score.trainings]) > 0.95


@pytest.mark.parametrize("preset", [QUICK, TINY_OFFICIAL])
def test_a_classifier_learns_the_likelihood_ratio_of_gaussians(preset):
    shift, n = 0.7, 5000
    inputs = gaussians(n, shift)
    (found,) = trainings(inputs, preset)
    assert (found.auc, found.recalibrated_auc) == pytest.approx([norm.cdf(shift / np.sqrt(2))] * 2, abs=0.03)
    assert found.accuracy == pytest.approx(norm.cdf(shift / 2), abs=0.03)
    x = np.linspace(-8, 9, 2001)
    p, q = norm.pdf(x), norm.pdf(x - shift)
    divergence = np.trapezoid(p * np.log2(2 * p / (p + q)) + q * np.log2(2 * q / (p + q)), x) / 2
    assert found.jsd == pytest.approx(divergence, abs=0.04)
    scored = inputs.values[split(inputs.sizes, preset, 0).score, 0]
    truth = shift * scored - shift**2 / 2
    assert np.corrcoef(truth, found.log_ratios)[0, 1] > 0.95
    assert np.polyfit(truth, found.log_ratios, 1) == pytest.approx([1, 0], abs=0.2)
    assert found.mean_weight == pytest.approx(1, abs=0.1)
    assert found.effective_fraction == pytest.approx(np.exp(-(shift**2)), abs=0.12)


def test_obvious_differences_are_found_and_constants_do_no_harm():
    inputs = gaussians(200, 20.0)
    inputs.values[:, 1] = 7
    (found,) = trainings(inputs)
    assert found.auc > 0.99


@pytest.mark.parametrize("preset", [QUICK, TINY_OFFICIAL])
def test_training_is_decided_by_its_seed(preset):
    preset, inputs = replace(preset, epochs=2, min_updates=0), gaussians(200, 0.5)
    first, again, other = (trainings(inputs, preset, [seed])[0] for seed in (4, 4, 5))
    np.testing.assert_allclose(first.logits, again.logits, rtol=1e-5)
    np.testing.assert_allclose(first.log_ratios, again.log_ratios, rtol=1e-5)
    assert not np.allclose(first.logits, other.logits, rtol=0.1)


def test_score_quotes_one_area_with_an_error():
    labels = np.repeat([0, 1], [30, 20])
    logits = np.random.default_rng(0).normal(labels)
    results = tuple(Training(labels, sign * logits, np.full(50, 0.5), np.zeros(50)) for sign in (1, 1, -1))
    area = roc_auc_score(labels, logits)
    raw, recalibrated = ClassifierTest(results, recalibrated=False), ClassifierTest(results, recalibrated=True)
    areas = [area, area, 1 - area]
    assert raw.auc == pytest.approx((np.mean(areas), np.std(areas)))
    assert recalibrated.auc == pytest.approx((0.5, np.sqrt(51 / (12 * 30 * 20))))


# ---- log-posterior of several samples ---------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [QUICK, TINY_OFFICIAL])
def test_log_posterior_of_gaussians_is_that_of_bayes(preset):
    means = np.array([0.0, 1.0, 3.0])
    rng = np.random.default_rng(0)
    inputs = Inputs.of(*(rng.normal([mean, 0], size=(1500, 2)) for mean in means))
    reference = rng.normal([0.2, 0], size=(1500, 2))
    network = partial(dense, 2, preset.hidden, n_outputs=3)
    found = train_multiclass(inputs, Inputs.of(reference), preset, 0, network)
    densities = norm.logpdf(reference[:, :1], means)
    truth = (densities - np.logaddexp.reduce(densities, axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(found.reference[:2], truth[:2], atol=0.1)
    assert found.reference[2] == pytest.approx(truth[2], rel=0.2)
    assert found.consistency.argmax(axis=1).tolist() == [0, 1, 2]


def test_log_posterior_of_two_equal_samples_is_guessed():
    rng = np.random.default_rng(0)
    inputs = Inputs.of(rng.normal(size=(800, 2)), rng.normal(size=(800, 2)))
    found = train_multiclass(inputs, inputs, QUICK, 0, partial(dense, 2, (16,), n_outputs=2))
    assert found.reference == pytest.approx([-np.log(2)] * 2, abs=0.1)
    assert found.consistency == pytest.approx(np.full((2, 2), -np.log(2)), abs=0.1)
