import json
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy import special
from test_generation import SPEC

from caloman import bundle
from caloman.cli import main
from caloman.errors import CalomanError
from caloman.export.command import export_model
from caloman.export.formats import FORMATS, find_format
from caloman.export.targets import SAMPLING_FRACTION, make_target
from caloman.export.verify import compare, reference_inputs
from caloman.flows import Transform
from caloman.geometry import Geometry, Layer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

HEADS = {"hurdle": "caloman.manifold.HurdleHead", "gaussian": "caloman.manifold.GaussianHead"}


def spec(head="hurdle"):
    text = json.dumps(SPEC).replace(HEADS["hurdle"], HEADS[head])
    return json.loads(text)


@pytest.fixture
def make(small, randomise, tmp_path):
    """Makes a tiny model for energies of 1 to 100 GeV."""

    def apply(head="hurdle", geometry=small):
        model = randomise(bundle.build_model(spec(head), geometry, tmp_path), std=0.2).eval()
        model.energy_range.copy_(torch.tensor([1e3, 1e5]))
        return model

    return apply


@pytest.fixture
def regular():
    return Geometry("regular", "electron", tuple(Layer(i, (0, 2, 4), 4) for i in range(3)), threshold=0.01)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("head", HEADS)
def test_files_give_the_showers_of_the_model(make, tmp_path, head, suffix):
    model = make(head)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    path = tmp_path / f"generator{suffix}"
    result = export_model(model, path)
    assert result.parity.holds
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    noise, energies = reference_inputs(model, 7, seed=3)
    (showers,) = find_format(path).read(path)(noise.numpy(), energies.numpy())
    with torch.no_grad():
        expected = model(noise, energies).numpy()
    assert compare(expected, showers, model.geometry.voxel_layer).holds
    assert (expected > 0).any()


def test_onnx_file_says_what_it_is(make, tmp_path):
    model = make()
    export_model(model, tmp_path / "generator.onnx")
    proto = onnx.load(tmp_path / "generator.onnx")
    onnx.checker.check_model(proto)
    assert (proto.ir_version, [(o.domain, o.version) for o in proto.opset_import]) == (8, [("", 18)])
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in proto.graph.input}
    assert shapes == {"noise": ["batch", model.noise_dim], "incident_energies": ["batch", 1]}
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    manifest = json.loads((tmp_path / "generator.onnx.json").read_text())
    assert json.loads(metadata["noise_blocks"]) == manifest["noise_blocks"] == model.noise_blocks
    assert json.loads(metadata["energy_range_mev"]) == [1e3, 1e5]
    assert (metadata["units"], metadata["threshold_mev"]) == ("MeV", "0.01")
    assert Geometry.from_text(metadata["geometry"], "metadata") == model.geometry


@pytest.mark.parametrize(("suffix", "read"), [(".pt2", torch.export.load), (".pt", torch.jit.load)])
def test_torch_files_carry_the_manifest(make, tmp_path, suffix, read):
    path = tmp_path / f"generator{suffix}"
    export_model(make(), path)
    extra = {"manifest.json": ""}
    read(str(path), **{"extra_files" if suffix == ".pt2" else "_extra_files": extra})
    assert json.loads(extra["manifest.json"])["units"] == "MeV"


@pytest.mark.parametrize("suffix", FORMATS)
def test_reference_beside_the_file(make, tmp_path, suffix):
    path = tmp_path / f"generator{suffix}"
    export_model(make(), path)
    reference = np.load(tmp_path / f"generator{suffix}.reference.npz")
    raw = np.fromfile(tmp_path / f"generator{suffix}.reference.bin", "<f4")
    assert np.array_equal(raw, np.concatenate([reference[key].ravel() for key in reference.files]))
    assert reference["showers"].shape == (1000, 16)


def test_graph_with_noise_of_its_own(make, tmp_path):
    path = tmp_path / "generator.onnx"
    model = make()
    assert export_model(model, path, noise="internal").parity.holds
    run = find_format(path).read(path)
    energies = np.full((400, 1), 1e4, np.float32)
    (a, noise), (b, _) = run(energies), run(energies)
    assert not np.array_equal(a, b)
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05


