import csv
import os
import shlex
import shutil
import socket
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from caloman.errors import CalomanError
from caloman.flows.elementwise import Spline
from caloman.showers.conditions import ENERGY_ONLY, Conditions
from caloman.showers.geometry import Geometry
from caloman.training import DistillationTask, EnergyTask, fit
from caloman.training.config import load_pipeline
from caloman.training.data import DataConfig, ShowerDataModule, ShowerDataset
from caloman.training.stage import compile_networks, largest_batch

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path for folder in ("1-*", "[23]") for path in (ROOT / "configs").glob(f"{folder}/**/*.yaml"))
TRAINERS = sorted((ROOT / "configs" / "trainer").glob("*.yaml"))
PHOTONS = ROOT / "configs" / "1-photons" / "caloman.yaml"
COMMANDS = ("scripts/slurm/fit.sh", "scripts/htcondor/fit.sub")


TWO_DEVICES = ["--hardware.accelerator=cpu", "--hardware.devices=2"]


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
        if self.moves is not None and not isinstance(positions, slice):  # a batch to train on
            rows.append(self.rows[positions])
        return take(self, positions)

    ShowerDataset.__getitem__ = taken
    fit(*arguments, **options)
    np.save(record, np.concatenate(rows))


def in_two_processes(action):
    """Calls ``action(rank, port)`` in two processes and waits for both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                action(rank, port)
            finally:
                os._exit(0)
    for child in children:
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.usefixtures("one_thread")
def test_a_loss_that_diverges_on_one_device_stops_all_with_one_message(config, tmp_path, monkeypatch):
    full = EnergyTask.losses

    def diverges(self, x, context):
        result = full(self, x, context)
        if self._trainer and self.trainer.training and (self.trainer.global_rank, self.trainer.global_step) == (1, 3):
            result["loss"] = result["loss"] * torch.nan
        return result

    def train(rank, port):
        try:
            train_as_rank(
                rank, port, tmp_path / "rows", config, tmp_path / "run", stage="energy", overrides=TWO_DEVICES
            )
        except CalomanError as error:
            (tmp_path / f"error-{rank}").write_text(str(error))

    monkeypatch.setattr(EnergyTask, "losses", diverges)
    in_two_processes(train)
    messages = [(tmp_path / f"error-{rank}").read_text() for rank in range(2)]
    assert messages[0] == messages[1]
    assert "the loss is nan in epoch 1, step 4, for batch " in messages[0]
    assert (tmp_path / "run" / "stages" / "energy" / "diverged.pt").is_file()


@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.usefixtures("one_thread")
def test_two_processes_reach_the_same_loss_and_see_every_shower_once(config, tmp_path):
    options = {"stage": "energy", "overrides": ["--stages.energy.trainer.max_epochs=4"]}
    alone = fit(config, tmp_path / "alone", **options)
    options["overrides"] += TWO_DEVICES
    in_two_processes(
        lambda rank, port: train_as_rank(rank, port, tmp_path / f"rows-{rank}.npy", config, tmp_path / "two", **options)
    )

    one, two = losses(alone), losses(tmp_path / "two")
    assert len(one) == len(two) == 4
    assert np.abs(np.subtract(one, two)).max() < 0.05  # other noise in empty layers; four epochs gain 0.25 or more
    statistics = [load_file(run / "stages/energy/part.safetensors") for run in (alone, tmp_path / "two")]
    for name in ("energy.density.scaling.mean", "energy.density.scaling.std"):
        torch.testing.assert_close(*(values[name] for values in statistics))
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


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_config_builds_stages_of_which_all_that_is_trained_is_compiled(path, make_showers, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: compiled.append(call.__self__) or call)
    pipeline, _ = load_pipeline(path)
    geometry = Geometry.load(pipeline.geometry)
    showers = make_showers(8, geometry)
    batch = torch.from_numpy(showers.voxels), torch.from_numpy(showers.incident_energies)[:, None]
    model = pipeline.model(geometry, ENERGY_ONLY)
    names = list(model.state_dict())
    model.conditions = Conditions.energies(100.0, 1e8)
    model.prepare([batch[0]])
    for stage in pipeline.stages.values():
        task = stage.task(model)
        if isinstance(task, DistillationTask):
            teacher, _ = load_pipeline(path.with_stem(path.stem.replace("_student", "")))
            vars(task)["teacher"] = teacher.model(geometry, ENERGY_ONLY).shape.density
            task.teacher.fit(lambda task=task: [task.inputs(batch)])
        task.fit_statistics(lambda: [batch])
        state = torch.get_rng_state()
        networks = compile_networks(task, batch)
        assert networks == compiled
        covered = {parameter for network in networks for parameter in network.parameters()}
        assert covered >= set(task.module.parameters())
        assert torch.equal(torch.get_rng_state(), state)
        compiled.clear()
    assert list(model.state_dict()) == names


@pytest.mark.filterwarnings("ignore")  # of the compiler itself
def test_compiled_networks_have_the_losses_and_gradients_of_plain_ones(config, monkeypatch, randomize):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))  # without minutes of C++
    pipeline, _ = load_pipeline(config, ["--model.energy.flow.transforms=1"])
    geometry = Geometry.load("1-photons")
    task = EnergyTask(pipeline.model(geometry, ENERGY_ONLY))
    data = ShowerDataModule(geometry, DataConfig(pipeline.data.train, max_showers=200), 0)
    task.fit_statistics(data.statistics_batches)
    randomize(task.module, std=0.1)

    def step(batch):
        task.zero_grad()
        torch.manual_seed(2)
        loss = task.losses_of(batch)["loss"]
        loss.backward()
        return loss.detach(), [parameter.grad.clone() for parameter in task.module.parameters()]

    batches = [data.train[:64], data.train[64:127]]  # sizes within an epoch differ by one
    plain = [step(batch) for batch in batches]
    assert compile_networks(task, data.train[:2])
    frames = torch._dynamo.utils.counters["frames"]
    frames.clear()
    for batch, (loss, gradients) in zip(batches, plain, strict=True):
        compiled = step(batch)
        torch.testing.assert_close(compiled[0], loss, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(compiled[1], gradients, rtol=1e-3, atol=1e-3)
    assert frames["ok"] > 0


def test_the_batch_size_leaves_half_of_what_fits(config, monkeypatch):
    pipeline, _ = load_pipeline(config)
    geometry = Geometry.load("1-photons")
    task = EnergyTask(pipeline.model(geometry, ENERGY_ONLY))
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
