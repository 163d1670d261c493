"""The report of a GPU in the small form that a CPU takes."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    output = tmp_path_factory.mktemp("report")
    command = [sys.executable, ROOT / "scripts" / "gpu_report.py", "--output", output, "--device", "cpu"]
    subprocess.run([*command, "--pipelines", "1-photons/caloman"], check=True, capture_output=True, timeout=600)
    return json.loads((output / "report.json").read_text())


def test_every_part_has_rows_and_none_failed(report):
    assert set(report) == {"machine", "fit", "run", "parity", "ranks", "generate", "seconds"}
    assert not [row for rows in report.values() for row in rows if {"failed", "left out"} & set(row)]
    stages = {row["stage"] for row in report["fit"]}
    assert stages == {"energy", "autoencoder", "latent", "residual"}


def test_two_processes_have_the_gradients_of_one(report):
    assert report["ranks"][0]["gradient_difference"] < 1e-4


def test_bfloat16_trains_as_float32_does(report):
    wide, narrow = (row["losses"] for row in report["run"])
    assert narrow == pytest.approx(wide, rel=0.02, abs=0.3)
