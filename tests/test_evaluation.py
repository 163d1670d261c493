import json
import os
import re
from dataclasses import replace

import h5py
import numpy as np
import pytest

import caloman
from caloman.cli import main
from caloman.errors import CalomanError
from caloman.evaluation.binnings import Binning, challenge_binnings
from caloman.evaluation.command import evaluate
from caloman.evaluation.comparison import Comparison, Floor, mean_separations
from caloman.evaluation.distances import frechet_distance
from caloman.evaluation.histograms import Histogram, fill_histograms, separation
from caloman.evaluation.inputs import high_level_inputs
from caloman.evaluation.measures import Measured
from caloman.evaluation.metrics import verdict
from caloman.evaluation.modes import DEFAULT_MODES, check_modes
from caloman.evaluation.presets import QUICK
from caloman.evaluation.samples import LoadedSample, Sample, distinct_values
from caloman.evaluation.summary import summarize
from caloman.evaluation.two_sample import sliced_wasserstein
from caloman.evaluation.validation import read_metrics
from caloman.files import sha256
from caloman.showers.geometry import Geometry, Layer
from caloman.showers.showers import Showers

PHOTONS = Geometry.load("1-photons")
TOY = Geometry("toy", "electron", (Layer(0, (0, 10, 30), 4), Layer(1, (0, 20))), threshold=0.5)
THRESHOLDS = {"1-photons": 1.0, "2": 0.5e-3 / 0.033}
ENERGIES = 256.0 * 2.0 ** np.arange(3)


def make_showers(n, seed, geometry=PHOTONS, energies=ENERGIES, shape=0.3):
    """Sparse showers: gamma distributed voxels that fall with the radius, about half of them empty."""
    rng = np.random.default_rng(seed)
    incident = rng.permutation(np.resize(energies, n)).astype(np.float32)
    profile = np.concatenate([np.exp(-layer.r / 40) for layer in geometry.layers])
    voxels = rng.gamma(shape, 1 / shape, (n, geometry.n_voxels)) * profile
    voxels *= rng.random(voxels.shape) < 0.6
    voxels *= (incident * rng.normal(0.95, 0.1, n) / voxels.sum(axis=1))[:, None]
    return Showers(incident, voxels.astype(np.float32), geometry)


def saved(path, showers):
    showers.save(path)
    return path


def opened(path, showers):
    return Sample.open(saved(path, showers), showers.geometry)


def histograms(tmp_path, generated, reference):
    truth = summarize(opened(tmp_path / "reference.hdf5", reference))
    other = summarize(opened(tmp_path / "generated.hdf5", generated), truth.spectrum_edges)
    return fill_histograms(challenge_binnings(truth, reference.geometry), truth, other)


# ---- separation powers ------------------------------------------------------------------------------------------


def naive_features(showers):
    """The official observables, one shower at a time."""
    features, geometry = {}, showers.geometry
    for energy, shower in zip(showers.incident_energies.astype(float), showers.voxels.astype(float), strict=True):
        voxels = np.where(shower < THRESHOLDS[geometry.name], 0.0, shower)
        features.setdefault(("response", None), []).append(voxels.sum() / energy)
        for layer, columns in zip(geometry.layers, geometry.layer_slices, strict=True):
            cells = voxels[columns]
            total = cells.sum()
            features.setdefault(("layer_energies", layer.id), []).append(total)
            features.setdefault(("sparsity", layer.id), []).append(1 - (cells > 0).mean())
            directions = {"r": layer.r}
            if layer.n_alpha > 1:
                directions["eta"] = layer.r * np.cos(layer.alpha)
                directions["phi"] = layer.r * np.sin(layer.alpha)
            for name, position in directions.items():
                mean = (position * cells).sum() / (total + 1e-16)
                variance = (position**2 * cells).sum() / (total + 1e-16) - mean**2
                features.setdefault((f"center_{name}", layer.id), []).append(mean)
                features.setdefault((f"width_{name}", layer.id), []).append(np.sqrt(max(variance, 0)))
    return {key: np.array(values) for key, values in features.items()}


