"""Every kind of model takes conditions beside the energy, from the pipeline to the exported graph."""

import json
from dataclasses import replace
from functools import partial

import h5py
import numpy as np
import pytest
import torch
from conftest import TINY_MODEL
from safetensors.torch import load_file, save_file

import caloman
from caloman import bundle
from caloman.cli import main
from caloman.errors import CalomanError
from caloman.exporting.clients import make_target
from caloman.exporting.command import export
from caloman.exporting.formats import find_format
from caloman.exporting.verify import reference_inputs
from caloman.files import sha256
from caloman.flows import CouplingFlow
from caloman.models import Density, FactorizedShowerModel, LayerEnergyModel
from caloman.preprocessing import GlobalTransform, LayerwiseTransform, LogUniformDequantization
from caloman.preprocessing.conditions import ConditionEncoding
from caloman.rivals import FlowShape, JointDensity, JointShowerModel, LayerwiseShape
from caloman.showers.conditions import ENERGY_ONLY, Conditions, known
from caloman.showers.geometry import Geometry, Layer
from caloman.showers.showers import CHUNK, Showers
from caloman.specification import read_yaml, to_yaml
from caloman.training.data import DataConfig, ShowerDataModule

SEEN = np.array([[1e3, 0.8, 0.0, 3], *([1e4, 1.0, phi, 7] for phi in np.linspace(-3.1, 3.1, 60)), [1e5, 2.2, 0.0, 7]])
GIVEN = Conditions(map(known, ("incident_energy", "theta", "phi", "detector"))).trained(SEEN)
REGULAR = Geometry("regular", "electron", tuple(Layer(i, (0, 2, 4), 4) for i in range(3)), threshold=0.01)
FLOW = partial(CouplingFlow, transforms=2, hidden=8, bins=4)
NOISE = LogUniformDequantization(0.01)
ENERGIES = partial(LayerEnergyModel, flow=FLOW, threshold=0.01)
VOXELS = partial(FlowShape, density=partial(Density, flow=FLOW))
MODELS = {
    "three steps": partial(
        FactorizedShowerModel, transform=partial(LayerwiseTransform, threshold=0.01), shape=VOXELS, energy=ENERGIES
    ),
    "two steps": partial(FactorizedShowerModel, transform=partial(GlobalTransform, threshold=0.01), shape=VOXELS),
    "layer by layer": partial(
        FactorizedShowerModel,
        transform=partial(LayerwiseTransform, threshold=0.01, dequantization=NOISE),
        shape=partial(LayerwiseShape, flow=FLOW),
        energy=ENERGIES,
    ),
    "joint": partial(JointShowerModel, density=partial(JointDensity, flow=FLOW, dequantization=NOISE, threshold=0.01)),
}
DRAWN = {"theta": "uniform:50deg:120deg", "phi": "0.5", "conditions": ["detector=discrete:3=1,7=2"]}


@pytest.fixture
def conditioned(tmp_path, small, randomize):
    """A bundle of a random model under all kinds of conditions."""
    model = randomize(bundle.build_model(TINY_MODEL, small, GIVEN, tmp_path), std=0.2)
    bundle.save(model, TINY_MODEL, {"files": [], "showers": 0}, tmp_path / "conditioned" / "bundle")
    return tmp_path / "conditioned"


def test_columns_that_networks_see():
    encoding = ConditionEncoding(GIVEN)
    given = torch.tensor([[1e3, 0.8, 0.5, 3.0], [1e3, 1.5, 2.0, 7.0], [1e3, 2.2, 2.0, 3.0]])
    columns = encoding.extend(torch.zeros(3, 1), given)[:, 1:]
    assert columns.shape[1] == encoding.size == 5
    expected = [[-1, np.sin(0.5), np.cos(0.5), 1, 0], [0, np.sin(2), np.cos(2), 0, 1], [1, np.sin(2), np.cos(2), 1, 0]]
    torch.testing.assert_close(columns, torch.tensor(expected, dtype=torch.float32), atol=1e-6, rtol=0)


