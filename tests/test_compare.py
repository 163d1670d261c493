import json

import pytest

import caloman
from caloman.cli import main
from caloman.errors import CalomanError


def metric(value, error=0.01, floor=0.5, floor_error=0.01, target="low", label="a measure"):
    return {
        "label": label, "value": value, "error": error, "floor": floor, "floor_error": floor_error, "target": target,
        "significance": 0.0, "words": "",
    }  # fmt: skip


def sample(metrics, name="showers.hdf5", showers=1000):
    return {
        "name": name, "file": name, "sha256": "1", "showers": showers, "metrics": metrics, "verdict": "",
        "warnings": [], "classifiers": {}, "histograms": [], "field": {"not_comparable": [], "standings": []},
    }  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """Writes a metrics.json with samples into a folder, and returns the folder."""

    def apply(folder, *samples, **changes):
        document = {
            "schema": 4, "caloman": "0.1.0", "dataset": "1-photons", "preset": "quick", "modes": ["hist", "cls-low"],
            "settings": {"threshold_mev": 1.0, "seeds": [0], "classifier": {}},
            "reference": {"file": "geant4.hdf5", "sha256": "abc", "showers": 1000},
            "floor": {"kind": "independent file", "file": "other.hdf5", "sha256": "2", "showers": [1000, 1000]},
            "samples": list(samples),
        }  # fmt: skip
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "metrics.json").write_text(json.dumps({**document, **changes}))
        return tmp_path / folder

    return apply


@pytest.fixture
def change(write):
    """The change between one metric of two samples."""

    def apply(before, after):
        (differences,) = caloman.compare([write("a", sample({"m": before})), write("b", sample({"m": after}))]).samples
        return differences.changes[0]

    return apply


@pytest.mark.parametrize(
    ("before", "after", "significance", "word"),
    [
        (metric(0.6, 0.03), metric(0.69, 0.04), 1.8, "same within errors"),
        (metric(0.6, 0.03), metric(0.71, 0.04), 2.2, "worse"),
        (metric(0.7, 0.03), metric(0.61, 0.04), -1.8, "same within errors"),
        (metric(0.8, 0.03), metric(0.6, 0.04), -4.0, "better"),
        (metric(0.52, 0.006), metric(0.49, 0.008), -3.0, "both at the floor"),
        (metric(0.8, 0.006), metric(0.49, 0.008), -31.0, "better"),
        (metric(0.8, target="floor"), metric(0.2, target="floor"), 0.0, "same within errors"),
        (metric(0.2, 0.03, target="floor"), metric(0.6, 0.04, target="floor"), -4.0, "better"),
        (metric(0.6, 0.03, target="floor"), metric(0.2, 0.04, target="floor"), 4.0, "worse"),
        (metric(0.51, target="floor"), metric(0.49, target="floor"), 0.0, "both at the floor"),
        (metric(0.6, 0.0), metric(0.6, 0.0), 0.0, "same within errors"),
        (metric(0.6, 0.0), metric(0.7, 0.0), float("inf"), "worse"),
    ],
)
def test_a_difference_is_measured_in_its_standard_error(change, before, after, significance, word):
    found = change(before, after)
    assert found.significance == pytest.approx(significance, abs=1e-9)
    assert found.word == word


def test_what_changed_beyond_errors_comes_first(write):
    before = {key: metric(0.7, label=key) for key in ("same", "worse", "better", "missing")}
    after = {"same": metric(0.71, label="same"), "worse": metric(0.9, label="worse"), "better": metric(0.6)}
    (differences,) = caloman.compare([write("a", sample(before)), write("b", sample(after))]).samples
    assert [one.metric for one in differences.changes] == ["worse", "better", "same"]
    assert differences.summary.endswith("b/metrics.json:showers.hdf5: 1 better, 1 worse, 1 same within errors")
    assert differences.warnings == []


