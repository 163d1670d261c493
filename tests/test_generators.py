"""Generators by name: those of the package, frozen ones of older formats, and folders that take precedence."""

import importlib.util
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import caloman
from caloman import bundle
from caloman.cli import FUNCTIONS, command_parser, main
from caloman.errors import CalomanError
from caloman.evaluation.presets import QUICK
from caloman.generators import names
from caloman.generators.listing import condition_text
from caloman.generators.names import locate, shipped_generators
from caloman.showers.conditions import Condition, Conditions
from caloman.specification import to_yaml

ROOT = Path(__file__).parents[1]
FROZEN = sorted((ROOT / "tests" / "bundles").glob("format-*"))


@pytest.fixture
def ship():
    spec = importlib.util.spec_from_file_location("ship", ROOT / "scripts" / "ship.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def shipped(run, tmp_path, monkeypatch):
    """A package whose only generator is called tiny; the working folder is empty."""
    monkeypatch.setattr(names, "FOLDER", tmp_path / "package")
    shutil.copytree(run / "bundle", tmp_path / "package" / "tiny")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "package" / "tiny"


@pytest.mark.parametrize("folder", FROZEN, ids=lambda folder: folder.name)
def test_frozen_bundles_of_every_format_give_the_showers_that_they_gave(folder):
    frozen = np.load(folder / "showers.npz")
    voxels = caloman.load(folder).sample(frozen["incident_energies"], seed=1).voxels
    same = np.isclose(voxels, frozen["voxels"], rtol=1e-3, atol=1e-3)  # MeV
    assert same.mean() > 0.995  # a rounding may empty a voxel


@pytest.mark.parametrize(("number", "cure"), [(1, "use caloman 0.1.0"), (99, "upgrade to caloman 7.0")])
def test_other_formats_are_refused_with_the_version_that_reads_them(run, number, cure):
    path = run / "bundle" / "config.yaml"
    version = cure.split()[-1]
    path.write_text(to_yaml({**bundle.read_config(run), "format": number, "caloman": version}))
    with pytest.raises(CalomanError, match=rf"a bundle of format {number}, .*{cure}$"):
        caloman.load(run)


def test_there_is_a_frozen_bundle_of_every_format():
    formats = range(bundle.OLDEST, bundle.FORMAT + 1)
    assert [folder.name for folder in FROZEN] == [f"format-{number}" for number in formats]


def test_a_generator_of_the_package_is_loaded_and_generates_by_its_name(shipped, tmp_path):
    energies = [2e3, 5e4]
    expected = bundle.load(shipped).sample(energies, seed=3).voxels
    np.testing.assert_array_equal(caloman.load("tiny").sample(energies, seed=3).voxels, expected)
    assert main(["generate", "tiny", "out.hdf5", "--energies", "2GeV,50GeV", "--seed", "3"]) == 0
    with caloman.ShowerFile("out.hdf5", bundle.load(shipped).geometry) as file:
        assert len(file) == 2


def test_a_folder_wins_over_a_generator_of_the_package_and_this_is_said(shipped, run, caplog):
    model = bundle.load(run)
    model.conditions = Conditions.energies(2.0, 3.0)
    bundle.save(model, bundle.read_config(run)["model"], {"files": [], "showers": 0}, Path("tiny"))
    assert caloman.load("tiny").conditions == Conditions.energies(2.0, 3.0)
    assert "tiny: the folder of this name is used" in caplog.text
    caplog.clear()
    assert locate(Path("tiny").absolute()) == Path("tiny").absolute()
    assert not caplog.text


@pytest.mark.parametrize("name", ["tinny", "TINY"])
def test_an_unknown_name_lists_the_known_ones(shipped, name):
    with pytest.raises(CalomanError, match=f"^{name}: no such folder or generator; those of the package are tiny$"):
        caloman.load(name)


def test_a_missing_path_is_no_name(shipped):
    with pytest.raises(CalomanError, match="no finished model here"):
        caloman.load("runs/tiny")


@pytest.mark.parametrize("name", shipped_generators())
def test_generators_of_the_package_are_small_and_have_a_card_with_floors(name):
    facts = {entry.name: entry for entry in caloman.list_models()}[name]
    assert facts.megabytes < 10
    assert 0.4 < facts.metrics["auc_low"]["floor"] < 0.6
    text = str(caloman.list_models())
    assert name in text
    assert facts.detector in text
    card = (names.FOLDER / name / "README.md").read_text()
    for fact in ("**not** ATLAS", facts.detector, f"{facts.metrics['auc_low']['value']:.3f}", "SHA-256"):
        assert fact in card
    model = caloman.load(name)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    conditions = model.conditions.at(np.full((20, len(model.conditions)), 0.5)).astype(np.float32)
    response = model.sample_chunk(conditions, 1, 0).voxels.sum(axis=1) / conditions[:, 0]
    assert np.isfinite(response).all()
    assert 0.01 < response.mean() < 2


def test_generators_of_the_package_are_25_mb_at_most():
    assert sum(entry.megabytes for entry in caloman.list_models()) < 25


@pytest.fixture
def small_judge(monkeypatch):
    """A judge without figures, whose classifiers are tiny, and short timings."""
    tiny = replace(QUICK, repeats=1, hidden=(8,), epochs=1, min_updates=0)
    for module in ("presets", "command"):
        monkeypatch.setattr(f"caloman.evaluation.{module}.QUICK", tiny)
    monkeypatch.setattr("caloman.evaluation.plots.pictures", lambda *_: ())
    monkeypatch.setattr("caloman.benchmarking.timing.SECONDS", 0.01)


def test_what_is_shipped_has_float16_matrices_its_numbers_and_a_card(
    ship, tmp_path, monkeypatch, make_showers, run, small, small_judge
):
    showers = make_showers(200, small)
    keep = np.abs(np.log(showers.incident_energies / 1e4)) < 2
    for name, rows in (("test", slice(None, 60)), ("train", slice(60, 120))):
        showers[np.flatnonzero(keep)[rows]].save(tmp_path / f"{name}.hdf5")
    arguments = ["ship.py", str(run), "tiny", "--reference", str(tmp_path / "test.hdf5"), "--floor"]
    arguments += [str(tmp_path / "train.hdf5"), "--detector", "a toy", "--output", str(tmp_path / "box")]
    monkeypatch.setattr("sys.argv", arguments)
    ship.main()
    folder = tmp_path / "box" / "tiny"
    trained = bundle.load(run)
    parameters, state = dict(trained.named_parameters()), trained.state_dict()
    for name, tensor in load_file(folder / "model.safetensors").items():
        half = name in parameters and tensor.ndim > 1
        assert (tensor.dtype == torch.float16) == half, name
        torch.testing.assert_close(tensor.float(), state[name].float(), rtol=1e-3, atol=1e-6)
    facts = json.loads((folder / "evaluation.json").read_text())
    assert facts["rounding"] < 0.05
    assert "a toy" in (folder / "README.md").read_text()


def test_weights_that_float16_cannot_hold_are_refused(ship, run):
    model = bundle.load(run)
    name = next(name for name, weight in model.named_parameters() if weight.ndim > 1)
    state = {**model.state_dict(), name: torch.full_like(model.state_dict()[name], 1e5)}
    with pytest.raises(CalomanError, match=f"{name}: has weights beyond 65504"):
        ship.cast(state, model)


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        *((0.5, 256, "500 keV to 256 MeV"), (1e3, 131072, "1 GeV to 131 GeV"), (256, 4.2e6, "256 MeV to 4.2 TeV")),
        (1000.15, 99905.2, "1.01 GeV to 99.9 GeV"),
    ],
)
def test_a_range_of_energies_can_be_asked_for_as_it_is_told(low, high, text):
    assert condition_text(Condition("incident_energy", "MeV", range=(low, high))) == text


STUB = """#!/usr/bin/env bash
set -e
echo "$@" >> commands
if [ "$1" = generate ]; then touch "$3"; fi  # as the command itself, which makes no folder
"""


def test_the_demo_runs_commands_that_there_are_in_folders_that_there_are(tmp_path):
    for path, content in ((".venv/bin/caloman", STUB), ("scripts/setup", "#!/bin/sh\n")):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(content)
        (tmp_path / path).chmod(0o755)
    shutil.copy(ROOT / "scripts" / "demo", tmp_path / "scripts")
    subprocess.run([tmp_path / "scripts" / "demo"], check=True, capture_output=True)
    for line in (tmp_path / "commands").read_text().splitlines():
        name, *options = line.split()
        _, keys = command_parser(name, getattr(caloman, FUNCTIONS[name])).parse_known_args(options)
        assert all(key.startswith("--stages.") and name == "fit" for key in keys)