def test_energy_alone_adds_nothing(make_showers, small):
    context = torch.rand(4, 3)
    assert ConditionEncoding(ENERGY_ONLY).extend(context, torch.rand(4, 1)) is context
    showers = make_showers(20, small)
    energies, layers = torch.from_numpy(showers.incident_energies)[:, None], torch.rand(20, 3) * 100
    found = LayerwiseTransform(small, ENERGY_ONLY).context(energies, layers)
    published = torch.cat([(energies + 1e-3).log10(), ((layers + 1e-3) / 1e5).log10() - 1], dim=1)
    assert torch.equal(found, published)


@pytest.mark.parametrize("kind", MODELS)
def test_each_condition_changes_the_showers_of_each_model(kind, randomize):
    model = randomize(MODELS[kind](REGULAR, GIVEN), std=0.3).eval()
    showers = partial(model.sample, np.full(50, 1e4), seed=1)
    given = {"theta": 1.0, "phi": 1.0, "detector": 3}
    voxels = showers(**given).voxels
    assert (voxels > 0).any()
    for name, value in (("theta", 2.0), ("phi", 3.0), ("detector", 7)):
        assert not np.allclose(showers(**{**given, name: value}).voxels, voxels), name
    np.testing.assert_allclose(showers(**{**given, "phi": 1.0 - 2 * np.pi}).voxels, voxels, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(showers(**given).conditions["theta"], np.full(50, 1.0, np.float32))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"theta": 1.0, "phi": 1.0}, "no 'incident_detector'; the model needs incident_energy, theta, phi, detector"),
        ({"theta": 1.0, "phi": 1.0, "detector": 4}, "incident detector 4 is outside the range of the training"),
        ({"theta": 3.0, "phi": 1.0, "detector": 3}, "incident theta 3 rad is outside the range of the training"),
        ({"theta": 60, "phi": 1.0, "detector": 3}, "'incident_theta' of shower 0 is 60 rad; degrees where radians"),
        (
            {"theta": 1, "phi": np.nan, "detector": 3},
            "'incident_phi' of shower 0 is nan rad; conditions must be finite",
        ),
        ({"theta": "60deg", "phi": 1.0, "detector": 3}, "theta needs numbers, one per shower, not '60deg'"),
        ({"theta": [1.0, 1.0, 1.0], "phi": 1.0, "detector": 3}, "has shape .3,. for 2 showers"),
        ({"theta": 1.0, "phi": 1.0, "detector": 3, "eta": 1}, "no condition 'eta'; those of this model are incident_"),
    ],
)
def test_what_cannot_be_asked_for_is_one_sentence(conditioned, given, message):
    with pytest.raises(CalomanError, match=message):
        caloman.load(conditioned).sample([1e4, 2e4], **given)


def test_bundle_lists_conditions(conditioned):
    model = bundle.load(conditioned)
    assert model.conditions == GIVEN
    assert "theta       0.8 to 2.2 rad" in repr(model)
    card = (conditioned / "bundle" / "README.md").read_text()
    assert "- energy: 1000 to 100000 MeV\n- theta: 0.8 to 2.2 rad\n- phi:" in card
    assert "- detector: categories 3, 7" in card


def make_older(folder, energies):
    """Turns a bundle into one from before conditions."""
    config, weights = read_yaml(folder / "config.yaml"), folder / "model.safetensors"
    del config["conditions"]
    save_file({**load_file(weights), "energy_range": torch.tensor(energies)}, weights)
    config["files"]["model.safetensors"] = sha256(weights)
    (folder / "config.yaml").write_text(to_yaml(config))


@pytest.mark.parametrize("energies", [3.0, [], [1e5, 1e2], [0.0, 1e5], [[1e2, 1e5]], [1e2, float("nan")]])
def test_bundle_from_before_conditions_with_odd_energies_is_refused(run, energies):
    make_older(run / "bundle", energies)
    with pytest.raises(CalomanError, match=r"config\.yaml: conditions"):
        bundle.load(run)


