import json
import runpy
from argparse import Namespace

import pytest
from conftest import ROOT

from caloman import bundle
from caloman.errors import CalomanError

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "reproduce_photons.py"))


def test_all_rows_have_a_pipeline():
    assert all(path.is_file() for path in SCRIPT["ROWS"].values())


def test_a_row_is_judged_anew_only_if_something_changed(run, tmp_path):
    inputs = [bundle.fingerprint(run), "train.hdf5", "test.hdf5", 1]
    (tmp_path / "row.json").write_text(json.dumps({"inputs": inputs}))
    SCRIPT["judge"]("tiny", tmp_path, Namespace(train="train.hdf5", test="test.hdf5", repeats=1))
    with pytest.raises(CalomanError, match=r"other\.hdf5"):  # which is read, and does not exist
        SCRIPT["judge"]("tiny", tmp_path, Namespace(train="train.hdf5", test="other.hdf5", repeats=1))


def test_the_table_has_the_floor_and_the_rows_that_are_judged(tmp_path):
    measured = {"value": 0.6, "error": 0.01, "floor": 0.5, "floor_error": 0.02}
    sample = {
        "metrics": dict.fromkeys(SCRIPT["MEASURES"].values(), measured),
        "closure_tests": {"reconstruction": {"low": [0.58, 0.01], "high": [0.57, 0.01]}},
    }
    for name, content in (("manifold", sample), ("rival", {"metrics": sample["metrics"]})):
        report = tmp_path / name / "report"
        report.mkdir(parents=True)
        (report / "metrics.json").write_text(json.dumps({"samples": [content]}))
        (tmp_path / name / "row.json").write_text(json.dumps({"parameters": 1234567, "milliseconds": 0.25}))
    lines = SCRIPT["table"](["manifold", "later", "rival"], tmp_path).splitlines()
    header, floor, manifold, rival = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in (lines[0], *lines[2:])
    )
    numbers = dict(zip(header, manifold, strict=True))
    assert numbers["parameters"] == "1,234,567"
    assert (numbers["AUC reco low"], numbers["AUC low"]) == ("0.580 ± 0.010", "0.600 ± 0.010")
    assert dict(zip(header, floor, strict=True))["AUC high"] == "0.500 ± 0.020"
    assert dict(zip(header, rival, strict=True))["AUC reco low"] == "-"