def naive_edges(key, reference, dataset):
    observable, layer = key
    far = layer in (12, 13, 14)
    if dataset == "2" and observable.startswith(("center", "width")):
        upper = {"center_r": 42, "width_r": 20}.get(observable, 30)
        return np.linspace(-30 if observable in ("center_eta", "center_phi") else 0, upper, 101)
    if observable == "response":
        return np.linspace(0.5, 1.5, 101)
    if observable == "layer_energies":
        return np.logspace(np.log10(THRESHOLDS[dataset]), np.log10(reference.max()), 40)
    if observable == "sparsity":
        return np.linspace(0, 1, 21)
    if observable in ("center_r", "width_r"):
        return np.linspace(0, 1500 if far else 500, 101)
    if observable.startswith("width"):
        return np.linspace(0, 400 if far else 100, 101)
    return np.linspace(*((-500, 500) if far else (-100, 100)), 101)


def naive_separation(reference, generated, edges):
    p, q = (np.histogram(values, edges)[0] for values in (reference, generated))
    p, q = p / p.sum(), q / q.sum()
    return 0.5 * sum((a - b) ** 2 / (a + b + 1e-16) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize(("dataset", "count"), [("1-photons", 29), ("2", 361)])
def test_separations_equal_an_independent_computation(tmp_path, dataset, count):
    geometry, n = Geometry.load(dataset), 300 if dataset == "1-photons" else 60
    generated, reference = make_showers(n, 1, geometry, shape=0.4), make_showers(n, 2, geometry)
    found = histograms(tmp_path, generated, reference)
    mine, truth = naive_features(generated), naive_features(reference)
    official = [h for h in found if h.binning.observable not in ("response_at_energy", "voxel_energy")]
    assert len(official) == count
    for histogram in official:
        key = histogram.binning.observable, histogram.binning.layer
        expected = naive_separation(truth[key], mine[key], naive_edges(key, truth[key], dataset))
        assert histogram.separation == pytest.approx(expected, rel=1e-6, abs=1e-9), key
    voxels, others = (s.voxels[s.voxels >= THRESHOLDS[dataset]] for s in (reference, generated))
    edges = np.logspace(np.log10(THRESHOLDS[dataset]), np.log10(voxels.max()), 50)
    assert found[-1].binning.observable == "voxel_energy"
    assert found[-1].separation == pytest.approx(naive_separation(voxels, others, edges), rel=1e-6)


def test_response_per_energy_has_the_official_bins(tmp_path):
    generated = make_showers(300, 1, energies=[256.0, 4096.0])
    reference = make_showers(300, 2, energies=[256.0, 4096.0])
    found = [h for h in histograms(tmp_path, generated, reference) if h.binning.observable == "response_at_energy"]
    assert [h.binning.place for h in found] == ["256 MeV", "4.1 GeV"]
    for histogram, edges in zip(found, (np.linspace(0.4, 1.4, 21), np.linspace(0.9, 1.1, 21)), strict=True):
        energy = 256.0 if histogram is found[0] else 4096.0
        p, q = (naive_features(s[s.incident_energies == energy])["response", None] for s in (reference, generated))
        assert histogram.separation == pytest.approx(naive_separation(p, q, edges), rel=1e-6)


def test_identical_or_permuted_showers_have_no_separation(tmp_path):
    showers = make_showers(200, 3)
    shuffled = showers[np.random.default_rng(0).permutation(200)]
    for histogram in histograms(tmp_path, shuffled, showers):
        assert histogram.separation == pytest.approx(0, abs=1e-12), histogram.binning.title


@pytest.mark.parametrize("largest", [0, 1500, 2499])
def test_blocks_equal_the_whole(tmp_path, monkeypatch, largest):
    showers = make_showers(2500, 4)
    showers.voxels[largest, 40] = 2 * showers.voxels.max()
    sample = opened(tmp_path / "showers.hdf5", showers)
    whole = summarize(sample)
    monkeypatch.setattr("caloman.showers.showers.BLOCK_BYTES", 1)
    assert sum(1 for _ in sample.blocks()) > 2
    pieces = summarize(sample)
    np.testing.assert_array_equal(pieces.spectrum, whole.spectrum)
    np.testing.assert_array_equal(pieces.spectrum_edges, whole.spectrum_edges)
    np.testing.assert_array_equal(summarize(sample, whole.spectrum_edges).spectrum, whole.spectrum)
    assert pieces.occupied == whole.occupied == np.count_nonzero(showers.voxels >= 1)
    np.testing.assert_allclose(pieces.mean_shower, whole.mean_shower)
    np.testing.assert_allclose(pieces.observables.width_r, whole.observables.width_r)


def test_separation_is_never_nan():
    empty, full = np.zeros(4), np.array([1.0, 2, 0, 0])
    assert separation(full, empty) == separation(empty, full) == 1
    assert separation(empty, empty) == 0
    assert separation(full, np.array([0.0, 0, 5, 5])) == pytest.approx(1)


def test_separation_error_is_the_spread_over_samples():
    rng = np.random.default_rng(0)
    p = np.full(20, 0.05)
    q = np.linspace(0.02, 0.08, 20)
    values = [separation(rng.multinomial(2000, p), rng.multinomial(2000, q)) for _ in range(300)]
    histogram = Histogram(
        Binning("response", np.arange(21.0)), rng.multinomial(2000, p) * 1.0, rng.multinomial(2000, q) * 1.0, (0, 0)
    )
    assert histogram.separation_error == pytest.approx(np.std(values), rel=0.35)


def test_voxels_of_one_shower_do_not_count_as_independent():
    """Showers whose voxels rise and fall together, as those of real ones do."""

    def sample(rng, width):
        voxels = rng.exponential(20 * rng.lognormal(0, width, (400, 1)), (400, TOY.n_voxels)).astype(np.float32)
        return LoadedSample.of(Showers(np.full(400, 1e3, np.float32), voxels, TOY))

    def histogram(seed):
        rng = np.random.default_rng(seed)
        reference, generated = (summarize(sample(rng, width), edges) for width in (1.0, 1.3))
        return fill_histograms([Binning("voxel_energy", edges, "MeV")], reference, generated)[0]

    edges = np.geomspace(0.5, 500, 21)
    found = [histogram(seed) for seed in range(150)]
    separations, errors = (np.array([getattr(h, name) for h in found]) for name in ("separation", "separation_error"))
    assert np.median(errors) == pytest.approx(separations.std(), rel=0.3)
    inside = np.abs(separations - separations.mean()) <= errors
    assert 0.55 < inside.mean() < 0.85
    fractions, errors = map(np.array, zip(*(h.fractions()[1] for h in found), strict=True))
    np.testing.assert_allclose(np.median(errors, axis=0), fractions.std(axis=0), rtol=0.3)


def test_another_mesh_with_a_continuous_spectrum(tmp_path):
    energies = np.geomspace(1e3, 1e5, 200)
    found = histograms(tmp_path, make_showers(200, 1, TOY, energies), make_showers(200, 2, TOY, energies))
    assert sum(h.binning.observable == "response_at_energy" for h in found) == 6
    center = next(h.binning for h in found if h.binning.observable == "center_eta")
    assert (center.edges[0], center.edges[-1]) == (-22.5, 22.5)
    assert all(np.isfinite(h.separation) and np.isfinite(h.separation_error) for h in found)


def test_outside_entries_are_counted(tmp_path):
    reference = make_showers(100, 1)
    generated = Showers(reference.incident_energies, 10 * reference.voxels, PHOTONS)
    response = histograms(tmp_path, generated, reference)[0]
    assert response.separation == 1
    assert response.outside[1] == 100
    assert response.outside_fractions[1] == 1


# ---- samples ----------------------------------------------------------------------------------------------------


def test_floor_sample_has_the_energies_of_the_generated_one(tmp_path):
    sample = opened(tmp_path / "floor.hdf5", make_showers(300, 1))
    wanted = np.repeat(ENERGIES, [50, 20, 300]).astype(np.float32)
    matched = sample.matched_to(wanted).incident_energies
    assert [np.count_nonzero(matched == energy) for energy in ENERGIES] == [50, 20, 100]


def test_halves_are_disjoint_and_alike(tmp_path):
    sample = opened(tmp_path / "reference.hdf5", make_showers(300, 1))
    first, second = sample.halves()
    assert not (first.rows & second.rows).any()
    assert len(first) + len(second) == 300
    for energy in ENERGIES:
        assert np.count_nonzero(first.incident_energies == energy) == 50


def test_a_few_continuous_energies_are_not_discrete():
    assert distinct_values(np.geomspace(1, 10, 20)) is None
    np.testing.assert_array_equal(distinct_values(np.array([2.0] * 20 + [1.0] * 20)), [1, 2])


# ---- evaluate ---------------------------------------------------------------------------------------------------


ALIKE = "a$1_$b"  # which must not be taken for a formula
MODES = ["hist", "cls-low", "cls-high", "fpd", "prdc", "tests"]


HASTY = replace(QUICK, hidden=(64,), epochs=5, min_updates=100)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    generated = saved(folder / "<fast> & {light}.hdf5", make_showers(240, 1, shape=2.0))
    alike = saved(folder / "alike.hdf5", make_showers(240, 4))
    reference = saved(folder / "geant4.hdf5", make_showers(240, 2))
    floor = saved(folder / "floor.hdf5", make_showers(600, 3))
    samples, modes = [generated, f"{ALIKE}={alike}"], [*MODES, "cls-multi"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("caloman.evaluation.presets.QUICK", HASTY)
        return evaluate(samples, reference, "1-photons", folder / "report", floor, modes, repeats=2, seed=7)


def test_metrics_are_documented_and_complete(result):
    metrics = json.loads((result.output / "metrics.json").read_text())
    assert metrics == result.metrics
    read_metrics(result.output / "metrics.json")
    assert (metrics["schema"], metrics["caloman"], metrics["dataset"]) == (4, caloman.__version__, "1-photons")
    assert (metrics["preset"], metrics["settings"]["seeds"]) == ("quick", [7, 8])
    assert (metrics["reference"]["showers"], metrics["floor"]["showers"]) == (240, [240, 240])
    assert [sample["name"] for sample in metrics["samples"]] == ["<fast> & {light}", ALIKE]
    for sample in metrics["samples"]:
        expected = {"auc_low", "jsd_high", "separation_sparsity", "fpd", "recall", "ks_median", "layer_correlations"}
        assert expected <= set(sample["metrics"])
        assert all(np.isfinite([m["value"], m["error"], m["floor"], m["floor_error"]]).all()
                   for m in sample["metrics"].values())  # fmt: skip
        assert (
            len(sample["classifiers"]["low"]["trainings"])
            == len(sample["classifiers"]["low"]["floor"]["trainings"])
            == 2
        )
        assert len(sample["histograms"]) == 33
    separations = [h["value"] for h in metrics["samples"][0]["histograms"] if h["observable"] == "layer_energies"]
    mean = metrics["samples"][0]["metrics"]["separation_layer_energies"]["value"]
    assert (len(separations), mean) == (5, pytest.approx(np.mean(separations)))


def test_verdict_follows_the_classifiers(result):
    unlike, alike = result.metrics["samples"]
    assert unlike["metrics"]["auc_high"]["value"] > 0.8
    assert "tells these showers from Geant4" in unlike["verdict"]
    assert alike["verdict"].startswith("These showers cannot be told from Geant4 at this sample size")
    assert any("Small sample" in warning for warning in unlike["warnings"])


def test_geant4_showers_look_like_the_better_sample(result):
    posterior = result.metrics["posterior"]
    unlike, alike = (entry["value"] for entry in posterior["samples"])
    assert min(alike, posterior["guessing"]) > unlike


def test_a_quick_evaluation_of_own_showers_is_not_comparable(result):
    field = result.metrics["samples"][0]["field"]
    assert len(field["not_comparable"]) == 3
    assert {"auc_low", "fpd", "separation_sparsity"} <= {standing["metric"] for standing in field["standings"]}
    assert "May not be compared" in result.page.read_text()


def test_page_is_self_contained_and_escaped(result):
    page = result.page.read_text()
    assert "&lt;fast&gt; &amp; {light}.hdf5" in page
    assert "<fast>" not in page
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import|<script|<link", page)
    assert re.search(re.escape(ALIKE) + r":</span>\s+These showers cannot be told", page)
    assert "{{" not in page
    assert "prefers-color-scheme: dark" in page
    pictures = {path.stem for path in (result.output / "figures").glob("*.png")}
    expected = {"mean_showers", "single_showers", "energies", "layer_energies", "layer_correlations"}
    assert expected <= pictures == {path.stem for path in (result.output / "figures").glob("*.pdf")}
    assert page.count("data:image/png") == len(pictures)


def test_terminal_table_ends_with_the_page(result):
    lines = str(result).splitlines()
    assert lines[1] == f"{ALIKE}: {result.metrics['samples'][1]['verdict']}"
    assert lines[-1] == str(result.page)
    assert sum(line.startswith("AUC") for line in lines) == 2


@pytest.fixture
def hasty(monkeypatch):
    """A judge that trains little and draws nothing."""
    monkeypatch.setattr("caloman.evaluation.presets.QUICK", HASTY)
    monkeypatch.setattr("caloman.evaluation.plots.pictures", lambda results: [])

    def judge(generated, reference, output, **options):
        options = {"modes": MODES, "repeats": 1, **options}
        return evaluate(generated, reference, "1-photons", output, **options)

    return judge


def test_floors_are_scaled_to_the_number_of_showers():
    """Halves of 400 showers, scaled, give what independent samples of 400 do; as they are, about twice that."""

    def values(seed, *sizes):
        samples = [LoadedSample.of(make_showers(n, [seed, i])) for i, n in enumerate(sizes)]
        first, second = (summarize(sample, edges) for sample in samples)
        compared = fill_histograms(challenge_binnings(reference, PHOTONS), first, second)
        measured = mean_separations(compared, [(h.separation, 0.0) for h in compared])
        x, y = (high_level_inputs(summary.observables) for summary in (first, second))
        measured |= {"fpd": frechet_distance(x, y), "sliced_wasserstein": sliced_wasserstein(x, y)}
        return Comparison(first, second, compared, measured, {}, {})

    reference = summarize(LoadedSample.of(make_showers(400, 0)))
    edges = reference.spectrum_edges
    halves, wholes = ([values(seed, n, n) for seed in range(1, 13)] for n in (200, 400))
    means = np.mean([[value for value, _ in whole.values.values()] for whole in wholes], axis=0)
    raw, scaled = (np.mean([[value for value, _ in v.values()] for v in floors], axis=0) / means for floors in (
        [half.values for half in halves], [Floor(half, (400, 400)).values for half in halves]
    ))  # fmt: skip
    assert ((scaled > 0.5) & (scaled < 1.6)).all()
    assert scaled.mean() == pytest.approx(1, abs=0.15)
    assert raw.mean() > 1.5
    assert Floor(wholes[0], (400, 400)).values["separation_sparsity"][0] == wholes[0].values["separation_sparsity"][0]


def test_the_floor_is_at_the_number_of_showers_of_each_sample(tmp_path, hasty):
    reference = saved(tmp_path / "reference.hdf5", make_showers(240, 1))
    generated = [saved(tmp_path / f"{n}.hdf5", make_showers(n, n)) for n in (120, 240)]
    metrics = hasty(generated, reference, tmp_path / "report", modes=["hist", "prdc"]).metrics
    small, large = (sample["metrics"]["separation_sparsity"]["floor"] for sample in metrics["samples"])
    assert small > 1.3 * large
    assert metrics["settings"]["neighbor_showers"] == 120
    assert any("as many as their floor has" in reason for reason in metrics["samples"][1]["field"]["not_comparable"])


def test_a_file_that_caloman_generated_is_no_reference(tmp_path, hasty):
    geant4, generated = (saved(tmp_path / f"{n}.hdf5", make_showers(60, i)) for i, n in enumerate(("geant4", "own")))
    with h5py.File(generated, "r+") as file:
        file.attrs["generator"] = "caloman"
    for reference, floor in ((generated, None), (geant4, generated)):
        with pytest.raises(CalomanError, match=r"own.hdf5: was generated by caloman, so it is not Geant4; give"):
            hasty(geant4, reference, tmp_path / "report", floor=floor, modes=["hist"])
    assert hasty(generated, geant4, tmp_path / "report", modes=["hist"]).metrics["samples"][0]["name"] == "own"


def test_the_verdict_names_what_was_measured():
    alike, unlike = Measured(0.5, 0.1, 0.5, 0.1, "low"), Measured(5.0, 0.1, 0.5, 0.1, "low")
    assert verdict({"fpd": alike}, ["hist", "fpd"], 300, identical=False) == (
        "No classifier was trained; histograms and FPD of 300 showers show no clear difference from Geant4."
    )
    assert verdict({"fpd": unlike}, ["fpd"], 300, identical=False) == (
        "No classifier was trained; FPD of 300 showers differ from Geant4 in: FPD × 10³."  # noqa: RUF001
    )


def test_a_log_gets_a_line_for_every_step(tmp_path, hasty, caplog):
    path = saved(tmp_path / "showers.hdf5", make_showers(60, 1))
    hasty(path, path, tmp_path / "report", modes=["hist", "cls-high", "prdc"], repeats=2)
    lines = [record.getMessage() for record in caplog.records if "progress" in record.name]
    assert len(lines) == 10
    assert lines[3].startswith("evaluate: step 4 of 10, classifier cls-high, training 1 of 2")
    assert lines[-1].startswith("evaluate: step 10 of 10, figures")


def test_a_file_against_itself_is_no_result(tmp_path, hasty):
    path = saved(tmp_path / "showers.hdf5", make_showers(240, 1))
    metrics = hasty(path, path, tmp_path / "report").metrics
    assert metrics["floor"]["kind"] == "halves of the reference"
    assert metrics["floor"]["showers"] == [120, 120]
    assert any("identical to the reference" in warning for warning in metrics["samples"][0]["warnings"])
    sentence = "the generated showers are identical to those of the reference"
    assert metrics["samples"][0]["verdict"] == f"Nothing was judged: {sentence}."
    assert {entry["words"] for entry in metrics["samples"][0]["metrics"].values()} == {sentence}


def test_the_same_showers_in_another_order_are_no_result(tmp_path, hasty):
    showers = make_showers(60, 1)
    reference = saved(tmp_path / "reference.hdf5", showers)
    shuffled = saved(tmp_path / "shuffled.hdf5", showers[np.random.default_rng(0).permutation(60)])
    (sample,) = hasty(shuffled, reference, tmp_path / "report", modes=["hist"]).metrics["samples"]
    assert "identical to those of the reference" in sample["verdict"]
    (other,) = hasty(
        saved(tmp_path / "o.hdf5", make_showers(60, 2)), reference, tmp_path / "report", modes=["hist"]
    ).metrics["samples"]
    assert "identical" not in other["verdict"]


def test_files_that_have_nothing_in_common_are_named(tmp_path, hasty):
    reference = saved(tmp_path / "reference.hdf5", make_showers(60, 1, energies=np.repeat(ENERGIES[:1], 2)))
    above = saved(tmp_path / "above.hdf5", make_showers(60, 2, energies=ENERGIES[1:]))
    wide = saved(tmp_path / "wide.hdf5", make_showers(60, 2, energies=np.geomspace(1e3, 1e4, 60)))
    for generated, energies in ((above, "512 to 1024 MeV"), (wide, "1000 to 10000 MeV")):
        with pytest.raises(
            CalomanError, match=f"{generated.name}: incident energies of {energies} have nothing in common"
        ):
            hasty(generated, reference, tmp_path / "report", modes=["hist"])


def test_a_mode_says_how_many_showers_it_needs(tmp_path, hasty, caplog):
    reference = saved(tmp_path / "reference.hdf5", make_showers(160, 1))
    for mode in ("equivalent", "power"):
        with pytest.raises(CalomanError, match=f"mode '{mode}' needs 100 showers of every sample .* not 79; give more"):
            hasty(reference, reference, tmp_path / "report", modes=["hist", mode])
    few = saved(tmp_path / "few.hdf5", make_showers(30, 1))
    with pytest.raises(CalomanError, match=r"mode 'tests' needs 20 showers of every sample .* not 15; give more"):
        hasty(few, few, tmp_path / "report", modes=["tests"])
    assert check_modes(None, 1, 80) == tuple(mode for mode in DEFAULT_MODES if mode not in ("equivalent", "power"))
    assert "left out: mode 'power' needs 100 showers" in caplog.text


def test_the_strongest_classifier_power_and_worth_are_told(tmp_path, hasty, monkeypatch):
    monkeypatch.setattr("caloman.evaluation.power.MOST_STEPS", 1)
    names, shapes = ("reference", "floor", "generated"), (0.3, 0.3, 0.4)
    reference, floor, generated = (
        saved(tmp_path / f"{name}.hdf5", make_showers(420, seed, shape=shape))
        for seed, (name, shape) in enumerate(zip(names, shapes, strict=True))
    )
    with h5py.File(generated, "r+") as file:
        file.attrs["training_showers"] = 1000
    modes = ["cls-trees", "equivalent", "power"]
    report = hasty(generated, reference, tmp_path / "report", floor=floor, modes=modes, repeats=2)
    (sample,) = report.metrics["samples"]
    assert sample["strongest"] == "auc_trees"
    assert "The boosted-tree classifier tells these showers" in sample["verdict"]
    assert [point["showers"] for point in sample["learning_curve"]["points"]] == [105, 210, 420]
    assert sample["equivalent"]["training_showers"] == 1000
    assert sample["equivalent"]["measures"]["ks"]["showers"] < 420
    assert len(report.metrics["power"]["distortions"]) == 6


def test_a_kept_summary_of_the_reference_changes_no_number(tmp_path, hasty, monkeypatch):
    monkeypatch.setattr("caloman.evaluation.power.MOST_STEPS", 1)
    first, second, reference, floor = (saved(tmp_path / f"{i}.hdf5", make_showers(120, i)) for i in range(4))
    options = {"floor": floor, "modes": ["hist", "cls-high", "cls-trees", "fpd", "equivalent", "power"], "repeats": 2}
    summary = {"reference_summary": tmp_path / "kept.json"}
    hasty(first, reference, tmp_path / "report", **options, **summary)
    fresh = hasty(second, reference, tmp_path / "report", **options).metrics
    monkeypatch.setattr("caloman.evaluation.command.measure_power", None)
    assert hasty(second, reference, tmp_path / "report", **options, **summary).metrics == fresh
    monkeypatch.setattr("caloman.evaluation.command._measured", None)
    for changed, name in (({"seed": 1}, "choice of seeds"), ({"floor": first}, "floor"), ({"modes": ["hist"]}, "mode")):
        with pytest.raises(CalomanError, match=rf"kept\.json: was made with .*{name}.*; remove it or name another"):
            hasty(second, reference, tmp_path / "report", **{**options, **changed, **summary})
    with pytest.raises(CalomanError, match=r"kept\.json: was made with another reference, 2\.hdf5"):
        hasty(second, first, tmp_path / "report", **options, **summary)
    whole = (tmp_path / "kept.json").read_text()
    for content in ("nothing", whole[:-100], whole.replace('"power"', '"force"'), "[" * 10**5, None):
        (tmp_path / "kept.json").unlink()
        if content is None:
            os.mkfifo(tmp_path / "kept.json")
        else:
            (tmp_path / "kept.json").write_text(content)
        with pytest.raises(CalomanError, match=r"kept\.json: not a summary that --reference-summary wrote; remove it"):
            hasty(second, reference, tmp_path / "report", **options, **summary)


def test_unlike_energies_and_sizes_are_pointed_out(tmp_path, hasty):
    generated = saved(tmp_path / "generated.hdf5", make_showers(100, 1, energies=ENERGIES[:2]))
    reference = saved(tmp_path / "reference.hdf5", make_showers(200, 2))
    warnings = " ".join(hasty(generated, reference, tmp_path / "report").metrics["samples"][0]["warnings"])
    assert "The generated file has no showers of incident energy 1024 MeV" in warnings
    assert "Unequal incident energies" in warnings
    assert "Unequal sample sizes (100 generated, 200 reference)" in warnings
    assert "separation set to 1: E_tot / E_inc at fixed E_inc, 1.02 GeV" in warnings
    assert "comes from the number of showers alone" in warnings


def test_a_reference_that_the_generator_was_trained_on_is_pointed_out(tmp_path, hasty):
    reference = saved(tmp_path / "reference.hdf5", make_showers(60, 1))
    generated = saved(tmp_path / "generated.hdf5", make_showers(60, 2))
    with h5py.File(generated, "r+") as file:
        file.attrs["trained_on"] = f"abc {sha256(reference)}"
    (sample,) = hasty(generated, reference, tmp_path / "report", modes=["hist"]).metrics["samples"]
    assert any("was trained on the reference file" in warning for warning in sample["warnings"])


def test_empty_showers_are_pointed_out(tmp_path, hasty):
    reference = make_showers(100, 1)
    voxels = reference.voxels.copy()
    voxels[:30] = 0
    generated = saved(tmp_path / "generated.hdf5", Showers(reference.incident_energies, voxels, PHOTONS))
    path = saved(tmp_path / "reference.hdf5", reference)
    report = hasty(generated, path, tmp_path / "report")
    warnings = report.metrics["samples"][0]["warnings"]
    assert any("without any energy above threshold: 30 generated, 0" in warning for warning in warnings)
    assert "NaN" not in (tmp_path / "report" / "metrics.json").read_text()


def test_closure_tests_are_told_from_files(tmp_path, hasty):
    reference = saved(tmp_path / "reference.hdf5", make_showers(240, 1))
    unlike, alike = (saved(tmp_path / f"{shape}.hdf5", make_showers(240, 2, shape=shape)) for shape in (3.0, 0.3))
    latents = [tmp_path / "sampled.hdf5", tmp_path / "encoded.hdf5"]
    for seed, path in enumerate(latents):
        with h5py.File(path, "w") as file:
            file["latents"] = np.random.default_rng(seed).normal(size=(240, 3)).astype(np.float32)
            file["contexts"] = np.ones((240, 2), np.float32)
    options = {"modes": ["cls-low", "cls-high"], "reconstruction": alike, "shapes": unlike, "latents": latents}
    found = hasty(unlike, reference, tmp_path / "report", **options).metrics["samples"][0]["closure_tests"]
    assert list(found) == ["reconstruction", "shapes", "latents", "full"]
    assert found["reconstruction"]["low"][0] < 0.65 < found["shapes"]["low"][0]
    assert abs(found["latents"]["low"][0] - 0.5) < 0.2
    assert "<h3>Closure tests" in (tmp_path / "report" / "index.html").read_text()


def test_members_of_an_ensemble_show_their_spread(tmp_path, hasty):
    members = [saved(tmp_path / f"{seed}.hdf5", make_showers(400, seed)) for seed in range(4)]
    reference = saved(tmp_path / "reference.hdf5", make_showers(400, 9))
    report = hasty(members, reference, tmp_path / "report", modes=["hist"], ensemble=True)
    assert report.metrics["ensemble"]["coverage"]["0.68"] == pytest.approx(0.68, abs=0.12)
    assert "in the 68 % band" in str(report)
    biased = [saved(tmp_path / f"b{seed}.hdf5", make_showers(400, seed, shape=1.0)) for seed in range(4)]
    shared = hasty(biased, reference, tmp_path / "report", modes=["hist"], ensemble=True)
    assert shared.metrics["ensemble"]["coverage"]["0.68"] < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ensemble": True}, "two members or more"),
        ({"modes": ["cls-middle"]}, "unknown mode 'cls-middle'"),
        ({"modes": ["cls-multi"]}, "more than one generated file"),
        ({"modes": ["cls-resnet"]}, "layers with equal voxels"),
        ({"preset": "slow"}, "unknown classifier preset 'slow'"),
        ({"repeats": 0}, "at least once"),
        ({"latents": ["sampled.hdf5"]}, "two files"),
    ],
)
def test_unusable_options_are_named(tmp_path, hasty, options, message):
    path = saved(tmp_path / "showers.hdf5", make_showers(60, 1))
    with pytest.raises(CalomanError, match=message):
        hasty(path, path, tmp_path / "report", **options)


