import resource

import numpy as np
import pytest
import torch
from conftest import TINY_MODEL

from caloman import bundle
from caloman.errors import CalomanError
from caloman.showers.conditions import ENERGY_ONLY, Conditions
from caloman.specification import read_yaml, to_yaml


def change_config(folder, **values):
    path = folder / "config.yaml"
    path.write_text(to_yaml({**read_yaml(path), **values}))


@pytest.fixture
def folder(run):
    return run / "bundle"


@pytest.mark.parametrize("name", ["run", "run/bundle"])
def test_a_loaded_bundle_gives_the_same_bits(small, randomize, tmp_path, name):
    model = randomize(bundle.build_model(TINY_MODEL, small, ENERGY_ONLY, tmp_path), std=0.2).eval()
    model.conditions = Conditions.energies(1e3, 1e5)
    for std in (0.2, 0.3):  # the second one replaces the first
        bundle.save(randomize(model, std), TINY_MODEL, {"files": [], "showers": 0}, tmp_path / "run" / "bundle")
    loaded = bundle.load(tmp_path / name)
    assert (loaded.geometry, loaded.training) == (model.geometry, False)
    energies = np.geomspace(1e3, 1e5, 1500, dtype=np.float32)
    assert np.array_equal(loaded.sample(energies, seed=2).voxels, model.sample(energies, seed=2).voxels)
    names = sorted(path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*.*"))
    assert names == [f"bundle/{name}" for name in ("README.md", "config.yaml", "geometry.xml", "model.safetensors")]


def truncate(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def edit(change):
    def apply(folder):
        config = read_yaml(folder / "config.yaml")
        change(config)
        (folder / "config.yaml").write_text(to_yaml(config))

    return apply


def shape_arguments(config):
    return config["model"]["init_args"]["shape"]["init_args"]


def replace_density(value):
    return edit(lambda c: shape_arguments(c).update(density=value))


DAMAGES = {
    **{f"{name} missing": (lambda f, name=name: (f / name).unlink(), f"{name}: missing") for name in bundle.HASHED},
    **{f"no {key}": (edit(lambda c, key=key: c.pop(key)), r"config\.yaml: ") for key in
       ("format", "files", "model", "training")},
    "weights truncated": (truncate, "model.safetensors"),
    "weights of another model": (
        edit(lambda c: shape_arguments(c)["autoencoder"]["init_args"].update(latent_dim=4)), "model.safetensors",
    ),
    "config missing": (lambda f: (f / "config.yaml").unlink(), "no finished model"),
    "config empty": (lambda f: (f / "config.yaml").write_text(""), "config.yaml"),
    "config not YAML": (lambda f: (f / "config.yaml").write_text("a: [1"), "config.yaml"),
    "config not text": (lambda f: (f / "config.yaml").write_bytes(b"\xff\xfe\x00"), "config.yaml"),
    "unknown argument": (edit(lambda c: c["model"]["init_args"].update(color=1)), "color"),
    "unknown class": (edit(lambda c: c["model"].update(class_path="caloman.models.Nothing")), "config.yaml"),
    "foreign class": (edit(lambda c: c["model"].update(class_path="os.system")), "not a caloman"),
    "foreign class inside": (replace_density({"class_path": "collections.OrderedDict"}), "OrderedDict"),
    "foreign function by name alone": (replace_density("shutil.rmtree"), "not the text .shutil.rmtree"),
    "foreign function through a caloman module": (
        replace_density({"class_path": "caloman.bundle.shutil.rmtree"}), "not a caloman class",
    ),
    "function of caloman": (replace_density({"class_path": "caloman.files.write"}), "not a caloman class"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_bundle_is_refused(folder, damage, message):
    damage(folder)
    with pytest.raises(CalomanError, match=message) as error:
        bundle.load(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["model.safetensors", "geometry.xml"])
def test_files_that_were_exchanged_are_refused(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CalomanError, match=f"{name}: not the file that the bundle was made with"):
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
        *(
            {"files": "all"},
            {"files": [1]},
            {"files": {"../../secret": "0" * 64}},
            {"training": None},
            {"format": "1"},
            {"model": []},
        ),
        *({"training": {"files": files}} for files in (None, 5, ["x"], {"a": 1}, [{}], [{"sha256": "a\0"}])),
        *({"training": {"files": [], "showers": showers}} for showers in ("x", None, 10**30, -1, 1.5, [1])),
        *(energy(range=[0.0, 1e5]), energy(kind="periodic"), energy(unit="GeV"), energy(categories=[1000])),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(folder, values):
    change_config(folder, **values)
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


def test_a_model_without_a_trained_range_is_not_written(small, tmp_path):
    model = bundle.build_model(TINY_MODEL, small, ENERGY_ONLY, tmp_path)
    with pytest.raises(CalomanError, match=r"'incident_energy' has no range or categories of the training; set those"):
        bundle.save(model, TINY_MODEL, {"files": [], "showers": 0}, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
