import resource

import numpy as np
import pytest
import torch

from caloman import bundle
from caloman.errors import CalomanError
from caloman.specification import read_yaml, to_yaml


def change_config(folder, **values):
    path = folder / "config.yaml"
    path.write_text(to_yaml({**read_yaml(path), **values}))


@pytest.fixture
def folder(run):
    return run / "bundle"


@pytest.mark.parametrize("name", ["model.safetensors", "geometry.xml"])
def test_files_that_were_exchanged_are_refused(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CalomanError, match=f"{name}: not the file that the bundle was made with"):
        bundle.load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "geometry.xml"])
def test_files_that_are_missing_are_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CalomanError, match=f"{name}: missing"):
        bundle.load(folder)


def test_a_checkpoint_from_elsewhere_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "last.ckpt")
    with pytest.raises(CalomanError, match=r"last\.ckpt: a generator is a folder"):
        bundle.load(tmp_path / "last.ckpt")


def energy(**changes):
    return {"conditions": [{"name": "incident_energy", "unit": "MeV", "range": [1e3, 1e5]} | changes]}


@pytest.mark.parametrize(
    "values",
    [
        *({"files": "all"}, {"files": [1]}, {"training": None}, {"format": "1"}, {"format": 99}, {"model": []}),
        *({"training": {"files": files}} for files in (None, 5, ["x"], {"a": 1}, [{}], [{"sha256": "a\0"}])),
        *(energy(range=[0.0, 1e5]), energy(kind="periodic"), energy(unit="GeV"), energy(categories=[1000])),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(folder, values):
    change_config(folder, **values)
    with pytest.raises(CalomanError, match=r"config\.yaml: "):
        bundle.load(folder)


@pytest.mark.parametrize("name", ["format", "files", "model", "training"])
def test_a_manifest_without_a_section_is_refused(folder, name):
    config = read_yaml(folder / "config.yaml")
    config.pop(name)
    (folder / "config.yaml").write_text(to_yaml(config))
    with pytest.raises(CalomanError, match=r"config\.yaml: "):
        bundle.load(folder)


def test_the_fingerprint_changes_with_every_file_and_not_with_the_place(run, folder, tmp_path):
    first = bundle.fingerprint(run)
    assert bundle.fingerprint(folder.rename(tmp_path / "moved")) == first
    change_config(tmp_path / "moved", training={})
    assert bundle.fingerprint(tmp_path / "moved") != first


def test_the_card_says_what_a_user_has_to_know(folder):
    card = (folder / "README.md").read_text()
    for fact in (
        "1000 to 100000 MeV",
        "16 voxels",
        "MIT",
        f"torch {torch.__version__}",
        np.__version__,
    ):
        assert fact in card


@pytest.mark.parametrize("value", [10**9, 10**6, 1000, 0, -1])
@pytest.mark.parametrize("place", [("energy", "flow", "transforms"), ("shape", "autoencoder", "latent_dim")])
def test_sizes_that_are_not_those_of_the_weights_are_refused_before_they_take_memory(folder, place, value):
    config = read_yaml(folder / "config.yaml")
    part = config["model"]
    for name in place[:-1]:
        part = part["init_args"][name]
    assert part["init_args"][place[-1]] in (2, 3)
    part["init_args"][place[-1]] = value
    change_config(folder, **config)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CalomanError, match=r"config\.yaml: "):
        bundle.load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # [kB]


def test_a_kill_between_two_bundles_loses_neither(run, folder):
    folder.rename(run / ".bundle.older")
    assert bundle.load(run).geometry.name == "small"


@pytest.mark.parametrize(("name", "value"), [("energy.density.flow.transforms.0.conditioner.last.bias", torch.inf),
                                             ("energy.density.context_scaling.mean", torch.nan)])  # fmt: skip
def test_weights_that_are_not_numbers_are_refused(run, folder, name, value):
    model = bundle.load(run)
    state = model.state_dict()
    assert name in state
    state[name].view(-1)[0] = value
    bundle.save(model, read_yaml(folder / "config.yaml")["model"], {"files": [], "showers": 0}, folder)
    with pytest.raises(CalomanError, match=f"'{name}' holds values that are not finite"):
        bundle.load(run)
