import numpy as np
import pytest
from scipy.stats import ttest_ind

from caloman.evaluation.plots.reading import likelihood_map
from caloman.evaluation.reading import read
from caloman.evaluation.reading.deviations import _window_edges, deviations, significant, standardize
from caloman.evaluation.reading.features import Feature, Table, energy_bands, tabulate
from caloman.evaluation.samples import LoadedSample
from caloman.evaluation.summary import summarize
from caloman.showers.geometry import Geometry, Layer
from caloman.showers.showers import Showers

LAYERS = (Layer(0, (0, 10, 30, 50), 8), Layer(1, (0, 10, 30, 50), 8), Layer(4, tuple(range(9))))
MESH = Geometry("toy", "electron", LAYERS, threshold=1.0)
ENERGIES = (256.0, 512.0, 1024.0)


def make(seed, n=1500):
    """Showers whose layers share a common fluctuation, with exponential deposits."""
    rng = np.random.default_rng(seed)
    incident = rng.permutation(np.resize(ENERGIES, n)).astype(np.float32)
    share = rng.gamma(50.0, 1 / 50, (n, 3))
    share[:, 1] = 1.5 - share[:, 0] + 0.5 * (share[:, 1] - 1)
    voxels = rng.exponential(1.0, (n, MESH.n_voxels)) * (rng.random((n, MESH.n_voxels)) < 0.5)
    sums = np.add.reduceat(voxels, [c.start for c in MESH.layer_slices], axis=1)
    voxels *= (share * incident[:, None] / 3 / np.maximum(sums, 1e-9))[:, MESH.voxel_layer]
    return Showers(incident, voxels.astype(np.float32), MESH)


def summaries(reference, generated):
    truth = summarize(LoadedSample.of(reference))
    return truth, summarize(LoadedSample.of(generated), truth.spectrum_edges)


def texts(reading):
    return [sentence["text"] for sentence in reading.document["sentences"]]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equal_distributions_have_nothing_wrong(seed):
    reading = read(*summaries(make(10 * seed), make(10 * seed + 1)))
    assert reading.document["sentences"] == []
    assert reading.document["statement"].startswith("No feature deviates from Geant4 beyond chance")
    area, error = reading.trees.auc
    assert area == pytest.approx(0.5, abs=4 * error)


def test_windows_of_a_continuous_spectrum_have_enough_showers():
    energies = np.geomspace(1e3, 1e4, 300)
    assert [len(_window_edges(energies, n)) for n in (10, 150, 5000)] == [0, 2, 19]


def soft_hits(showers, rng):
    part = showers.voxels[:, MESH.layer_slices[0].start : MESH.layer_slices[1].stop]
    extra = (part < 1) & (rng.random(part.shape) < 0.1)
    part[extra] = rng.uniform(1, 2, extra.sum())


def less_energy(showers, rng):
    showers.voxels[:, MESH.layer_slices[2]] *= 0.9


def no_correlation(showers, rng):
    for energy in ENERGIES:
        rows = np.flatnonzero(showers.incident_energies == energy)
        showers.voxels[rows, MESH.layer_slices[0]] = showers.voxels[rng.permutation(rows), MESH.layer_slices[0]]


def displaced(showers, rng):
    for columns in MESH.layer_slices[:2]:
        cells = showers.voxels[:, columns].reshape(len(showers), 8, 3)
        cells[:, 3:5] *= 1.4  # around alpha = 0, the side of larger eta
        cells[:, [0, 7]] *= 0.6


@pytest.mark.parametrize(
    ("distort", "text"),
    [
        (soft_hits, "Too many hits below 2 MeV in layers 0 to 1 (up to +"),
        (less_energy, "Too little energy in layer 4 (-9"),
        (no_correlation, "Energies of layers 0 and 1: correlation too large ("),
        (displaced, "Center in η in layers 0 to 1: shifted to larger values (up to +"),
    ],
)
def test_a_planted_distortion_is_named(distort, text):
    generated = make(2)
    distort(generated, np.random.default_rng(0))
    found = texts(read(*summaries(make(1), generated)))
    assert any(sentence.startswith(text) for sentence in found), found


