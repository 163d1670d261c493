import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import caloman
from caloman.errors import CalomanError
from caloman.showers.conditions import ENERGY_ONLY, Conditions, known
from caloman.showers.geometry import Geometry, Layer
from caloman.showers.observables import compute_observables
from caloman.showers.showers import Showers
from caloman.training import EnergyTask, LatentTask, fit
from caloman.training.config import load_pipeline
from caloman.training.data import DataConfig, ShowerDataModule
from caloman.training.progress import time_left
from caloman.training.symmetries import find_moves

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data_prep" / "samples" / "photons_train.hdf5"
STAGES = ("energy", "autoencoder", "latent", "residual")


def finish_times(run):
    return {name: (run / "stages" / name / "part.safetensors").stat().st_mtime_ns for name in STAGES}


def test_fit_writes_a_bundle_and_a_second_fit_trains_only_what_changed(config, tmp_path, caplog):
    caplog.set_level("INFO")
    run = fit(config, tmp_path / "run")
    modes = {path.stat().st_mode for path in run.glob("stages/*/*.*") if path.is_file()}
    assert len(modes) == 1  # weights are not for their owner only
    lines = [line for line in caplog.messages if " left" in line]
    assert len(lines) == 2 * len(STAGES)
    assert lines[0].startswith("energy (stage 1 of 4): epoch 1 of at most 2, loss train ")
    assert lines[-1].startswith("residual (stage 4 of 4): epoch 2 of at most 2, loss ")
    assert lines[-1].endswith("; at most 0:00:00 left")
    showers = caloman.load(run).sample([256.0, 1024.0, 4096.0])
    assert np.isfinite(showers.voxels).all()
    assert (showers.voxels.sum(axis=1) > 0).all()
    times = finish_times(run)

    fit(config, run)
    assert finish_times(run) == times

    fit(config, run, overrides=["--model.shape.density.flow.transforms=3"], overwrite=True)
    changed = {name for name, value in finish_times(run).items() if value != times[name]}
    assert changed == {"latent"}

    fit(config, run, overrides=["--model.shape.sample_posterior=false"], overwrite=True)
    assert finish_times(run)["energy"] == times["energy"]
    assert finish_times(run)["residual"] != times["residual"]


def test_the_time_left_counts_stages_that_have_not_begun():
    assert time_left({"energy": 2, "latent": 10}, {"energy": 2.0}) == pytest.approx(2 * 2 + 10 * 2)
    assert time_left({"energy": 0, "latent": 1}, {"energy": 2.0, "latent": 5.0}) == pytest.approx(5)
    assert time_left({"energy": 4}, {}) == 0


def test_a_trained_stage_is_lost_only_when_that_is_wanted(config, tmp_path):
    def energy(*overrides, **options):
        fit(config, tmp_path / "run", stage="energy", overrides=overrides, **options)
        return (tmp_path / "run" / "stages" / "energy" / "part.safetensors").stat().st_mtime_ns

    rows = f'--data.train=["{SAMPLE}[0:500]"]'
    first = energy(rows, "--data.memory_limit=0", "--data.workers=1")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*") if path.name != "manifest.json"}
    for overrides, change in (
        ([rows, "--model.energy.flow.hidden=12"], r"model.energy.flow.hidden 16 -> 12\); choose another --output, or"),
        ([rows, "--stages.energy.trainer.max_epochs=3"], r"stages.energy.trainer.max_epochs 2 -> 3"),
        ([rows, "--seed=2", "--data.symmetries=[]"], r"seed 1 -> 2, data.symmetries \[.*\] -> \[\]"),
        ([f'--data.train=["{SAMPLE}[0:501]"]'], r"data.train .*\[0:500\]\"\] -> .*\[0:501\]"),
    ):
        with pytest.raises(CalomanError, match=change):
            energy(*overrides)
    # where and how to read and to train is free, and so is what no trained stage depends on
    assert energy(rows, "--data.memory_limit=1", "--hardware.deterministic=true", "--monitor.every=3") == first
    assert energy(rows, "--model.shape.autoencoder.latent_dim=5") == first
    assert all(path.read_bytes() == content for path, content in before.items() if path.name != "pipeline.yaml")
    assert energy(rows, "--seed=2", overwrite=True) != first


def test_a_stage_that_left_the_pipeline_is_lost_only_when_that_is_wanted(config, tmp_path):
    run = fit(config, tmp_path / "run", stage="energy")
    config.write_text(config.read_text().replace("  energy:\n    task", "  energies:\n    task"))
    with pytest.raises(CalomanError, match=r"'energy' was trained otherwise \(it is not in the pipeline"):
        fit(config, run, stage="energies")
    fit(config, run, stage="energies", overwrite=True)
    assert [path.name for path in (run / "stages").iterdir()] == ["energies"]