def test_par04_vector_and_order(make, regular):
    model = make(geometry=regular)
    noise, energies = reference_inputs(model, 5, seed=1)
    vector = torch.cat([noise, energies / 1_024_000, torch.rand(5, 1), torch.tensor([[0.0, 1.0]]).expand(5, 2)], dim=1)
    with torch.no_grad():
        fractions, showers = make_target(model, "par04")(vector), model(noise, energies)
    index = {}
    for z, layer in enumerate(regular.layers):
        for i, (r, alpha) in enumerate(zip(layer.r, layer.alpha, strict=True)):
            index[round(r, 6), round(alpha, 6), z] = regular.layer_slices[z].start + i
    position = 0
    for r in (1.0, 3.0):
        for j in range(4):
            for z in range(3):
                voxel = showers[:, index[r, round((j + 0.5) * 2 * np.pi / 4 - np.pi, 6), z]]
                expected = voxel * SAMPLING_FRACTION / energies[:, 0]
                torch.testing.assert_close(fractions[:, position], expected, rtol=1e-5, atol=0)
                position += 1
    assert position == fractions.shape[1]


@pytest.mark.parametrize(("target", "inputs"), [
    ("par04", ["input"]),
    ("ddml", ["noise", "incident_energies"]),
    ("atlas", ["inn_eta_in", "inn_einc_in", "cfm_z_shape", "inn_z_energy"]),
])  # fmt: skip
def test_targets_have_inputs_and_snippets_of_their_own(make, regular, tmp_path, target, inputs):
    path = tmp_path / "generator.onnx"
    assert export_model(make(geometry=regular), path, target=target).parity.holds
    session = onnxruntime.InferenceSession(path)
    assert [i.name for i in session.get_inputs()] == inputs
    snippets = [p for p in tmp_path.glob("generator.onnx.*") if p.suffix in (".mac", ".py", ".h", ".md")]
    assert snippets
    assert any("generator.onnx" in p.read_text() for p in snippets)


@pytest.mark.parametrize(("options", "message"), [
    ({"target": "gauss"}, "calochallenge, par04"),
    ({"file": "a.h5"}, "suffix"),
    ({"target": "par04"}, "equal layers"),
    ({"target": "atlas", "noise": "internal"}, "--noise"),
    ({"noise": "none"}, "internal"),
])  # fmt: skip
def test_what_cannot_be_exported_is_refused(make, tmp_path, options, message):
    with pytest.raises(CalomanError, match=message) as error:
        export_model(make(), **{"file": tmp_path / "a.onnx", **options})
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_sampler_that_has_no_graph_is_refused_with_its_reason(make, tmp_path, monkeypatch):
    monkeypatch.setattr(Transform, "why_not_exportable", "it samples in D passes; export its student")
    with pytest.raises(CalomanError, match="export its student"):
        export_model(make(), tmp_path / "a.onnx")


def test_file_that_differs_is_not_left_behind(make, tmp_path, monkeypatch):
    good = FORMATS[".pt"]
    monkeypatch.setitem(
        FORMATS, ".pt", good._replace(read=lambda path: lambda n, e: [good.read(path)(n, e)[0] * 1.001])
    )
    with pytest.raises(CalomanError, match="does not give the showers"):
        export_model(make(), tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


def test_missing_package_names_the_extra(make, tmp_path):
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from caloman.export.formats import read_onnx\nread_onnx('a.onnx')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "caloman[export]" in result.stderr.splitlines()[-1]


def test_command(make, tmp_path, capsys):
    bundle.save(make(), SPEC, {"files": [{"name": "a", "sha256": "0"}], "showers": 3}, tmp_path / "run" / "bundle")
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "a.pt")]) == 0
    text = capsys.readouterr().out
    assert "agrees with the model" in text
    assert "batch 1000" in text
    assert json.loads((tmp_path / "a.pt.json").read_text())["training"]["showers"] == 3


@pytest.mark.parametrize(("function", "exact", "inputs", "rtol"), [
    ("erfc", special.erfc, np.linspace(-5, 5, 10001), 3e-6),
    ("sigmoid", special.expit, np.linspace(-80, 80, 10001), 1e-5),
    ("ndtri", special.ndtri, np.concatenate([np.logspace(-8, -1, 5001), np.linspace(0.1, 1 - 1e-6, 5001)]), 1e-5),
])  # fmt: skip
def test_operators_against_scipy(function, exact, inputs, rtol):
    from caloman.export import operators

    class Function(torch.nn.Module):
        def forward(self, x):
            return {"erfc": torch.erfc, "sigmoid": torch.sigmoid, "ndtri": torch.special.ndtri}[function](x)

    x = torch.from_numpy(inputs.astype(np.float32))
    program = torch.onnx.export(
        Function(), (x,), opset_version=18, dynamo=True, verbose=False, custom_translation_table=operators.TRANSLATIONS
    )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, exact(x.double().numpy()), rtol=rtol, atol=3e-7 if function == "ndtri" else 0)
