import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from caloman.errors import CalomanError
from caloman.training import fit, replay
from caloman.training.checkpoints import EpochCheckpoints
from caloman.training.folders import occupied
from caloman.training.tasks import EnergyTask, Task

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[1]
STEPS = 5  # per epoch of the tiny pipeline
DAMAGES = {
    "truncated": lambda content: content[:2000],
    "altered": lambda content: content.replace(content[len(content) // 2 :][:300], bytes(300)),
}


def parts(run):
    """Content of the results of all stages."""
    return {path.parent.name: path.read_bytes() for path in run.glob("stages/*/part.safetensors")}


def at_step(number, action):
    """A training step that does something else when it is called for the n-th time."""
    calls, step = iter(range(number)), Task.training_step

    def training_step(self, batch):
        if next(calls, None) is None:
            action()
        return step(self, batch)

    return training_step


def stop():
    raise SystemExit(1)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def fit_and_die(config, run, patch, **options):
    """Trains in a process of its own until it kills itself."""
    pid = os.fork()
    if pid == 0:
        try:
            patch()
            fit(config, run, **options)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.fixture
def interrupted(config, tmp_path, monkeypatch):
    """The energy stage of a run, stopped in its third epoch, and the options it was started with."""
    options = {"stage": "energy", "overrides": ["--stages.energy.trainer.max_epochs=4"]}
    with monkeypatch.context() as patch:
        patch.setattr(Task, "training_step", at_step(2 * STEPS + 2, stop))
        with pytest.raises(SystemExit):
            fit(config, tmp_path / "run", **options)
    return tmp_path / "run", options


@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.parametrize(
    ("stage", "trainer"),
    [(None, {}), ("energy", {"ema_decay": 0.8, "accumulate": 2, "gradient_clip": 1.0, "max_epochs": 3})],
    ids=["all stages", "averaged weights"],
)
def test_a_run_that_is_killed_at_random_points_ends_with_the_same_bits(
    config, tmp_path, monkeypatch, rng, stage, trainer
):
    options = {
        "stage": stage,
        "overrides": [f"--stages.energy.trainer.{key}={value}" for key, value in trainer.items()],
    }
    whole = fit(config, tmp_path / "whole", **options)
    run = tmp_path / "run"
    fit_and_die(config, run, lambda: monkeypatch.setattr(EpochCheckpoints, "_take_over", lambda *_: die()), **options)
    for step in rng.integers(1, 2 * STEPS, 2).tolist():
        fit_and_die(
            config, run, lambda step=step: monkeypatch.setattr(Task, "training_step", at_step(step, die)), **options
        )
    fit(config, run, **options)
    assert parts(run) == parts(whole)


@pytest.mark.filterwarnings("ignore:.*fork")
def test_an_adversarial_autoencoder_that_is_killed_ends_with_the_same_bits(config, tmp_path, monkeypatch):
    config.write_text(config.read_text().replace("caloman.manifold.VAE", "caloman.manifold.AVB"))
    options = {"stage": "autoencoder", "overrides": ["--stages.autoencoder.trainer.gradient_clip=1.0"]}
    whole, run = fit(config, tmp_path / "whole", **options), tmp_path / "run"
    fit_and_die(config, run, lambda: monkeypatch.setattr(Task, "training_step", at_step(STEPS + 2, die)), **options)
    assert parts(fit(config, run, **options)) == parts(whole)
    assert load_file(whole / "stages/autoencoder/part.safetensors")["shape.autoencoder.warp.6.weight"].any()


def test_workers_and_the_showers_they_turn_do_not_change_a_resumed_epoch(config, tmp_path, monkeypatch):
    options = {"stage": "energy", "overrides": ["--data.memory_limit=0", "--data.workers=1"]}
    whole = fit(config, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        patch.setattr(Task, "training_step", at_step(STEPS + 2, stop))
        with pytest.raises(SystemExit):
            fit(config, tmp_path / "run", **options)
    assert parts(fit(config, tmp_path / "run", **options)) == parts(whole)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_replaced_by_the_one_before_or_by_a_new_start(
    config, tmp_path, interrupted, caplog, damage
):
    run, options = interrupted
    whole = fit(config, tmp_path / "whole", **options)
    checkpoints = run / "stages" / "energy" / "checkpoints"
    state = (run / "stages" / "energy" / "stage.json").read_bytes()
    for name, says in (("last", "going on from .*previous.ckpt"), ("previous", "no usable checkpoint, starts anew")):
        for path in (checkpoints / "last.ckpt", checkpoints / f"{name}.ckpt"):
            path.write_bytes(DAMAGES[damage](path.read_bytes()))
        caplog.clear()
        fit(config, run, **options)
        assert f"{name}.ckpt: damaged, not used" in caplog.text
        assert re.search(says, caplog.text)
        assert parts(run) == parts(whole)
        (run / "stages" / "energy" / "stage.json").write_bytes(state)


def test_a_checkpoint_of_another_model_is_refused(config, interrupted):
    run, options = interrupted
    path = run / "stages" / "energy" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    name = next(iter(checkpoint["state_dict"]))
    checkpoint["state_dict"][name] = torch.zeros(77)
    torch.save(checkpoint, path)
    with pytest.raises(CalomanError, match=r"last\.ckpt: a checkpoint of another model"):
        fit(config, run, **options)


@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_run_folder_is_trained_in_by_one_process_which_may_die(config, tmp_path, interrupted):
    run, options = interrupted
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        with occupied(run):
            os.write(ready[1], b"1")
            os.read(go[0], 1)
            die()
    os.read(ready[0], 1)
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*"))
    holder = rf"\(process {pid} on {platform.node()}\)"
    with pytest.raises(CalomanError, match=rf"run: another process is writing it; .* {holder}"):
        fit(config, run, **options)
    assert sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*")) == before
    os.write(go[1], b"1")
    os.waitpid(pid, 0)
    fit(config, run, **options)
    assert parts(run)


def test_a_full_disk_is_one_sentence_and_loses_no_epoch(config, tmp_path, interrupted, full_disk):
    run, options = interrupted
    whole = fit(config, tmp_path / "whole", **options)
    with full_disk(10_000), pytest.raises(CalomanError, match="cannot be written, check folder and free space"):
        fit(config, run, **options)
    assert parts(fit(config, run, **options)) == parts(whole)


def test_sigterm_ends_with_a_message_and_a_status_of_its_own(config, tmp_path):
    command = [sys.executable, "-m", "caloman.cli", "fit", str(config), "--output", str(tmp_path / "run")]
    command += ["--stage=energy", "--stages.energy.trainer.max_epochs=100000", "--stages.energy.trainer.patience=null"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        lines = [process.stderr.readline()]
        while lines[-1] and "epoch 1 of" not in lines[-1]:
            lines.append(process.stderr.readline())
        process.terminate()
        lines += process.stderr.readlines()
    assert process.returncode == 128 + signal.SIGTERM
    assert lines[-1] == "interrupted; the same command goes on after the last finished epoch\n"
    assert "Traceback" not in "".join(lines)


def test_a_loss_that_is_not_finite_stops_with_the_batch_which_can_be_replayed(config, tmp_path, monkeypatch):
    losses, seen = EnergyTask.losses, []

    def diverges(self, x, context):
        result = losses(self, x, context)
        if self._trainer and self.trainer.training and self.trainer.global_step == STEPS + 2:
            seen.append(float(result["loss"].detach()))
            result["loss"] = result["loss"] * torch.nan
        return result

    with monkeypatch.context() as patch:
        patch.setattr(EnergyTask, "losses", diverges)
        with pytest.raises(CalomanError) as caught:
            fit(config, tmp_path / "run", stage="energy")
    message = str(caught.value)
    folder = tmp_path / "run" / "stages" / "energy"
    assert "the loss is nan in epoch 2, step 3, for batch " in message
    assert f"the last good checkpoint is {folder / 'checkpoints' / 'last.ckpt'}" in message
    assert "\n" not in message

    weights = torch.load(folder / "diverged.pt", weights_only=True)["weights"]
    assert all(value.isfinite().all() for value in weights.values())
    assert replay(tmp_path / "run", "energy") == {"loss": pytest.approx(seen[0], rel=1e-6)}
    assert replay(tmp_path / "run", "energy") == replay(tmp_path / "run", "energy")
    with pytest.raises(CalomanError, match="no record of a batch"):
        replay(tmp_path / "run", "latent")


def test_an_exploding_loss_stops_the_stage(config, tmp_path):
    with pytest.raises(CalomanError, match=r"in epoch 1, step 1, .* no epoch was finished"):
        fit(config, tmp_path / "run", stage="energy", overrides=["--stages.energy.trainer.max_loss=0.5"])


def test_averaged_weights_are_the_result_and_leave_the_other_parts_alone(config, tmp_path):
    run = fit(config, tmp_path / "run", overrides=["--stages.latent.trainer.ema_decay=0.5"])
    folder = run / "stages" / "latent"
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    result = load_file(folder / "part.safetensors")
    bundle = load_file(run / "bundle" / "model.safetensors")
    raw = checkpoint["current_model_state"]
    assert any(not torch.equal(result[name], raw[f"model.{name}"]) for name in result)
    for name, value in load_file(run / "stages" / "autoencoder" / "part.safetensors").items():
        assert torch.equal(bundle[name], value)
    for name, value in result.items():
        np.testing.assert_array_equal(bundle[name].numpy(), value.numpy())