def test_samples_of_one_name_have_to_be_told_apart(tmp_path, hasty):
    path = saved(tmp_path / "showers.hdf5", make_showers(60, 1))
    with pytest.raises(CalomanError, match="two samples are called 'showers': give NAME=FILE"):
        hasty([path, path], path, tmp_path / "report")


@pytest.mark.usefixtures("hasty")
def test_command_takes_several_samples_and_modes(tmp_path, capsys):
    files = [str(saved(tmp_path / f"{name}.hdf5", make_showers(60, seed))) for seed, name in enumerate("abc")]
    options = ["--dataset", "1-photons", "--modes", "hist", "prdc", "--output", str(tmp_path / "report")]
    assert main(["evaluate", *files, *options]) == 0
    output = capsys.readouterr().out
    assert "a: No classifier was trained" in output
    assert "separation, sparsity" in output
    assert "b: No classifier was trained" in output


def bad_file(case, path):
    showers = make_showers(100, 1)
    if case == "nan":
        showers.voxels[3, 5] = np.nan
    if case != "missing":
        saved(path, make_showers(100, 1, TOY) if case == "mesh" else showers[: 10 if case == "few" else 100])


@pytest.mark.parametrize(
    ("case", "message"),
    [("missing", "no such file"), ("nan", "nan MeV in voxel 5 of shower 3"), ("mesh", "needs numbers of shape"),
     ("few", "at least 20")],
)  # fmt: skip
def test_bad_input_is_named(tmp_path, case, message):
    bad_file(case, tmp_path / "generated.hdf5")
    reference = saved(tmp_path / "reference.hdf5", make_showers(100, 2))
    with pytest.raises(CalomanError, match=message) as error:
        evaluate(tmp_path / "generated.hdf5", reference, "1-photons", tmp_path / "report", repeats=1)
    assert "generated.hdf5" in str(error.value)
    assert not (tmp_path / "report").exists()


def test_an_unwritable_report_is_named(tmp_path, hasty):
    path = saved(tmp_path / "showers.hdf5", make_showers(60, 1))
    with pytest.raises(CalomanError, match=r"showers.hdf5.*: cannot be written"):
        hasty(path, path, path)