@pytest.mark.parametrize("name", ["../precious", "/tmp/x", ".", "..", "", "a/b", "a" * 65, "1st", "a\n", "-x", "nul\0"])
def test_the_name_of_a_stage_is_no_path(config, tmp_path, name):
    precious = tmp_path / "run" / "precious" / "thesis.tex"
    precious.parent.mkdir(parents=True)
    precious.write_text("years")
    spec = yaml.safe_load(config.read_text())
    spec["stages"] = {name: spec["stages"]["energy"]}
    config.write_text(yaml.safe_dump(spec))
    with pytest.raises(CalomanError, match="not a name; use at most 64 letters"):
        fit(config, tmp_path / "run")
    assert precious.read_text() == "years"


def test_a_folder_that_is_not_a_stage_is_not_deleted(config, tmp_path):
    precious = tmp_path / "run" / "stages" / "energy" / "thesis.tex"
    precious.parent.mkdir(parents=True)
    precious.write_text("years")
    with pytest.raises(CalomanError, match="not the folder of a stage"):
        fit(config, tmp_path / "run", stage="energy")
    assert precious.read_text() == "years"


@pytest.mark.parametrize("seed", [-1, 2**32, 2**63, 10**30])
def test_a_seed_that_not_all_generators_take_is_refused_at_once(config, tmp_path, seed):
    with pytest.raises(CalomanError, match=f"seed {seed}: not a seed; give a number from 0 to"):
        fit(config, tmp_path / "run", overrides=[f"--seed={seed}"])
    assert not (tmp_path / "run").exists()


def test_one_stage_can_be_run_alone_but_not_before_its_upstream(config, tmp_path):
    with pytest.raises(CalomanError, match=r"stage 'latent' needs 'shape.autoencoder'"):
        fit(config, tmp_path / "run", stage="latent")
    run = fit(config, tmp_path / "run", stage="energy")
    assert (run / "stages" / "energy" / "part.safetensors").is_file()
    with pytest.raises(CalomanError, match="no finished model here"):
        caloman.load(run)
    with pytest.raises(CalomanError, match="no stage 'latnet'"):
        fit(config, tmp_path / "run", stage="latnet")


def test_a_stage_changes_nothing_but_its_part(config, tmp_path):
    pipeline, _ = load_pipeline(config)
    model = pipeline.model(Geometry.load("1-photons"), ENERGY_ONLY)
    for task_class, part in ((EnergyTask, "energy"), (LatentTask, "shape.density")):
        task = task_class(model)
        trained = {name for name, parameter in task.model.named_parameters() if parameter.requires_grad}
        assert trained == {name for name, _ in model.named_parameters() if name.startswith(f"{part}.")}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("transforms:", "transfroms:", "transfroms' is not accepted; did you mean 'transforms'"),
        ("max_epochs: 2", "max_epochs: two", "trainer.max_epochs' cannot be the text 'two'"),
        ("caloman.manifold.VAE", "os.system", "'os.system' is not a caloman class"),
        ("caloman.manifold.VAE", "caloman.manifold.VAEE", "VAEE' is not a caloman class"),
        ("seed: 1", "seeed: 1", "seeed"),
        ("geometry: 1-photons", "geometry: 1-photon", "unknown dataset '1-photon'"),
        ("geometry: 1-photons", "geometry: '2'", "6480"),
        ("photons_train", "photons_trian", "photons_trian.hdf5: no such file"),
        ("stages:", "stages", "not valid YAML"),
        ("batch_size: 128", "batch_size: 0", "stages.trainer.batch_size"),
        ("batch_size: 128", "batch_size: 1000", "batch_size = 1000 is more than the 540 training showers"),
        ("batch_size: 128", "batch_size: auto", "there is none; give a number"),
        ("seed: 1", "seed: 1\nhardware: {precision: bf17}", "hardware.precision"),
        ("seed: 1", "seed: 1\nhardware: {accelerator: gpu, devices: 4096}", "4096 devices of accelerator 'gpu'"),
    ],
)
def test_a_fault_in_the_config_is_one_sentence_that_names_it(config, tmp_path, old, new, message):
    config.write_text(config.read_text().replace(old, new))
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(CalomanError) as caught:
        fit(config, tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) is handler
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "bundle").exists()


def test_training_and_validation_share_no_shower_and_lose_none():
    geometry = Geometry.load("1-photons")
    data = ShowerDataModule(geometry, DataConfig([str(SAMPLE)], 0.25, max_showers=400), seed=3)
    everything = Showers.load(SAMPLE, geometry)[:400].voxels
    split = np.concatenate([data.train[:][0].numpy(), data.validation[:][0].numpy()])
    assert len(data.validation) == 100
    np.testing.assert_array_equal(np.unique(split, axis=0), np.unique(everything, axis=0))


