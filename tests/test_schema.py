import json
import re
from pathlib import Path

import pytest

import caloman
import caloman.evaluation
from caloman.errors import CalomanError
from caloman.evaluation.schema import OLDEST, SCHEMA
from caloman.evaluation.validation import json_schema, read_metrics

FROZEN = Path(__file__).parent / "data"
SHIPPED = Path(caloman.evaluation.__file__).parent / "metrics.schema.json"


def test_the_package_ships_the_schema():
    """Written by: json.dumps(json_schema(), indent=1)."""
    assert json.loads(SHIPPED.read_text()) == json_schema()
    assert f"version {SCHEMA}" in json_schema()["title"]


@pytest.mark.parametrize("version", range(OLDEST, SCHEMA))
def test_files_of_the_versions_before_are_read(version):
    document = read_metrics(FROZEN / f"metrics-{version}.json")
    assert document["schema"] == version
    assert document["samples"][0]["metrics"]["auc_low"]["floor"] == pytest.approx(0.5, abs=0.03)


def test_files_of_the_versions_before_compare():
    (differences,) = caloman.compare([FROZEN / "metrics-2.json", FROZEN / "metrics-3.json"]).samples
    assert {change.metric: change.word for change in differences.changes}["auc_low"] == "worse"
    assert any(warning.startswith("Not the format of the baseline: schema 3") for warning in differences.warnings)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda d: d["samples"][0]["metrics"]["fpd"].pop("floor"),
            r"samples\.0\.metrics\.fpd\.floor is not .*required",
        ),
        (lambda d: d["samples"][0]["metrics"]["fpd"].update(error=-1), r"samples\.0\.metrics\.fpd\.error is not"),
        (lambda d: d["samples"][0]["metrics"]["fpd"].update(value="1.0"), r"metrics\.fpd\.value is not .*valid number"),
        (lambda d: d["samples"][0].update(metrics=[]), r"samples\.0\.metrics is not"),
        (lambda d: d.update(samples=[]), "samples is not"),
        (lambda d: d["floor"].update(showers=[1]), r"floor\.showers is not"),
    ],
)
def test_a_wrong_field_is_named_in_one_sentence(spoil, message, tmp_path):
    document = json.loads((FROZEN / "metrics-3.json").read_text())
    spoil(document)
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(document))
    with pytest.raises(CalomanError, match=message) as error:
        read_metrics(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e400", "9" * 5000, "[" * 50_000])
def test_numbers_that_are_none_and_nesting_without_end_are_refused(number, tmp_path):
    text = (FROZEN / "metrics-3.json").read_text()
    path = tmp_path / "metrics.json"
    path.write_text(re.sub(r'"value": [0-9.]+', f'"value": {number}', text, count=1))
    with pytest.raises(CalomanError, match=r"metrics\.json: not a metrics\.json of"):
        read_metrics(path)