def test_bundle_from_before_conditions_has_the_energy_alone(run):
    expected = bundle.load(run).sample([2e3, 5e4], seed=1).voxels
    make_older(run / "bundle", [1e3, 1e5])
    model = bundle.load(run)
    assert model.conditions == Conditions.energies(1e3, 1e5)
    np.testing.assert_array_equal(model.sample([2e3, 5e4], seed=1).voxels, expected)


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ([{"name": "theta"}], "the first has to be incident_energy, not theta"),
        ([{"name": "incident_energy", "range": [5.0, 1.0]}], "needs a finite range, the smaller end first"),
        ([{"name": "incident_energy", "kind": "odd"}], "cannot be the text 'odd'"),
        ("incident_energy", "has to be a list|cannot be the text"),
        ([{"name": "incident_energy"}, {"name": "detector", "kind": "category", "categories": list(range(500))}],
         "at most 100 categories"),
        ([{"name": "incident_energy", "unit": "MeV"}], "'incident_energy' has no range or categories of the training"),
        ([{"name": "incident_energy", "unit": "MeV", "range": [1.0, 5.0]}, {"name": "detector", "kind": "category"}],
         "'detector' has no range or categories of the training"),
        ([{"name": "incident_energy", "unit": "MeV", "range": [1.0, 5.0]}], "does not describe the tensor"),
        ([{"name": "incident_energy", "unit": "GeV"}], "has to be continuous with the unit 'MeV'"),
    ],
)  # fmt: skip
def test_bundle_with_impossible_conditions_is_refused(conditioned, conditions, message):
    path = conditioned / "bundle" / "config.yaml"
    path.write_text(to_yaml({**read_yaml(path), "conditions": conditions}))
    with pytest.raises(CalomanError, match=rf"config\.yaml.*({message})"):
        bundle.load(conditioned)


# ---- generation -------------------------------------------------------------------------------------------------


def test_generated_file_has_conditions_that_depend_on_chunk_and_name_alone(conditioned, small, tmp_path):
    generate = partial(caloman.generate, conditioned, energies="log-uniform:1GeV:100GeV", n=2300, seed=3, **DRAWN)
    generate(tmp_path / "whole.hdf5")
    for index in range(3):
        generate(tmp_path / f"{index}.hdf5", shard=f"{index}/3")
    main(["merge", *(str(tmp_path / name) for name in ("merged.hdf5", "2.hdf5", "0.hdf5", "1.hdf5"))])
    assert (tmp_path / "merged.hdf5").read_bytes() == (tmp_path / "whole.hdf5").read_bytes()
    whole = Showers.load(tmp_path / "whole.hdf5", small)
    theta, detector = whole.conditions["theta"], whole.conditions["detector"]
    assert np.deg2rad(50) <= theta.min() < np.deg2rad(52)
    assert np.deg2rad(118) < theta.max() <= np.deg2rad(120)
    assert set(detector) == {3, 7}
    assert 0.6 < (detector == 7).mean() < 0.73
    assert not np.array_equal(theta[:CHUNK], theta[CHUNK : 2 * CHUNK])
    u = (np.log(whole.incident_energies) - np.log(1e3)) / np.log(100), (theta - np.deg2rad(50)) / np.deg2rad(70)
    assert abs(np.corrcoef(*u)[0, 1]) < 0.1
    stream = caloman.GeneratedShowers(caloman.load(conditioned), "log-uniform:1GeV:100GeV", 3, 1000, 2300,
                                      theta=DRAWN["theta"], phi="0.5", detector="discrete:3=1,7=2")  # fmt: skip
    voxels, given = zip(*stream, strict=True)
    np.testing.assert_array_equal(torch.cat(voxels).numpy(), whole.voxels)
    np.testing.assert_array_equal(torch.cat(given)[:, 1].numpy(), theta)


