import csv
import os
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from caloman.flows.elementwise import Spline
from caloman.showers.geometry import Geometry
from caloman.training import EnergyTask, fit
from caloman.training.config import load_pipeline
from caloman.training.data import DataConfig, ShowerDataModule, ShowerDataset
from caloman.training.stage import compile_networks, largest_batch

ROOT = Path(__file__).parents[1]
TRAINERS = sorted((ROOT / "configs" / "trainer").glob("*.yaml"))
PHOTONS = ROOT / "configs" / "1-photons" / "caloman.yaml"
COMMANDS = ("scripts/slurm/fit.sh", "scripts/htcondor/fit.sub")


def losses(run):
    """Validation losses of the energy stage, by epoch."""
    with (run / "stages" / "energy" / "metrics.csv").open() as file:
        return [float(row["validation_loss"]) for row in csv.DictReader(file)]


def train_as_rank(rank, port, record, *arguments, **options):
    """Trains as torchrun would start it, and writes the incident energies and rows in the order of reading."""
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {name: str(value) for name, value in (environment | address).items()}
    rows, take = [], ShowerDataset.__getitem__

    def taken(self, positions):
        if self.symmetries is not None and not isinstance(positions, slice):  # a batch to train on
            rows.append(self.rows[positions])
        return take(self, positions)

    ShowerDataset.__getitem__ = taken
    fit(*arguments, **options)
    np.save(record, np.concatenate(rows))


@pytest.mark.filterwarnings("ignore:.*fork")
def test_two_processes_reach_the_same_loss_and_see_every_shower_once(config, tmp_path):
    options = {"stage": "energy", "overrides": ["--stages.energy.trainer.max_epochs=4"]}
    alone = fit(config, tmp_path / "alone", **options)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options["overrides"] += ["--hardware.accelerator=cpu", "--hardware.devices=2"]
    children = []
    for rank in range(2):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                train_as_rank(rank, port, tmp_path / f"rows-{rank}.npy", config, tmp_path / "two", **options)
            finally:
                os._exit(0)
    for child in children:
        os.waitpid(child, 0)

    one, two = losses(alone), losses(tmp_path / "two")
    assert len(one) == len(two) == 4
    assert np.abs(np.subtract(one, two)).max() < 0.15  # 60 showers, and other noise in empty layers
    statistics = [load_file(run / "stages/energy/part.safetensors") for run in (alone, tmp_path / "two")]
    for name in ("energy.density.scaling.mean", "energy.density.scaling.std"):
        assert torch.allclose(*(values[name] for values in statistics), rtol=0.2, atol=0.1)
    first, second = (np.load(tmp_path / f"rows-{rank}.npy").reshape(4, -1) for rank in range(2))
    for epoch in np.concatenate([first, second], axis=1):
        assert len(np.unique(epoch)) == len(epoch) == 540


def test_bfloat16_trains_with_splines_and_likelihoods_in_float32(config, tmp_path, monkeypatch):
    dtypes, call = set(), Spline.__call__

    def spline(self, inputs, parameters, inverse=False):
        outputs, log_slopes = call(self, inputs, parameters, inverse)
        if torch.is_grad_enabled():
            dtypes.add((parameters.dtype, outputs.dtype, log_slopes.dtype))
        return outputs, log_slopes

    monkeypatch.setattr(Spline, "__call__", spline)
    run = fit(config, tmp_path / "run", stage="energy", overrides=["--hardware.precision=bf16-mixed"])
    assert dtypes == {(torch.bfloat16, torch.float32, torch.float32)}
    result = load_file(run / "stages" / "energy" / "part.safetensors")
    assert {value.dtype for value in result.values()} == {torch.float32, torch.int64}
    assert losses(run)[-1] < losses(run)[0]


def test_compiled_networks_keep_their_names_and_values(config, monkeypatch):
    pipeline, _ = load_pipeline(config)
    model = pipeline.model(Geometry.load("1-photons"))
    names = list(model.state_dict())
    noise, energies = torch.randn(5, model.noise_dim), torch.full((5, 1), 1e3)
    expected = model(noise, energies)
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: compiled.append(call.__self__) or call)
    for part in ("energy", "shape.autoencoder", "shape.density"):
        compile_networks(model.get_submodule(part))
    assert {type(module).__name__ for module in compiled} == {"Coupling", "Permutation", "LULinear", "ParallelMLP"}
    assert list(model.state_dict()) == names
    assert torch.equal(model(noise, energies), expected)


def test_the_batch_size_leaves_half_of_what_fits(config, monkeypatch):
    pipeline, _ = load_pipeline(config)
    geometry = Geometry.load("1-photons")
    task = EnergyTask(pipeline.model(geometry))
    data = ShowerDataModule(geometry, DataConfig(pipeline.data.train, max_showers=600), 0)
    task.fit_statistics(data.statistics_batches)
    full = EnergyTask.losses

    def fill(self, x, context):
        if len(x) > 200:
            raise torch.OutOfMemoryError
        return full(self, x, context)

    monkeypatch.setattr(EnergyTask, "losses", fill)
    assert largest_batch(task, data) == 64
    assert all(parameter.grad is None for parameter in task.parameters())


@pytest.mark.parametrize("path", TRAINERS, ids=lambda path: path.stem)
def test_a_trainer_file_replaces_the_hardware_and_nothing_else(path):
    plain, _ = load_pipeline(PHOTONS)
    pipeline, _ = load_pipeline(PHOTONS, ["--trainer", str(path), "--hardware.num_nodes=2"])
    wanted = yaml.safe_load(path.read_text())["hardware"]
    assert wanted.items() <= vars(pipeline.hardware).items()
    assert pipeline.hardware.num_nodes == 2
    assert (pipeline.data, pipeline.seed) == (plain.data, plain.seed)


@pytest.mark.parametrize("path", COMMANDS)
def test_job_files_call_caloman_with_options_that_it_has(path):
    text = (ROOT / path).read_text().replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if "caloman fit " in line and not line.startswith("#")]
    words = shlex.split(line.split("caloman fit ")[1].rstrip("& "))
    variables = {"$config": str(PHOTONS), "$(config)": str(PHOTONS), "$@": ""}
    words = [variables.get(word, word) for word in words if variables.get(word, word)]
    overrides = [word.replace("${SLURM_NTASKS_PER_NODE:-1}", "4").replace("${SLURM_NNODES:-1}", "2") for word in words]
    assert overrides[0] == str(PHOTONS)
    assert overrides[1] == "--output"
    pipeline, _ = load_pipeline(PHOTONS, overrides[3:])
    assert pipeline.hardware.accelerator == "gpu"


def test_the_slurm_script_is_valid_and_requeues_after_the_fit_has_ended(tmp_path):
    script = ROOT / "scripts" / "slurm" / "fit.sh"
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", script], check=True)
    for name, body in (
        ("srun", 'trap "echo fit ended >> log; exit 143" TERM; echo "$@" > log; kill -USR1 $PPID; sleep 60 & wait'),
        ("scontrol", 'echo "$@" >> log'),
    ):
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    subprocess.run([script, "a.yaml", "runs/a", "--seed=3"], cwd=tmp_path, env=environment, check=True, timeout=30)
    started, ended, requeued = (tmp_path / "log").read_text().splitlines()
    assert "caloman fit a.yaml --output runs/a --trainer configs/trainer/ddp.yaml" in started
    assert started.endswith("--seed=3")
    assert (ended, requeued) == ("fit ended", "requeue 7")