def test_symmetries_move_showers_without_changing_their_radial_observables():
    geometry = Geometry.load("1-photons")
    orders = find_moves(geometry, ENERGY_ONLY, ["alpha_rotation", "alpha_reflection"]).orders.numpy()
    assert orders.shape == (20, 368)
    assert len(np.unique(orders, axis=0)) == 20
    showers = Showers.load(SAMPLE, geometry)[:50]
    original = compute_observables([showers])
    for order in orders:
        moved = compute_observables([Showers(showers.incident_energies, showers.voxels[:, order], geometry)])
        for name in ("layer_energies", "center_r", "width_r", "sparsity"):
            np.testing.assert_allclose(getattr(moved, name), getattr(original, name), rtol=1e-5, atol=1e-4)
        radius = np.hypot(original.center_eta, original.center_phi)
        np.testing.assert_allclose(np.hypot(moved.center_eta, moved.center_phi), radius, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("names", [["alpha_reflection"], ["theta_mirror"], ["alpha_reflection", "theta_mirror"]])
def test_symmetries_move_angles_as_they_say(rng, names):
    geometry = Geometry.load("2")
    conditions = Conditions(map(known, ("incident_energy", "theta")))
    alpha = np.concatenate([layer.alpha for layer in geometry.layers])
    hit = rng.integers(geometry.n_voxels, size=200)
    voxels = np.eye(geometry.n_voxels, dtype=np.float32)[hit]
    given = np.stack([np.full(200, 1e3), rng.uniform(0.9, 1.5, 200)], axis=1).astype(np.float32)
    moved, asked = find_moves(geometry, conditions, names).apply(*map(torch.from_numpy, (voxels, given)), rng)
    mirrored = asked[:, 1].numpy() > np.pi / 2
    np.testing.assert_allclose(asked[:, 1], np.where(mirrored, np.pi - given[:, 1], given[:, 1]), rtol=1e-6)
    assert mirrored.any() == ("theta_mirror" in names)
    before = np.where(mirrored, np.pi - alpha[hit], alpha[hit])
    after = alpha[moved.numpy().argmax(axis=1)]
    reflected = ~np.isclose(np.exp(1j * after), np.exp(1j * before))
    np.testing.assert_allclose(np.exp(1j * after[reflected]), np.exp(-1j * before[reflected]), atol=1e-9)
    assert reflected.any() == ("alpha_reflection" in names)


def test_symmetries_that_the_showers_cannot_have_are_refused():
    with pytest.raises(CalomanError, match=r"data\.symmetries: theta_mirror needs theta as a condition"):
        find_moves(Geometry.load("2"), ENERGY_ONLY, ["theta_mirror"])
    uneven = Geometry("uneven", "photon", (Layer(0, (0, 1), 2), Layer(1, (0, 1), 3)))
    with pytest.raises(CalomanError, match=r"data\.symmetries: layers of 'uneven' have \[2, 3\] angular bins"):
        find_moves(uneven, ENERGY_ONLY, ["alpha_rotation"])


def test_a_training_starts_from_the_weights_of_another_generator(config, tmp_path, caplog):
    first = fit(config, tmp_path / "first")
    options = [f"--start_from={first}", "--data.max_showers=300", "--seed=5",
               *(f"--stages.{name}.task.learning_rate=0" for name in load_pipeline(config)[0].stages)]  # fmt: skip
    with caplog.at_level("INFO", logger="caloman"):
        second = fit(config, tmp_path / "second", overrides=options)
    assert "tensors taken over from" in caplog.text
    assert "; new are" not in caplog.text
    known, found = caloman.load(first), caloman.load(second)
    for (name, old), new in zip(known.named_parameters(), found.parameters(), strict=True):
        assert torch.equal(old, new), name  # the learning rate is 0
    scaling = "energy.density.scaling.mean"
    assert not torch.equal(known.get_buffer(scaling), found.get_buffer(scaling))
    with caplog.at_level("INFO", logger="caloman"):
        fit(config, tmp_path / "third", overrides=[f"--start_from={first}", "--model.shape.autoencoder.latent_dim=5",
                                                   "--stages.energy.trainer.max_epochs=1"], stage="energy")  # fmt: skip
    assert "; new are shape.autoencoder." in caplog.text


def test_a_start_without_weights_of_these_shapes_is_refused(config, run, tmp_path):
    with pytest.raises(CalomanError, match="no finished model here"):
        fit(config, tmp_path / "run2", overrides=[f"--start_from={tmp_path}"])
