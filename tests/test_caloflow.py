from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.testing import assert_close

import caloman
from caloman import bundle
from caloman.errors import CalomanError
from caloman.flows import AutoregressiveFlow, CouplingFlow
from caloman.models import Density, FactorizedShowerModel, LayerEnergyModel
from caloman.preprocessing import LayerwiseTransform, Logit, UniformDequantization
from caloman.rivals import FlowShape
from caloman.showers.conditions import ENERGY_ONLY
from caloman.showers.geometry import Geometry
from caloman.specification import read_layers
from caloman.training import DistillationTask, fit
from caloman.training.config import load_pipeline

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data_prep" / "samples" / "photons_train.hdf5"
CONFIGS = ROOT / "configs" / "1-photons"
NOISE = UniformDequantization(1e-3)


@pytest.mark.parametrize(("name", "expected"), [("caloflow", 28_043_810), ("caloflow_student", 56_554_930)])
def test_published_size(name, expected):
    pipeline, _ = load_pipeline(CONFIGS / f"{name}.yaml")
    model = pipeline.model(Geometry.load(pipeline.geometry), ENERGY_ONLY)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert model.shape.one_pass_sampling is (name == "caloflow_student")
    assert not model.one_pass_sampling, "flow I is masked autoregressive in both"


def test_logit_is_inverted_at_both_ends():
    inputs = torch.tensor([[0.0, 1e-6, 0.3, 1 - 1e-6, 1.0]], dtype=torch.float64)
    scaling = Logit(5)
    assert_close(scaling.inverse(scaling(inputs)), inputs)
    assert_close(scaling(inputs), torch.logit(1e-6 + (1 - 2e-6) * inputs))


def test_noise_fills_zeros_and_is_cut_again(small, make_showers):
    transform = LayerwiseTransform(small, ENERGY_ONLY, threshold=0.01, dequantization=NOISE)
    showers = make_showers(200, small)
    voxels, incident = torch.from_numpy(showers.voxels), torch.from_numpy(showers.incident_energies)[:, None]
    prepared = transform(voxels, incident)
    assert torch.all(prepared.shapes > 0)
    assert_close(transform.layers.sum(prepared.shapes), torch.ones(200, 3))
    assert_close(prepared.layer_energies, transform.layers.sum(torch.where(voxels < 0.01, 0, voxels)))
    restored = transform.inverse(prepared.shapes, incident, prepared.layer_energies)
    assert torch.equal(restored > 0, voxels >= 0.01)
    assert_close(restored, torch.where(voxels < 0.01, 0, voxels), rtol=1e-3, atol=2e-3)


def model(geometry, flow):
    return FactorizedShowerModel(
        geometry,
        ENERGY_ONLY,
        transform=partial(LayerwiseTransform, threshold=0.01, dequantization=NOISE),
        energy=partial(LayerEnergyModel, flow=partial(CouplingFlow, transforms=1)),
        shape=partial(FlowShape, density=partial(Density, flow=flow, scaling=Logit)),
    )


FLOW = {"transforms": 2, "bins": 4, "bound": 8.0, "blocks": 1, "mixing": "alternate", "groups": [2, 12, 2]}


@pytest.fixture
def teacher(small, randomize):
    """A teacher far from the identity."""
    teacher = model(small, partial(AutoregressiveFlow, hidden=16, **FLOW))
    randomize(teacher.shape.density.flow, std=0.3)
    return teacher.eval()


@pytest.fixture
def distil(small, teacher, monkeypatch):
    """Makes a task whose teacher needs no file."""

    def make(flow=partial(AutoregressiveFlow, hidden=32, direction="sampling", **FLOW), **options):  # noqa: B008
        monkeypatch.setattr(bundle, "load", lambda path: teacher)
        return DistillationTask(model(small, flow), teacher="runs/teacher", **options)

    return make


