from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import nhypergeom

import caloman
from caloman.evaluation.extremes import beyond_probability, extremes, overshoot_probability, unusual
from caloman.showers.observables import Observables
from caloman.showers.showers import Showers

WINDOWS = [(500.0, 600.0), (1000.0, 1100.0), (4000.0, 4100.0)]
LAYERS = [0, 12]


def showers(rng, counts, n_layers=2):
    """Observables of which only energies matter: responses around one, at the first energies of the windows."""
    incident = np.repeat([window[0] for window in WINDOWS], counts)
    shares = rng.gamma(20.0, 1 / (20 * n_layers), size=(len(incident), n_layers))
    nothing = np.zeros_like(shares)
    return Observables(incident, shares * incident[:, None], *[nothing] * 7)


def test_the_number_beyond_the_most_extreme_has_the_closed_form():
    n, m = 7, 5
    probabilities = beyond_probability(n, m, m + 3)
    np.testing.assert_allclose(probabilities, nhypergeom.pmf(np.arange(m + 3), n + m, m, 1), rtol=1e-10)
    assert probabilities @ np.arange(m + 3) == pytest.approx(m / (n + 1))


def test_counts_of_equal_distributions_are_as_expected(rng):
    counts = np.array([[tail["beyond"], tail["expected"], tail["p_value"]] for tail in _repeated(rng, 100)])
    error = counts[:, 0].std() / np.sqrt(len(counts) / 6)  # the six tails of one repetition are not independent
    assert counts[:, 0].mean() == pytest.approx(counts[0, 1], abs=5 * error)
    # a discrete p-value is below a level at most as often as the level says
    for level in (0.05, 0.3):
        assert (counts[:, 2] <= level).mean() <= level + 5 * np.sqrt(level / len(counts) * 6)


def _repeated(rng, times):
    for _ in range(times):
        yield from extremes(showers(rng, [40, 30, 20]), showers(rng, [120, 90, 60]), WINDOWS, LAYERS)


def test_overshoots_of_exponential_tails_keep_their_bound(rng):
    n, m, times = 50, 100, 20_000
    reference, generated = rng.exponential(size=(times, n)), rng.exponential(size=(times, m))
    largest = reference.max(axis=1)
    overshoots = (generated.max(axis=1) - largest) / (largest - np.log(2))
    for t, tightness in ((0.5, 0.5), (1.0, 0.7), (2.0, 0.8)):
        found, bound = (overshoots > t).mean(), overshoot_probability(n, m, t)
        assert tightness * bound - 5 * np.sqrt(bound / times) <= found <= bound + 5 * np.sqrt(bound / times)
    assert overshoot_probability(n, m, -1.0) == 1


def test_a_single_absurd_shower_is_found_by_its_distance(rng):
    reference, generated = showers(rng, [400, 300, 200]), showers(rng, [4000, 3000, 2000])
    assert not list(unusual(extremes(reference, generated, WINDOWS, LAYERS)))
    generated.layer_energies[5000, 1] = 9 * generated.incident_energies[5000]
    sentences = list(unusual(extremes(reference, generated, WINDOWS, LAYERS)))
    assert len(sentences) == 1
    assert "1000 to 1100 MeV has E_tot / E_inc = 9." in sentences[0]


@pytest.mark.parametrize(("factor", "side"), [(1.5, "largest"), (0.6, "smallest")])
def test_a_planted_tail_is_found_by_its_number(rng, factor, side):
    reference, generated = showers(rng, [400, 300, 200]), showers(rng, [400, 300, 200])
    generated.layer_energies[::10] *= factor
    tails = {(tail["observable"], tail["side"]): tail for tail in extremes(reference, generated, WINDOWS, LAYERS)}
    found = tails["E_tot / E_inc", side]
    assert found["expected"] == pytest.approx(400 / 401 + 300 / 301 + 200 / 201)
    assert found["beyond"] > 3 * found["expected"]
    assert found["p_value"] < 1e-3


def test_tails_that_are_too_short_are_unlikely_too(rng):
    reference, generated = showers(rng, [400, 300, 200]), showers(rng, [4000, 3000, 2000])
    response = np.clip(generated.total_energy / generated.incident_energies, 0.8, 1.2)
    generated.layer_energies[:] = (response * generated.incident_energies)[:, None] / 2
    tail = extremes(reference, generated, WINDOWS, LAYERS)[0]
    assert tail["beyond"] == 0
    assert tail["expected"] == pytest.approx(30, abs=0.2)
    assert tail["p_value"] < 0.01


def test_windows_without_showers_and_layers_without_energy_say_nothing(rng):
    reference, generated = showers(rng, [40, 0, 20]), showers(rng, [40, 30, 0])
    for sample in (reference, generated):
        sample.layer_energies[:, 1] = 0
    tails = extremes(reference, generated, WINDOWS, LAYERS)
    assert tails[0]["expected"] == pytest.approx(40 / 41)
    assert all(tail["beyond"] == 0 and tail["overshoot"] == 0 for tail in tails[4:])
    assert (
        extremes(replace(reference, incident_energies=reference.incident_energies + 1e6), generated, WINDOWS, LAYERS)
        == []
    )
    assert all(tail["p_value"] == 1 for tail in tails[4:])  # ties are no evidence
    generated.layer_energies[0, 1] = 1.0
    assert extremes(reference, generated, WINDOWS, LAYERS)[4]["beyond"] == 1


def test_the_judge_points_out_energy_out_of_nothing(make_showers, photons, tmp_path, monkeypatch):
    monkeypatch.setattr("caloman.evaluation.plots.pictures", lambda results: [])
    showers = make_showers(400, photons)
    voxels = showers.voxels * (1024 / showers.incident_energies)[:, None]
    voxels[300] = 20 * 1024 / photons.n_voxels
    for name, rows in (("reference", slice(0, 200)), ("generated", slice(200, 400))):
        part = voxels[rows]
        Showers(np.full(len(part), 1024, np.float32), part, photons).save(tmp_path / f"{name}.hdf5")
    files = tmp_path / "generated.hdf5", tmp_path / "reference.hdf5"
    sample = caloman.evaluate(*files, output=tmp_path / "report", modes=["hist"]).metrics["samples"][0]
    assert any("has E_tot / E_inc = 20," in warning for warning in sample["warnings"])
    assert {tail["observable"] for tail in sample["extremes"]} >= {"E_tot / E_inc", "layer 12"}
