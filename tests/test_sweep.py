import runpy
import sys

import pytest
from conftest import ROOT

from caloman.run_folders import METRICS, read_metrics

optuna = pytest.importorskip("optuna")


def test_a_sweep_goes_on_where_it_stopped_and_tells_the_best(config, tmp_path, monkeypatch, capsys):
    text = config.read_text()
    config.write_text(text[: text.index("  autoencoder:\n    task")])
    folder = tmp_path / "sweep"
    arguments = [str(config), "--output", str(folder), "--stage", "energy", "--search"]
    arguments += ["stages.energy.task.learning_rate=1e-4:1e-2:log", "model.energy.flow.transforms=1:2"]
    for trials in ("1", "2"):
        monkeypatch.setattr(sys, "argv", ["sweep.py", *arguments, "--trials", trials])
        runpy.run_path(str(ROOT / "scripts" / "sweep.py"), run_name="__main__")
    losses = [
        min(row["validation_loss"] for row in read_metrics(folder / f"{i:04d}" / "stages" / "energy" / METRICS))
        for i in range(2)
    ]
    assert f"best of 2: trial {losses.index(min(losses)):04d}, {min(losses):.5g}" in capsys.readouterr().out
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder / 'study.db'}")
    assert [trial.value for trial in study.trials] == pytest.approx(losses)
    assert study.trials[0].params != study.trials[1].params
