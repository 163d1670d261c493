import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import SAMPLE
from torch import nn

import caloman
from caloman.bundle import load
from caloman.cli import main
from caloman.errors import CalomanError
from caloman.models import EnsembleShowerModel, ShowerModel
from caloman.run_folders import read_manifest, runs
from caloman.showers.conditions import ENERGY_ONLY
from caloman.showers.showers import Showers
from caloman.training import fit
from caloman.training.command import fit as fit_command
from caloman.training.manifest import Manifest


@pytest.fixture
def energy_only(config, tmp_path, photons):
    """A pipeline with the shortest stage, and its own copy of some showers."""
    Showers.load(SAMPLE, photons)[:300].save(tmp_path / "showers.hdf5")
    text = config.read_text().replace(str(SAMPLE), str(tmp_path / "showers.hdf5"))
    config.write_text(text[: text.index("  autoencoder:\n    task")])
    return config


def test_the_manifest_tells_of_data_code_machine_and_throughput_and_the_bundle_has_it(
    energy_only, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    run = fit(energy_only, tmp_path / "run")
    manifest = read_manifest(run)
    assert manifest["data"][0]["sha256"] == caloman.files.sha256(tmp_path / "showers.hdf5")
    assert manifest["showers"] == {"train": 270, "validation": 30}
    assert manifest["stage_seeds"] == {"energy": manifest["seed"]}
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["hardware"]["cpus"] >= 1
    assert manifest["process"]["state"] == "ended"
    stage = manifest["stages"]["energy"]
    assert stage["epochs"] == 2
    assert stage["showers_per_second"] == pytest.approx(2 * 270 / stage["seconds"], rel=0.01)
    card = (run / "bundle" / "README.md").read_text()
    assert f"| energy | {stage['validation_loss']:.4g} |" in card
    assert "secret" not in (run / "manifest.json").read_text()
    assert json.loads((run / "bundle" / "training.json").read_text())["data"] == manifest["data"]


def test_a_run_is_repeated_from_its_folder_unless_its_data_changed(energy_only, tmp_path, photons):
    run = fit(energy_only, tmp_path / "run", overrides=["--seed=7"])
    energy_only.unlink()
    fit_command(run, output=tmp_path / "again")
    weights = [(tmp_path / name / "bundle" / "model.safetensors").read_bytes() for name in ("run", "again")]
    assert weights[0] == weights[1]

    Showers.load(SAMPLE, photons)[1:301].save(tmp_path / "showers.hdf5")
    with pytest.raises(CalomanError, match=r"showers.hdf5: not the file that .*run was trained on"):
        fit_command(run, output=tmp_path / "changed")
    with pytest.raises(CalomanError, match=r"holds no pipeline.yaml"):
        fit_command(tmp_path, output=tmp_path / "nothing")


def test_runs_are_listed_with_their_state(energy_only, tmp_path, capsys):
    folder = tmp_path / "runs"
    fit(energy_only, folder / "done")
    with pytest.raises(CalomanError, match="the loss is"):
        fit(energy_only, folder / "wrong", overrides=["--stages.energy.task.learning_rate=1e30"])
    waiting = folder / "waiting" / "pipeline.yaml"
    waiting.parent.mkdir()
    waiting.write_bytes((folder / "done" / "pipeline.yaml").read_bytes())

    found = {run.name.removeprefix(f"{folder}/"): run for run in runs(folder)}
    assert found["done"].state == "finished"
    assert found["done"].stages[0].best[0] == "validation_loss"
    assert found["done"].parameters == read_manifest(folder / "done")["parameters"]
    assert found["wrong"].state.startswith("failed in energy, epoch 0 of 2: ")
    assert "the loss is" in found["wrong"].state
    assert found["waiting"].state == "not started"
    assert main(["runs", str(folder)]) == 0
    assert "2 of 2 epochs, finished, best validation_loss" in capsys.readouterr().out


def test_a_process_that_is_gone_was_interrupted(energy_only, tmp_path):
    run = fit(energy_only, tmp_path / "run")
    stage = run / "stages" / "energy" / "stage.json"
    stage.write_text(json.dumps({**json.loads(stage.read_text()), "finished": False}))

    def state(**process):
        manifest = read_manifest(run)
        manifest["process"] |= {"state": "training", **process}
        (run / "manifest.json").write_text(json.dumps(manifest))
        return runs(run)[0].state

    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    assert state(pid=gone.pid) == "interrupted in energy, epoch 2 of 2"
    assert state(pid=os.getpid()) == "training energy, epoch 2 of 2"
    assert state(pid=gone.pid, host=f"not-{platform.node()}") == "training energy, epoch 2 of 2"


def test_an_interruption_is_recorded(tmp_path):
    def training():
        with Manifest(tmp_path, {}).training():
            assert read_manifest(tmp_path)["process"]["state"] == "training"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training()
    assert read_manifest(tmp_path)["process"]["state"] == "interrupted"


STAGE = "stages/energy/stage.json"
DAMAGED = [
    *(
        (name, content)
        for name in ("pipeline.yaml", "manifest.json", STAGE)
        for content in (b"", b"\xff\x00{", b"[1, 2]")
    ),
    *((name, b"[" * 100_000) for name in ("pipeline.yaml", "manifest.json", STAGE)),
    ("pipeline.yaml", b"{}"),
    ("pipeline.yaml", b"geometry: [&a [1], *a]\nstages: {}"),
    ("pipeline.yaml", b"geometry: {a: 1}\nstages: {}"),
    ("pipeline.yaml", b"geometry: a\nstages: {../../energy: {trainer: {monitor: a, max_epochs: 1}}}"),
    ("pipeline.yaml", b"geometry: a\nstages: {energy: {trainer: {monitor: [a], max_epochs: 1}}}"),
    ("pipeline.yaml", b"geometry: a\nstages: {energy: {trainer: {monitor: a, max_epochs: {}}}}"),
    ("manifest.json", b'{"parameters": "many"}'),
    ("manifest.json", b'{"process": [1]}'),
    ("manifest.json", b'{"process": {"state": "failed", "reason": {}}}'),
    ("manifest.json", b'{"process": {"state": "training", "host": "HOST", "pid": 1e300}}'),
    ("manifest.json", b'{"process": {"state": "training", "host": "HOST", "pid": 1234567890123456789012345}}'),
    (STAGE, b'{"finished": "yes"}'),
    (STAGE, b'{"finished": []}'),
    ("stages/energy/metrics.csv", b"epoch,validation_loss\n0,what\n"),
    ("stages/energy/metrics.csv", b"epoch,validation_loss\ninf,1\n"),
    ("stages/energy/metrics.csv", b"epoch,validation_loss\nnan,1\n"),
    ("stages/energy/metrics.csv", b"0,1,2\n0,1,2,3,4\n"),
]


@pytest.mark.parametrize(("name", "content"), DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_folder_is_listed_as_such(tmp_path, name, content):
    run = tmp_path / "run"
    (run / "stages" / "energy").mkdir(parents=True)
    trainer = "{monitor: validation_loss, max_epochs: 2}"
    (run / "pipeline.yaml").write_text(f"geometry: small\nstages: {{energy: {{trainer: {trainer}}}}}\n")
    (run / "stages" / "gone.x").symlink_to("nowhere")
    assert "not started" in str(runs(tmp_path))
    (run / name).write_bytes(content.replace(b"HOST", platform.node().encode()))
    assert "damaged: " in str(runs(tmp_path))


def test_a_pipe_is_not_waited_for(tmp_path):
    (tmp_path / "run" / "stages").mkdir(parents=True)
    os.mkfifo(tmp_path / "run" / "pipeline.yaml")
    assert "damaged: pipeline.yaml: not a regular file" in str(runs(tmp_path))


class Constant(ShowerModel):
    """Every voxel has the energy of the first parameter, plus the noise."""

    def __init__(self, geometry, conditions):
        super().__init__(geometry, conditions)
        self.value = nn.Parameter(torch.zeros(1))
        self.noise_blocks = {"latent": 1}

    @property
    def threshold(self):
        return 0.0

    def forward(self, noise, conditions):
        return (self.value + 0 * noise + 0 * conditions).expand(-1, self.geometry.n_voxels)


def test_an_ensemble_takes_its_members_equally_often_and_its_graph_selects_the_same(small):
    ensemble = EnsembleShowerModel(small, ENERGY_ONLY, Constant, 3)
    for i in range(3):
        ensemble.member(i).value.data.fill_(float(i))
    quantiles = torch.special.ndtri((torch.arange(3000.0) + 0.5) / 3000)
    noise, energies = torch.stack([torch.zeros(3000), quantiles], dim=1), torch.full((3000, 1), 10.0)
    with torch.no_grad():
        showers = ensemble(noise, energies)
        some = noise[::400], energies[::400]
        torch.testing.assert_close(torch.export.export(ensemble, some).module()(*some), showers[::400])
    counts = torch.bincount(showers[:, 0].long())
    torch.testing.assert_close(counts, torch.full((3,), 1000), atol=1, rtol=0)
    assert torch.equal(ensemble(torch.full((2, 2), 20.0), energies[:2]), torch.full((2, 16), 2.0))


def test_an_ensemble_is_one_bundle_of_members_that_each_are_a_run(energy_only, tmp_path, capsys):
    run = tmp_path / "ensemble"
    fit_command(energy_only, output=run, ensemble=2)
    ensemble = load(run)
    members = [load(run / "members" / str(i)) for i in range(2)]
    seeds = [read_manifest(run / "members" / str(i))["seed"] for i in range(2)]
    assert seeds == [seeds[0], seeds[0] + 1]
    for i, member in enumerate(members):
        for name, value in member.state_dict().items():
            assert torch.equal(ensemble.member(i).state_dict()[name], value)
    assert ensemble.noise_dim == members[0].noise_dim + 1
    assert "process" not in (run / "bundle" / "training.json").read_text()
    assert [found.name for found in runs(run)] == [str(run / "members" / str(i)) for i in range(2)]

    output = tmp_path / "member.hdf5"
    assert main(["generate", str(run), str(output), "--member", "1", "--n", "20", "--energies", "1GeV"]) == 0
    generated = Showers.load(output, ensemble.geometry)
    np.testing.assert_array_equal(generated.voxels, members[1].sample([1000.0] * 20).voxels)
    assert main(["generate", str(run), str(output), "--member", "2", "--n", "2", "--energies", "1GeV"]) == 1
    assert "the members of this ensemble are 0 to 1" in capsys.readouterr().err
    with pytest.raises(CalomanError, match="not a number of members"):
        fit_command(energy_only, output=run, ensemble=0)


def test_an_ensemble_is_replaced_only_when_that_is_wanted(energy_only, tmp_path):
    run = fit_command(energy_only, output=tmp_path / "ensemble", ensemble=2)

    def contents():
        return {path: path.read_bytes() for path in run.rglob("*.*") if path.is_file() and path.name != "manifest.json"}

    before = contents()
    with pytest.raises(CalomanError, match=r"--ensemble 1 would leave out member 1; choose another --output, or"):
        fit_command(energy_only, output=run, ensemble=1)
    with pytest.raises(CalomanError, match=r"stages.energy.trainer.max_epochs 2 -> 1"):
        fit_command(energy_only, output=run, ensemble=2, overrides=["--stages.energy.trainer.max_epochs=1"])
    with pytest.raises(CalomanError, match="holds an ensemble"):
        fit_command(energy_only, output=run)
    assert contents() == before

    fit_command(energy_only, output=run, ensemble=1, overwrite=True)
    assert [path.name for path in (run / "members").iterdir()] == ["0"]
    assert len(load(run).members) == 1


def test_a_single_run_does_not_become_an_ensemble(energy_only, tmp_path):
    run = fit_command(energy_only, output=tmp_path / "run")
    with pytest.raises(CalomanError, match="holds a single run, not an ensemble"):
        fit_command(energy_only, output=run, ensemble=2)
