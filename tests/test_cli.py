import subprocess
import sys
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest

import caloman
from caloman.cli import COMMANDS, FUNCTIONS, command_parser, main


def run(*arguments):
    command = [sys.executable, "-m", "caloman", *map(str, arguments)]
    root = Path(caloman.__file__).parent.parent
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def failure(capsys, *arguments, status=1):
    """The one line that a failing command writes."""
    assert main([str(argument) for argument in arguments]) == status
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
def test_every_command_is_a_public_function_whose_arguments_are_all_explained(name, capsys):
    assert FUNCTIONS[name] in caloman.__all__
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert f"usage: caloman {name}" in text
    for action in command_parser(name, getattr(caloman, FUNCTIONS[name]))._actions:
        assert action.help, action.dest


def test_every_public_function_but_two_is_a_command():
    functions = {name for name in caloman.__all__ if isinstance(getattr(caloman, name), FunctionType)}
    assert functions - set(FUNCTIONS.values()) == {"load", "compute_observables"}


def test_unknown_command_lists_the_known_ones_or_the_nearest(capsys):
    message = failure(capsys, "xyz", status=2)
    assert all(name in message for name in ("xyz", *COMMANDS))
    assert "did you mean 'evaluate'?" in failure(capsys, "evalute", status=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "run", "out.hdf5", "--sed", "1"], "unknown argument --sed; did you mean --seed?"),
        (["generate", "run"], "required: OUTPUT"),
        (["generate", "run", "out.hdf5", "--n", "many"], "invalid int value: 'many'"),
        (["generate", "run", "out.hdf5", "--precision", "8"], "choose from"),
        (["fit", "1-photons/caloman"], "required: --output"),
        (["check", "a.hdf5", "b.hdf5"], "unknown argument b.hdf5"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(capsys, arguments, message):
    assert message in failure(capsys, *arguments, status=2)


def test_keys_of_a_pipeline_are_options_of_fit_also_with_unusual_folders(tmp_path, capsys):
    arguments = ["fit", "1-photons/caloman", "--output", tmp_path / "-help", "--stages.latent.trainer.max_epoch=1"]
    assert "'max_epoch" in failure(capsys, *arguments)
    assert "did you mean 'seed'?" in failure(capsys, "fit", "1-photons/caloman", "--output", tmp_path / "x", "--sed=1")
    assert "did you mean '1-photons/caloman'?" in failure(capsys, "fit", "1-photons/calomn", "--output", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_check_summarizes_a_good_file(make_showers, photons, tmp_path, capsys):
    make_showers(50, photons).save(tmp_path / "good.hdf5")
    for arguments in ([], ["--dataset", "1-photons"]):
        assert main(["check", str(tmp_path / "good.hdf5"), *arguments]) == 0
        text = capsys.readouterr().out
        assert f"{tmp_path / 'good.hdf5'}: valid for dataset 1-photons" in text
        assert " 50 " in text


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
