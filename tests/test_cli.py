import subprocess
import sys
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest

import caloman
from caloman.cli import COMMANDS, main


def run(*arguments):
    command = [sys.executable, "-m", "caloman.cli", *map(str, arguments)]
    root = Path(caloman.__file__).parent.parent
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def failure(capsys, *arguments):
    """The one line that a failing command writes."""
    assert main([str(argument) for argument in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_lists_every_command(arguments, capsys):
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"caloman {caloman.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_explains_itself(name, capsys):
    module, function = COMMANDS[name][0].split(":")
    assert callable(getattr(import_module(module), function))
    try:
        status = main([name, "--help"])
    except SystemExit as end:
        status = end.code
    assert status == 0
    assert f"usage: caloman {name}" in capsys.readouterr().out


def test_unknown_command_lists_the_known_ones(capsys):
    message = failure(capsys, "train")
    assert all(name in message for name in ("train", *COMMANDS))


def test_check_summarizes_a_good_file(make_showers, photons, tmp_path, capsys):
    make_showers(50, photons).save(tmp_path / "good.hdf5")
    for arguments in ([], ["--dataset", "1-photons"]):
        assert main(["check", str(tmp_path / "good.hdf5"), *arguments]) == 0
        text = capsys.readouterr().out
        assert f"{tmp_path / 'good.hdf5'}: valid for dataset 1-photons" in text
        assert " 50 " in text


def test_check_refuses_the_wrong_dataset(make_showers, photons, tmp_path, capsys):
    make_showers(5, photons).save(tmp_path / "photons.hdf5")
    message = failure(capsys, "check", tmp_path / "photons.hdf5", "--dataset", "2")
    assert "photons.hdf5" in message
    assert "'showers'" in message
    assert "'4'" in failure(capsys, "check", tmp_path / "photons.hdf5", "--dataset", "4")


def test_check_names_file_and_field_of_a_bad_value(make_showers, photons, tmp_path, capsys):
    path = tmp_path / "nan.hdf5"
    make_showers(5, photons).save(path)
    with h5py.File(path, "r+") as file:
        file["showers"][3, 17] = np.nan
    message = failure(capsys, "check", path)
    assert message.startswith(f"caloman check: error: {path}: 'showers'")
    assert "shower 3" in message


def test_check_of_a_file_without_deposits_is_valid(photons, write_hdf5, capsys):
    path = write_hdf5({"incident_energies": np.ones((3, 1)), "showers": np.zeros((3, 368))})
    assert main(["check", str(path), "--dataset", "1-photons"]) == 0
    assert "100.0 %" in capsys.readouterr().out


def test_generate_without_a_finished_run_leaves_no_file(tmp_path, capsys):
    message = failure(capsys, "generate", tmp_path, tmp_path / "out.hdf5", "--energies", "1GeV")
    assert str(tmp_path) in message
    assert list(tmp_path.iterdir()) == []


def test_failing_process_has_status_1_one_sentence_and_no_traceback(tmp_path):
    result = run("check", tmp_path / "missing.hdf5", "--dataset", "2")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"caloman check: error: {tmp_path / 'missing.hdf5'}: no such file")
    assert result.stderr.count("\n") == 1


def test_unknown_option_is_a_usage_error(tmp_path):
    result = run("check", tmp_path / "file.hdf5", "--color", "blue")
    assert result.returncode == 2
    assert "--color" in result.stderr
    assert "Traceback" not in result.stderr