@pytest.mark.parametrize("guided", [True, False])
def test_distillation_drives_the_student_to_the_teacher(distil, guided, small):
    task = distil(guided=guided)
    task.fit_statistics(list)
    flow, density = task.density.flow, task.teacher
    context = torch.randn(1000, 1 + small.n_layers)
    with torch.no_grad():
        shapes = density.sample(torch.randn(1000, small.n_voxels), context)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    history = []
    for _ in range(120):
        rows = torch.randint(1000, (64,))
        losses = task.losses(shapes[rows], context[rows])
        history.append(losses["kl"].item())
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert np.mean(history[-20:]) < 0.2 * history[0]


def test_a_student_with_its_teachers_map_has_no_loss(distil):
    """Transforms that are the identity condition on nothing, so data and noise side agree."""
    task = distil()
    task.fit_statistics(list)
    for flow in (task.density.flow, task.teacher.flow):
        for transform in flow.transforms[::2]:
            torch.nn.init.zeros_(transform.conditioner.last.weight)
            torch.nn.init.constant_(transform.conditioner.last.bias, 0.3)
    losses = task.losses(torch.rand(20, 16), torch.randn(20, 4))
    assert losses["loss"].item() == pytest.approx(0, abs=1e-6)
    assert losses["kl"].item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(
    "flow",
    [
        partial(CouplingFlow, transforms=2),
        partial(AutoregressiveFlow, direction="sampling", **{**FLOW, "transforms": 3}),
        partial(AutoregressiveFlow, direction="sampling", **{**FLOW, "bins": 5}),
    ],
)
def test_a_student_unlike_its_teacher_is_refused(distil, flow):
    with pytest.raises(CalomanError, match=r"runs/teacher: .*configure them alike"):
        distil(flow=flow).fit_statistics(list)


def test_a_student_that_samples_entry_by_entry_is_refused(distil):
    with pytest.raises(CalomanError, match="direction: sampling"):
        distil(flow=partial(AutoregressiveFlow, **FLOW))


@pytest.fixture
def tiny(tmp_path):
    """Writes a shipped configuration with networks and data that train in seconds."""

    def write(name, **task):
        spec = read_layers(CONFIGS / f"{name}.yaml")
        spec["data"] |= {"train": [f"{SAMPLE}[0:200]"]}
        density = spec["model"]["init_args"]["shape"]["init_args"]["density"]
        for holder in (density, {"init_args": spec["model"]["init_args"]["energy"]["init_args"]}):
            holder["init_args"]["flow"]["init_args"] |= {"transforms": 2, "hidden": 8, "bins": 4}
        for stage in spec["stages"].values():
            stage["trainer"] = {"max_epochs": 1, "batch_size": 100, "patience": None}
        last = list(spec["stages"].values())[-1]
        last["task"]["init_args"] |= task
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(spec, sort_keys=False))
        return path

    return write


def test_teacher_and_student_go_through_the_pipeline(tiny, tmp_path):
    student_config = tiny("caloflow_student_small", teacher=str(tmp_path / "teacher"))
    with pytest.raises(CalomanError, match="train the teacher first"):
        fit(student_config, tmp_path / "student", stage="student")

    teacher_run = fit(tiny("caloflow_small"), tmp_path / "teacher")
    student_run = fit(student_config, tmp_path / "student")
    for run, one_pass in ((teacher_run, False), (student_run, True)):
        generator = caloman.load(run)
        assert generator.one_pass_sampling is one_pass
        voxels = generator.sample([256.0, 1024.0, 4096.0]).voxels
        assert np.all((voxels == 0) | (voxels >= 0.01 * (1 - 1e-6)))
        assert np.all(voxels.sum(axis=1) > 0)

    orders = [caloman.load(run).shape.density.flow.transforms[3].order for run in (teacher_run, student_run)]
    assert torch.equal(*orders)
    finished = student_run / "stages" / "student" / "part.safetensors"
    time = finished.stat().st_mtime_ns
    fit(student_config, student_run)
    assert finished.stat().st_mtime_ns == time
    fit(tiny("caloflow_small"), teacher_run, overrides=["--stages.teacher.trainer.max_epochs=2"], overwrite=True)
    fit(student_config, student_run, stage="student", overwrite=True)
    assert finished.stat().st_mtime_ns != time, "another teacher makes another student"