def test_several_samples_are_compared_with_the_first(write):
    one, two, three = (sample({"m": metric(value)}, name) for value, name in ((0.6, "x"), (0.7, "y"), (0.8, "z")))
    a, b = (write(name, *samples) / "metrics.json" for name, samples in (("a", (one, two)), ("b", (three,))))
    result = caloman.compare([a.parent, b])
    assert {differences.baseline for differences in result.samples} == {f"{a}:x"}
    assert [differences.sample for differences in result.samples] == [f"{a}:y", f"{b}:z"]
    (chosen,) = caloman.compare([f"{a.parent}:y", f"{b}:z"]).samples
    assert (chosen.baseline, chosen.sample) == (f"{a}:y", f"{b}:z")


def test_the_command_prints_a_table_and_writes_json(write, tmp_path, capsys):
    a = write("a", sample({"m": metric(0.7, 0.003, label="AUC"), "n": metric(1.0, 0.0, label="other")}))
    b = write("b", sample({"m": metric(0.6, 0.004, label="AUC"), "n": metric(2.0, 0.0, label="other")}))
    assert main(["compare", str(a), str(b), "--json", str(tmp_path / "out.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"baseline {a / 'metrics.json'}:showers.hdf5"
    (row,) = [line for line in lines if line.startswith("AUC")]
    assert row.split() == ["AUC", "0.700", "±", "0.003", "0.600", "±", "0.004", "-20.0", "σ", "better"]  # noqa: RUF001
    (comparison,) = json.loads((tmp_path / "out.json").read_text())["comparisons"]
    other, auc = comparison["changes"]
    assert (auc["metric"], auc["word"], auc["sample"]["value"]) == ("m", "better", 0.6)
    assert auc["significance"] == pytest.approx(-20)
    assert (other["metric"], other["significance"]) == ("n", None)


@pytest.mark.parametrize(
    ("changes", "showers", "warning"),
    [
        ({"reference": {"file": "geant4.hdf5", "sha256": "def", "showers": 1000}}, 1000, "reference"),
        ({"floor": {"kind": "halves", "file": "geant4.hdf5", "sha256": "abc", "showers": [500, 500]}}, 1000, "floor"),
        ({"preset": "official"}, 1000, "preset"),
        ({"modes": ["hist"]}, 1000, "modes"),
        ({"settings": {"threshold_mev": 0.5, "seeds": [0], "classifier": {}}}, 1000, "threshold"),
        ({"schema": 3}, 1000, "format"),
        ({}, 500, "number of showers"),
    ],
)
def test_a_warning_tells_what_was_not_the_same(write, changes, showers, warning):
    metrics = {"m": metric(0.6)}
    result = caloman.compare([write("a", sample(metrics)), write("b", sample(metrics, showers=showers), **changes)])
    (found,) = result.samples[0].warnings
    assert found.startswith(f"Not the {warning} of the baseline: ")
    assert f"! {found}" in str(result)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema": 1}', "has schema 1, not 2 to 4; run `caloman evaluate` of this version again"),
        ('{"schema": "four"}', "not a metrics.json"),
        ('{"schema": 4}', r"caloman is not as metrics.json has it \(Field required\); run `caloman evaluate` again"),
        ("[1, 2]", "not a metrics.json"),
        ("nothing", "not a metrics.json"),
    ],
)
def test_another_file_is_refused(write, tmp_path, text, message):
    good = write("a", sample({"m": metric(0.6)}))
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(CalomanError, match=message) as error:
        caloman.compare([good, tmp_path / "bad.json"])
    assert str(error.value).startswith(f"{tmp_path / 'bad.json'}: ")


def test_requests_that_cannot_be_met(write, tmp_path):
    good = write("a", sample({"m": metric(0.6)}))
    other = write("b", sample({"m": metric(0.6)}), dataset="2")
    for reports, message in [
        ([good], "at least two"),
        ([good, other], "is of dataset 2, but"),
        ([good, f"{good}:nobody"], r"no sample 'nobody' in this file; it has showers\.hdf5"),
        ([good, tmp_path / "missing"], "missing: no such file"),
    ]:
        with pytest.raises(CalomanError, match=message):
            caloman.compare(reports)