def test_a_file_tells_all_conditions(conditioned, make_showers, small, rng, tmp_path):
    asked = make_showers(30, small)
    columns = {"theta": rng.uniform(0.9, 2.1, 30), "phi": rng.uniform(-3, 3, 30), "detector": np.full(30, 7)}
    columns = {name: values.astype(np.float32) for name, values in columns.items()}
    energies = rng.uniform(2e3, 9e4, 30).astype(np.float32)
    Showers(energies, asked.voxels, small, columns).save(tmp_path / "in.hdf5")
    caloman.generate(conditioned, tmp_path / "out.hdf5", energies=f"{tmp_path}/in.hdf5[10:25]", phi="1")
    made = Showers.load(tmp_path / "out.hdf5", small)
    np.testing.assert_array_equal(made.incident_energies, energies[10:25])
    np.testing.assert_array_equal(made.conditions["theta"], columns["theta"][10:25])
    np.testing.assert_array_equal(made.conditions["phi"], np.ones(15))
    main(["reconstruct", str(conditioned), str(tmp_path / "out.hdf5"), str(tmp_path / "again.hdf5")])
    again = Showers.load(tmp_path / "again.hdf5", small)
    np.testing.assert_array_equal(again.conditions["theta"], made.conditions["theta"])
    main(["encode", str(conditioned), str(tmp_path / "out.hdf5"), str(tmp_path / "latents.hdf5")])
    with h5py.File(tmp_path / "latents.hdf5") as file:
        np.testing.assert_array_equal(file["incident_theta"][:, 0], made.conditions["theta"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--theta", "1", "--phi", "0"],
            "say at which values, such as --conditions detector=VALUE",
        ),
        (["--theta", "60", "--phi", "0"], "theta '60': 'incident_theta' of shower 0 is 60 rad; degrees where radians"),
        (["--theta", "20deg", "--phi", "0", "--conditions", "detector=3"], "incident theta 0.349066 rad is outside"),
        (["--theta", "1m", "--phi", "0", "--conditions", "detector=3"], "'1m' is not a number; use a list such as 1,2"),
        (["--theta", "1", "--phi", "0", "--conditions", "detector=5"], "incident detector 5 is outside the range"),
        (["--theta", "1", "--phi", "0", "--conditions", "detector=5", "--extrapolate"], "categories 3, 7; ask for"),
        (["--theta", "1", "--phi", "0", "--conditions", "x=5"], "x: no condition of this model"),
        (["--theta", "1", "--phi", "0", "--conditions", "detector"], "use NAME=VALUES, such as detector=3"),
        (["--theta", "1", "--phi", "0", "--conditions", "detector=3", "theta=1.2"], "theta is given twice"),
    ],
)
def test_impossible_requests_are_one_sentence(conditioned, tmp_path, capsys, options, message):
    assert main(["generate", str(conditioned), str(tmp_path / "out.hdf5"), "--energies", "10GeV", *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.hdf5").exists()


def test_a_file_without_a_condition_is_one_sentence(conditioned, run, make_showers, small, tmp_path, capsys):
    showers = make_showers(5, small)
    Showers(np.full(5, 1e4, np.float32), showers.voxels, small).save(tmp_path / "in.hdf5")
    assert main(["generate", str(conditioned), str(tmp_path / "out.hdf5"), "--energies", f"{tmp_path}/in.hdf5"]) == 1
    assert f"{tmp_path}/in.hdf5: no 'incident_theta' in this file; give a file that has some" in capsys.readouterr().err
    assert main(["generate", str(run), str(tmp_path / "out.hdf5"), "--energies", "10GeV", "--theta", "1"]) == 1
    assert "theta: no condition of this model, which has incident_energy" in capsys.readouterr().err
    with pytest.raises(CalomanError, match=r"in\.hdf5: no 'incident_theta'; the model needs incident_energy, theta"):
        ShowerDataModule(small, DataConfig([str(tmp_path / "in.hdf5")]), 0, GIVEN)


# ---- exports ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".pt"])
@pytest.mark.parametrize("noise", ["input", "internal"])
@pytest.mark.filterwarnings("ignore")
def test_conditions_are_inputs_of_exports(conditioned, tmp_path, suffix, noise):
    model, path = bundle.load(conditioned), tmp_path / f"generator{suffix}"
    result = export(model, path, noise=noise)
    assert result.parity.holds(result.rounding)
    manifest = json.loads((tmp_path / f"generator{suffix}.json").read_text())
    tables = ["incident_energies", "incident_theta", "incident_phi", "incident_detector"]
    assert [name for name in manifest["inputs"] if name != "noise"] == tables
    assert manifest["conditions"] == json.loads(json.dumps(GIVEN.plain()))
    if noise == "input":
        drawn, given = reference_inputs(model, 5, seed=2)
        run = find_format(path).read(path)
        columns = [column.contiguous().numpy() for column in given.split(1, dim=1)]
        (showers,) = run(drawn.numpy(), *columns)
        np.testing.assert_allclose(showers.sum(1), model(drawn, given).detach().sum(1), rtol=1e-3)


def test_par04_hands_in_theta(tmp_path, randomize):
    conditions = Conditions(GIVEN[:2])
    model = randomize(bundle.build_model(TINY_MODEL, REGULAR, conditions, tmp_path), std=0.2).eval()
    target = make_target(model, "par04")
    noise, given = reference_inputs(model, 6, seed=1)
    (vector,) = target.arguments(noise, given)
    assert vector.shape[1] == model.noise_dim + 4
    torch.testing.assert_close(vector[:, -3], given[:, 1] / (np.pi / 2))
    expected = target.reorder(model(noise, given)) / given[:, :1]
    torch.testing.assert_close(target(vector), expected)
    for name in ("par04", "fastcalosim"):
        with pytest.raises(CalomanError, match=f"target {name}: this program does not hand in "):
            make_target(MODELS["three steps"](REGULAR, GIVEN), name)


def test_ranges_are_those_of_the_training(small, make_showers, rng, tmp_path):
    showers = make_showers(50, small)
    theta = rng.uniform(1.0, 2.0, 50).astype(np.float32)
    Showers(showers.incident_energies, showers.voxels, small, {"theta": theta}).save(tmp_path / "in.hdf5")
    data = ShowerDataModule(small, DataConfig([str(tmp_path / "in.hdf5")]), 0, Conditions(GIVEN[:2]))
    assert data.conditions[1] == replace(GIVEN[1], range=(float(theta.min()), float(theta.max())))
    given, rows = data.train[:][1], data.train.rows
    np.testing.assert_array_equal(given.numpy(), np.stack([showers.incident_energies, theta], axis=1)[rows])


def test_numbers_that_describe_a_detector_are_conditions(small, make_showers, randomize, tmp_path):
    showers = make_showers(50, small)
    detectors = {"sampling_fraction": np.repeat([0.03, 0.05], 25), "layer_depth": np.repeat([0.4, 1.2], 25)}
    columns = {name: values.astype(np.float32) for name, values in detectors.items()}
    Showers(showers.incident_energies, showers.voxels, small, columns).save(tmp_path / "in.hdf5")
    declared = Conditions(map(known, ("incident_energy", *detectors)))
    trained = ShowerDataModule(small, DataConfig([str(tmp_path / "in.hdf5")]), 0, declared).conditions
    model = randomize(MODELS["two steps"](small, trained), std=0.3).eval()
    energies = np.full(50, showers.incident_energies.mean())
    seen, between = (model.sample(energies, sampling_fraction=0.03, layer_depth=depth).voxels for depth in (0.4, 0.8))
    assert not np.allclose(seen, between)
    with pytest.raises(CalomanError, match=r"incident sampling_fraction 0\.08 is outside .* 0\.03 to 0\.05"):
        model.sample(energies, sampling_fraction=0.08, layer_depth=0.4)
