import csv
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, SAMPLE
from safetensors.torch import load_file

from caloman.errors import CalomanError
from caloman.evaluation.binnings import Binning
from caloman.evaluation.histograms import Histogram
from caloman.showers.conditions import ENERGY_ONLY
from caloman.showers.geometry import Geometry
from caloman.training import AutoencoderTask, EnergyTask, LatentTask, ResidualTask, fit
from caloman.training.config import Monitor, load_pipeline
from caloman.training.data import DataConfig, ShowerDataModule
from caloman.training.logs import EpochLog
from caloman.training.monitor import ShowerMonitor, floor, mean_separations


@pytest.fixture
def data(photons):
    return ShowerDataModule(photons, DataConfig([str(SAMPLE)], 0.5, max_showers=200), seed=0)


@pytest.fixture
def model(config, data):
    pipeline, _ = load_pipeline(config)
    model = pipeline.model(Geometry.load("1-photons"), ENERGY_ONLY)
    for task in (EnergyTask, AutoencoderTask, LatentTask, ResidualTask):
        task(model).fit_statistics(data.statistics_batches)
    return model


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_monitoring_logs_and_draws_and_leaves_the_training_as_it_is(config, tmp_path):
    fit(config, tmp_path / "without", stage="autoencoder")
    stage = fit(config, tmp_path / "with", "autoencoder", ["--monitor.every=1"]) / "stages" / "autoencoder"
    measured = rows(stage / "metrics.csv")
    assert [row["epoch"] for row in measured] == ["0", "1"]
    assert all(0 < float(row["separation_voxel_energy"]) < 1 and float(row["seconds"]) > 0 for row in measured)
    assert {path.name for path in (stage / "monitor").iterdir()} == {"epoch_0001.png", "epoch_0002.png"}
    assert (stage / "monitor" / "epoch_0002.png").read_bytes().startswith(b"\x89PNG")
    weights = load_file(stage / "part.safetensors")
    for name, value in load_file(tmp_path / "without" / "stages" / "autoencoder" / "part.safetensors").items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("task_class", [AutoencoderTask, LatentTask, ResidualTask])
def test_the_showers_of_a_shape_task_have_the_true_layer_energies(model, data, task_class):
    batch = data.validation[:50]
    task = task_class(model).eval()
    with torch.no_grad():
        showers = task.showers(batch)
        layers = model.transform(showers, batch[1]).layer_energies
    torch.testing.assert_close(layers, model.transform(*batch).layer_energies, rtol=1e-4, atol=1e-2)
    assert not torch.allclose(showers, batch[0], rtol=0.1)


def test_the_showers_of_the_energy_task_have_the_true_shapes_and_the_generated_energies(model, data):
    batch = data.validation[:50]
    task = EnergyTask(model).eval()
    with torch.no_grad():
        torch.manual_seed(3)
        showers = task.showers(batch)
        torch.manual_seed(3)
        true = model.transform(*batch)  # which draws scales of the layers
        expected = model.energy(torch.randn(50, 5), batch[1])
        made = model.transform(showers, batch[1])
    torch.testing.assert_close(made.layer_energies, expected, rtol=1e-4, atol=1e-3)
    # where much energy is shared out no voxel falls below the threshold
    layers = model.transform.layers
    large = layers.broadcast((true.layer_energies > 3e3) & (expected > 3e3))
    assert large.any()
    made_shares, true_shares = (layers.scaled(part.shapes, torch.ones(50, 5)) for part in (made, true))
    torch.testing.assert_close(made_shares[large], true_shares[large], rtol=1e-3, atol=1e-5)


def test_true_showers_have_no_separation_and_come_from_the_validation_showers(model, data, tmp_path):
    class TrueTask(EnergyTask):
        observables = ()

        def showers(self, batch):
            seen.append(batch[0])
            return batch[0]

    seen = []
    monitor = ShowerMonitor(tmp_path, Monitor(showers=60), data.validation)
    separations = mean_separations(monitor.histograms(TrueTask(model)))
    assert separations.pop("separation_floor") > 0
    assert set(separations.values()) == {0.0}
    assert len(torch.cat(seen)) == 60
    known = {row.tobytes() for row in data.validation[:][0].numpy()}
    assert all(row.tobytes() in known for row in torch.cat(seen).numpy())


def test_a_monitor_that_never_compares_is_refused(config, tmp_path):
    with pytest.raises(CalomanError, match=r"monitor.every and monitor.showers start at 1"):
        fit(config, tmp_path / "run", "energy", ["--monitor.every=0"])


def test_the_floor_is_what_samples_of_one_distribution_have_on_average(rng):
    weights = rng.dirichlet(np.full(30, 5.0))
    binning = Binning("response", np.linspace(0, 1, 31))
    toys = [
        Histogram(binning, rng.multinomial(2000, weights) * 1.0, rng.multinomial(1000, weights) * 1.0, (0, 0))
        for _ in range(500)
    ]
    assert np.mean([toy.separation for toy in toys]) == pytest.approx(np.mean([floor(toy) for toy in toys]), rel=0.06)


def test_the_log_goes_on_in_one_file_and_replaces_an_epoch_that_is_trained_again(tmp_path):
    path = tmp_path / "metrics.csv"
    first = EpochLog(path)
    for epoch in range(3):
        first.log_metrics({"epoch": epoch, "validation_loss": 1.0}, step=epoch)
        first.log_metrics({"epoch": epoch, "train_loss": 2.0}, step=epoch)
    again = EpochLog(path)
    for epoch in (2, 3):
        again.log_metrics({"epoch": epoch, "validation_loss": 5.0, "separation": 0.1}, step=epoch)
    table = rows(path)
    assert [row["epoch"] for row in table] == ["0", "1", "2", "3"]
    assert [row["validation_loss"] for row in table] == ["1", "1", "5", "5"]
    assert [row["separation"] for row in table] == ["", "", "0.1", "0.1"]
    assert table[1]["train_loss"] == "2"


WANDB = """
import sys
from pathlib import Path
from caloman.training import fit
from caloman.training.config import Wandb
from caloman.training.logs import stage_loggers
config, run = sys.argv[1:]
fit(config, run, "energy", ["--wandb.mode=offline", "--wandb.tags=[test]", "--monitor.every=2"])
for logger in stage_loggers(Path(run) / "stages" / "energy", Wandb()):  # as after an interruption
    logger.log_metrics({"epoch": 2, "validation_loss": 1.0}, step=20)
    logger.finalize("success")
"""


def test_wandb_logs_offline_and_a_stage_that_goes_on_keeps_its_id(config, tmp_path):
    command = [sys.executable, "-c", WANDB, str(config), str(tmp_path / "run")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    stage = tmp_path / "run" / "stages" / "energy"
    identity = (stage / "wandb-id").read_text()
    sessions = list((stage / "wandb").glob("offline-run-*"))
    assert len(sessions) == 2
    assert all(session.name.endswith(identity) and list(session.glob("*.wandb")) for session in sessions)
    assert any(session.glob("files/media/images/monitor_*.png") for session in sessions)