def test_what_the_trees_go_by_and_which_showers_give_it_away():
    generated = make(2)
    bad = np.arange(0, 1500, 10)
    generated.voxels[bad] = np.where(generated.voxels[bad] > 0, 3.0, 0)  # all hits alike
    reading = read(*summaries(make(1), generated))
    assert {shower["position"] for shower in reading.document["telltale"]["generated"]} <= set(bad)
    assert all(shower["log_ratio"] < -2 for shower in reading.document["telltale"]["generated"])
    assert all(shower["log_ratio"] > 0 for shower in reading.document["telltale"]["reference"])
    soft_hits(generated := make(2), np.random.default_rng(0))
    importances = read(*summaries(make(1), generated)).trees.importances
    assert next(iter(importances)) == "hits"
    fall, error = importances["hits"]
    assert fall > 5 * error > 0


def test_the_map_shows_where_too_much_is_generated():
    soft_hits(generated := make(2), np.random.default_rng(0))
    axes = likelihood_map(read(*summaries(make(1), generated))).axes[0]
    assert axes.get_ylabel().startswith("hits below 2 MeV, layer")
    (cells,) = axes.collections
    many = cells.get_offsets()[:, 1] > 1
    assert cells.get_array()[many].mean() < -0.3 < 0.1 < cells.get_array()[~many].mean()


def test_hits_are_counted_in_bands_of_round_energies():
    showers = make(1, 60)
    summary = summarize(LoadedSample.of(showers))
    bands = energy_bands(summary)
    assert (bands[0], bands[-1]) == (0, np.inf)
    digits = np.array(bands[1:-1]) / 10 ** np.floor(np.log10(bands[1:-1]) + 1e-9)
    assert set(digits.round(9)) <= {1, 2, 5}
    table = tabulate(summary, bands, 1000)
    for number, feature in enumerate(table.features):
        if feature.group == "hits" and feature.layer == 1:
            cells = showers.voxels[:, MESH.layer_slices[1]]
            low, high = feature.band or (0, np.inf)
            expected = ((cells >= max(low, 1.0)) & (cells < high)).sum(axis=1)
            np.testing.assert_array_equal(table.values[:, number], expected)


def test_showers_that_are_drawn_keep_their_numbers():
    summary = summarize(LoadedSample.of(make(1, 60)))
    table = tabulate(summary, energy_bands(summary), 20)
    assert len(table.positions) == 20
    np.testing.assert_array_equal(table.energies, summary.observables.incident_energies[table.positions])
    response = summary.observables.total_energy / summary.observables.incident_energies
    np.testing.assert_allclose(table.values[:, 0], response[table.positions])


def test_the_significance_of_a_shift_is_that_of_welch(rng):
    values = [rng.normal(mean, width, (n, 1)) for mean, width, n in ((5.0, 1.0, 400), (5.2, 1.5, 700))]
    tables = [Table([Feature("energies", "energy", 1)], v, np.full(len(v), 1e3), np.arange(len(v))) for v in values]
    shift, spread = deviations(standardize(*tables))
    welch = ttest_ind(values[1][:, 0], values[0][:, 0], equal_var=False).statistic
    assert shift.significance == pytest.approx(welch, rel=0.01)
    assert shift.size == pytest.approx(0.04, abs=4 * shift.error)
    assert spread.size == pytest.approx(values[1].std() / values[0].std() - 1, rel=0.05)  # of a few clipped values
    assert spread.size == pytest.approx(0.5, abs=4 * spread.error)


def test_other_incident_energies_are_no_deviation():
    """Twice as many showers of one energy: nothing is wrong at fixed energy."""
    generated, more = make(2), make(3)
    chosen = more.incident_energies == ENERGIES[0]
    both = Showers(
        *(np.concatenate([getattr(generated, n), getattr(more, n)[chosen]]) for n in ("incident_energies", "voxels")),
        MESH,
    )
    truth, other = summaries(make(1), both)
    bands = energy_bands(truth)
    assert significant(list(deviations(standardize(*(tabulate(s, bands, 10_000) for s in (truth, other)))))) == []


def test_hits_where_geant4_has_none_are_found():
    reference, generated = make(1), make(2)
    for showers in (reference, generated):
        showers.voxels[:, MESH.layer_slices[2]] = 0
    generated.voxels[::8, MESH.layer_slices[2]] = 5.0
    found = texts(read(*summaries(reference, generated)))
    assert any(text.startswith("Too many hits") and "in layer 4 (Geant4 has none" in text for text in found)
