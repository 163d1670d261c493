import math

import pytest

from caloman.data.download import OFFICIAL_FILES
from caloman.data.official import OFFICIAL
from caloman.evaluation.leaderboard import GEANT4, METRICS, entries, standings, why_not_comparable

SUBMISSIONS = {"1-photons": 15, "1-pions": 12, "2": 17, "3": 15}
VOXEL_DATASETS = ("2", "3")


def entry(dataset, name):
    (found,) = [entry for entry in entries(dataset) if entry.name == name]
    return found


def reference_md5(dataset):
    return [file.md5 for file in OFFICIAL_FILES[dataset] if file.role == "reference"]


@pytest.mark.parametrize(("dataset", "n"), SUBMISSIONS.items())
def test_every_submission_is_there_with_geant4_first(dataset, n):
    found = entries(dataset)
    assert len(found) == n + 1
    assert found[0].name == GEANT4
    assert len({one.name for one in found}) == n + 1


@pytest.mark.parametrize("dataset", SUBMISSIONS)
def test_every_metric_is_there_and_possible(dataset):
    of_resnet = {"auc_resnet", "log_posterior_resnet"} if dataset not in VOXEL_DATASETS else set()
    for one in entries(dataset):
        # a submission has no classifier against itself, and one layer of CaloDiT's energies was published as NaN
        missing = {"layer_correlations", "log_posterior", "log_posterior_resnet"} if one.name == GEANT4 else of_resnet
        missing = missing | of_resnet | ({"separation_layer_energies"} if one.name == "CaloDiT" else set())
        assert set(METRICS) - set(one.metrics) == missing, one.name
        assert all(math.isfinite(value) for value, _ in one.metrics.values())
        assert all(0 <= value <= 1 for key, (value, _) in one.metrics.items() if key.startswith(("auc", "separation")))
        with_error = {key for key, value in one.metrics.items() if value.error is not None}
        assert with_error == {key for key in one.metrics if key.startswith(("auc", "fpd", "kpd", "log_posterior"))}
        assert all(value > 0 and error >= 0 for value, error in one.time_ms.values())


def test_numbers_are_those_of_the_publication():
    caloman = entry("1-photons", "CaloMan")
    assert caloman.metrics["auc_low"] == pytest.approx((0.9997, 0.0001), abs=5e-5)
    assert caloman.metrics["fpd"] == pytest.approx((141.38, 0.47), abs=6e-3)
    assert caloman.metrics["log_posterior"] == pytest.approx((-30.346, 1.577), abs=5e-4)
    assert entry("1-pions", "Geant4").metrics["auc_low"].value == pytest.approx(0.609, abs=5e-4)
    inn = entry("1-photons", "CaloINN")
    assert inn.metrics["separation_sparsity"].value == pytest.approx(9.16082e-4)
    assert inn.time_ms["GPU 100"] == pytest.approx((0.514183, 0.0276889))
    dream = entry("3", "CaloDREAM")
    assert dream.metrics["auc_resnet"].value == pytest.approx(0.802, abs=5e-4)
    assert dream.metrics["coverage"].value == pytest.approx(0.9888, abs=5e-5)
    assert entry("2", "CaloDiT").metrics["layer_correlations"].value == pytest.approx(34.9486)


@pytest.mark.parametrize(
    ("metric", "value", "rank", "better", "worse"),
    [
        ("auc_low", 0.5, 1, None, "CaloINN"),
        ("auc_low", 0.63, 2, "CaloINN", "CaloDiffusion"),
        ("auc_low", 1.0, 16, "CaloMan", None),
        ("kpd", -1.0, 1, None, "CaloDiffusion"),
        ("log_posterior", -2.0, 1, None, "CaloDiffusion"),
        ("log_posterior", -25.0, 15, "Calo-VQ", "CaloMan"),
        ("precision", 0.704, 1, None, "CaloDiffusion"),
        ("density", 1000.0, 16, "CaloMan", None),
    ],
)
def test_ranks_and_neighbors(metric, value, rank, better, worse):
    (standing,) = standings("1-photons", {metric: value})
    assert (standing["metric"], standing["label"], standing["value"]) == (metric, METRICS[metric][0], value)
    assert (standing["rank"], standing["of"]) == (rank, 16)
    for side, name in (("better", better), ("worse", worse)):
        value_there = {"name": name, "value": entry("1-photons", name).metrics[metric].value} if name else None
        assert standing[side] == value_there


def test_nearness_to_geant4_counts_from_both_sides():
    geant4 = entry("1-photons", "Geant4").metrics["recall"].value
    (above,) = standings("1-photons", {"recall": geant4 + 0.02})
    (below,) = standings("1-photons", {"recall": geant4 - 0.02})
    assert above["rank"] == below["rank"] > 1
    assert above["geant4"] == geant4


def test_what_was_not_published_has_no_standing():
    assert standings("small", {"auc_low": 0.6}) == []
    assert standings("1-photons", {"auc_resnet": 0.6, "ks_mean": 0.5, "fpd": math.nan}) == []
    (layers,) = standings("2", {"separation_layer_energies": 0.5})
    assert layers["of"] == SUBMISSIONS["2"]  # one of them was published as NaN


@pytest.mark.parametrize("dataset", SUBMISSIONS)
def test_the_official_protocol_on_the_official_files_is_comparable(dataset):
    n = max(OFFICIAL[dataset].n_showers)
    assert why_not_comparable(dataset, n, n, "official", reference_md5(dataset)) == []


def test_reasons_why_numbers_are_not_comparable():
    good = ("1-photons", 121_000, 121_000, "official", reference_md5("1-photons"))
    for place, value, reason in [
        (0, "small", "not a dataset"),
        (1, 5000, "5000 generated"),
        (2, 5000, "5000 reference"),
        (3, "quick", "'quick'"),
        (4, ["0" * 32], "dataset_1_photons_2.hdf5"),
    ]:
        (sentence,) = why_not_comparable(*good[:place], value, *good[place + 1 :])
        assert reason in sentence
    assert len(why_not_comparable("1-photons", 10, 10, "quick", [])) == 3
