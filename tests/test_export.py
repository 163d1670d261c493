import json
import os
import shutil
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import FLOW as FULL_FLOW
from conftest import TINY_MODEL
from scipy import special, stats

from caloman import bundle
from caloman.cli import main
from caloman.errors import CalomanError
from caloman.exporting import fastcalosim
from caloman.exporting.clients import make_target
from caloman.exporting.command import export
from caloman.exporting.fastcalosim import more_normals
from caloman.exporting.formats import FORMATS, find_format
from caloman.exporting.verify import compare, reference_inputs
from caloman.files import md5
from caloman.flows import Transform
from caloman.showers.conditions import ENERGY_ONLY, Conditions, known
from caloman.showers.geometry import Geometry, Layer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

FLOW = {"class_path": "caloman.flows.CouplingFlow", "init_args": {"transforms": 1, "hidden": 4, "blocks": 1, "bins": 3}}
HEADS = ["HurdleHead", "GaussianHead"]
MESHES = {
    "small": Geometry("small", "photon", (Layer(0, (0, 1, 3)), Layer(1, (0, 1, 2, 4), 4)), threshold=0.01),
    "regular": Geometry("regular", "electron", tuple(Layer(i, (0, 2, 4), 4) for i in range(3)), threshold=0.01),
}


def make_spec(head):
    text = json.dumps(TINY_MODEL).replace(json.dumps(FULL_FLOW), json.dumps(FLOW))
    return json.loads(text.replace("HurdleHead", head))


def make_model(head="HurdleHead", mesh="small"):
    """A tiny random model for energies of 1 to 100 GeV."""
    torch.manual_seed(1)
    model = bundle.build_model(make_spec(head), MESHES[mesh], ENERGY_ONLY, Path("spec")).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.energy.coordinates.shares.edges.fill_(0.6)
    model.energy.coordinates.shares.limits.fill_(0.8)
    model.conditions = Conditions.energies(1e3, 1e5)
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Exports each combination once, for all tests: model, file and result."""

    @cache
    def apply(suffix, head="HurdleHead", noise="input"):
        path = tmp_path_factory.mktemp("export") / f"generator{suffix}"
        model = make_model(head)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model, path, export(model, path, noise=noise)

    return apply


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("head", HEADS)
def test_files_give_the_showers_of_the_model(exported, head, suffix):
    model, path, result = exported(suffix, head)
    assert result.parity.holds(result.rounding)
    untouched = make_model(head)
    states = zip(model.state_dict().values(), untouched.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)
    noise, energies = reference_inputs(model, 7, seed=3)
    (showers,) = find_format(path).read(path)(noise.numpy(), energies.numpy())
    with torch.no_grad():
        expected = untouched(noise, energies).numpy()
    assert compare(expected, showers, model.geometry.voxel_layer).holds(result.rounding)
    assert (expected > 0).any()


def test_a_manifold_of_fixed_coordinates_is_exported(tmp_path):
    geometry = MESHES["small"]
    spec = make_spec("HurdleHead")
    shape = {
        "autoencoder": {
            "class_path": "caloman.manifold.CoarseManifold",
            "init_args": {"zones": [1], "hidden": 4, "cores": True},
        },
        "density": {
            "class_path": "caloman.manifold.CoarseDensity",
            "init_args": {"steps": geometry.n_layers, "hidden": 4, "bins": 3, "window": 1},
        },
    }
    spec["init_args"]["shape"] = {"class_path": "caloman.models.ManifoldShape", "init_args": shape}
    spec["init_args"]["transform"] = {"class_path": "caloman.preprocessing.LayerwiseTransform"}
    torch.manual_seed(1)
    model = bundle.build_model(spec, geometry, ENERGY_ONLY, Path("spec")).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.conditions = Conditions.energies(1e3, 1e5)
    result = export(model, tmp_path / "coarse.onnx")
    assert result.parity.holds(result.rounding)


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_a_few_entries_of_an_autoregressive_flow_are_passes_of_a_graph(tmp_path, suffix):
    flow = {"class_path": "caloman.flows.AutoregressiveFlow", "init_args": {"transforms": 1, "hidden": 6, "bins": 3}}
    spec = make_spec("HurdleHead")
    spec["init_args"]["energy"]["init_args"]["flow"] = flow
    model = bundle.build_model(spec, MESHES["small"], ENERGY_ONLY, Path("spec")).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.eval().conditions = Conditions.energies(1e3, 1e5)  # evaluation applies the masks
    result = export(model, tmp_path / f"a{suffix}")
    assert result.parity.holds(result.rounding)


def test_onnx_file_says_what_it_is(exported):
    model, path, _ = exported(".onnx")
    proto = onnx.load(path)
    onnx.checker.check_model(proto)
    assert (proto.ir_version, [(o.domain, o.version) for o in proto.opset_import]) == (8, [("", 18)])
    shapes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in proto.graph.input}
    assert shapes == {"noise": ["batch", model.noise_dim], "incident_energies": ["batch", 1]}
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    manifest = json.loads(Path(f"{path}.json").read_text())
    assert json.loads(metadata["noise_blocks"]) == manifest["noise_blocks"] == model.noise_blocks
    assert json.loads(metadata["conditions"])[0]["range"] == [1e3, 1e5]
    assert json.loads(metadata["needs"]) == manifest["needs"] == {"opset": 18, "ir_version": 8}
    assert (metadata["units"], metadata["threshold_mev"]) == ("MeV", "0.01")
    assert Geometry.from_text(metadata["geometry"], "metadata") == model.geometry


@pytest.mark.parametrize(("suffix", "read", "option"), [
    (".pt2", torch.export.load, "extra_files"),
    (".pt", torch.jit.load, "_extra_files"),
])  # fmt: skip
def test_torch_files_carry_the_manifest(exported, suffix, read, option):
    extra = {"manifest.json": ""}
    read(str(exported(suffix)[1]), **{option: extra})
    manifest = json.loads(extra["manifest.json"])
    assert (manifest["units"], manifest["needs"]) == ("MeV", {"torch": torch.__version__})


@pytest.mark.parametrize("suffix", FORMATS)
def test_reference_beside_the_file(exported, suffix):
    model, path, _ = exported(suffix)
    reference = np.load(f"{path}.reference.npz")
    raw = np.fromfile(f"{path}.reference.bin", "<f4")
    assert reference.files == ["noise", "incident_energies", "showers"]
    assert np.array_equal(raw, np.concatenate([reference[key].ravel() for key in reference.files]))
    assert reference["showers"].shape == (1000, model.geometry.n_voxels)


def test_a_shower_without_an_energy_is_nan_and_too_few_normals_are_refused_by_name(exported):
    model, path, _ = exported(".onnx")
    run, (noise, energies) = find_format(path).read(path), reference_inputs(model, 4, seed=5)
    (good,) = run(noise.numpy(), energies.numpy())
    energies[1], energies[2] = np.nan, -5
    (showers,) = run(noise.numpy(), energies.numpy())
    assert np.isnan(showers[1:3]).all()
    np.testing.assert_array_equal(showers[[0, 3]], good[[0, 3]])
    with pytest.raises(Exception, match=f"noise .*\n.*Got: {model.noise_dim - 1} Expected: {model.noise_dim}"):
        run(noise[:, 1:].numpy(), energies.numpy())


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
def test_graph_with_noise_of_its_own(exported, suffix):
    _, path, result = exported(suffix, noise="internal")
    assert result.parity.holds(result.rounding)
    run = find_format(path).read(path)
    energies = np.full((4000, 1), 1e4, np.float32)
    (a, noise), (b, _) = run(energies), run(energies)
    assert not np.array_equal(a, b)
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05


@cache
def make_inclined(detectors):
    """A tiny random model of a regular mesh that knows angles and detector."""
    named = Conditions([*ENERGY_ONLY, known("theta"), known("phi"), known("detector")])
    model = bundle.build_model(make_spec("HurdleHead"), MESHES["regular"], named, Path("spec")).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    trained = [[1e3, 0.87, -np.pi, detectors[0]], [1e5, 2.27, np.pi, detectors[-1]]]
    model.conditions = named.trained(np.array(trained, np.float32))
    return model


def cells_of(showers, geometry):
    """Voxels (N, V) in the order of Par04, found by where they are."""
    index = {}
    for z, layer in enumerate(geometry.layers):
        for i, (r, alpha) in enumerate(zip(layer.r, layer.alpha, strict=True)):
            index[round(r, 6), round(alpha, 6), z] = geometry.layer_slices[z].start + i
    n_alpha = geometry.layers[0].n_alpha
    angles = [round((j + 0.5) * 2 * np.pi / n_alpha - np.pi, 6) for j in range(n_alpha)]
    return showers[:, [index[r, a, z] for r in (1.0, 3.0) for a in angles for z in range(geometry.n_layers)]]


def test_par04_vector_and_order(monkeypatch):
    monkeypatch.setattr(Geometry, "deposit", 0.033)
    model = make_model(mesh="regular")
    noise, energies = reference_inputs(model, 5, seed=1)
    vector = torch.cat([noise, energies / 1_024_000, torch.rand(5, 1), torch.tensor([[0.0, 1.0]]).expand(5, 2)], dim=1)
    with torch.no_grad():
        fractions, showers = make_target(model, "par04")(vector), model(noise, energies)
    torch.testing.assert_close(fractions, cells_of(showers, model.geometry) * 0.033 / energies, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("target", "kind", "detector"), [("par04", "VAE", 1), ("par04-calodit", "CaloDiT-2", 0)])
def test_par04_gets_the_showers_of_the_model(tmp_path, target, kind, detector):
    model, path = make_inclined((0, 1)), tmp_path / "generator.onnx"
    if target == "par04":  # it hands in no phi
        model = make_model(mesh="regular")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = export(model, path, target=target)
    theta, phi = 1.2, -0.4
    run_cpp("par04", path, kind, model.noise_dim, model.geometry.n_voxels, 5e3, theta, phi, 50, tmp_path / "record")
    record = torch.from_numpy(np.fromfile(tmp_path / "record", "<f4").reshape(50, -1))
    if kind == "VAE":
        noise, cells = record[:, : model.noise_dim], record[:, -model.geometry.n_voxels :]
        conditions = torch.full((50, 1), 5e3)
    else:
        noise, cells = record[:, -model.noise_dim :], record[:, 8 : -model.noise_dim]
        conditions = torch.tensor([[5e3, theta, phi, detector]]).expand(50, -1)
        assert abs(noise.std() - 1) < 0.2
    with torch.no_grad():
        expected = cells_of(model(noise, conditions), model.geometry)
    layer = cells_of(torch.from_numpy(model.geometry.voxel_layer)[None], model.geometry)[0]
    assert compare(expected.numpy(), cells.numpy(), layer.numpy()).holds(result.rounding)
    assert (cells > 0).any()
    macro = Path(f"{path}.par04.mac").read_text()
    assert f"setModelType {kind}" in macro
    assert ("setSizeLatentVector" in macro) == (kind == "VAE")


def test_detectors_have_places_in_the_vector_of_par04():
    numbers = make_target(make_inclined((0, 4)), "par04-calodit")
    conditions = torch.tensor([[1e4, 1.0, 0.0, 4.0], [1e4, 1.0, 0.0, 0.0]])
    (vector,) = numbers.arguments(torch.zeros(2, 1), conditions)
    torch.testing.assert_close(vector, torch.tensor([[10, 0, 1, 0, 0, 0, 0, 1.0], [10, 0, 1, 1, 0, 0, 0, 0]]))
    noise = torch.randn(2, numbers.model.noise_dim)
    with torch.no_grad():
        expected = numbers.reorder(numbers.model(noise, conditions)) / 1000
        torch.testing.assert_close(numbers.given(noise, conditions), expected)
    with pytest.raises(CalomanError, match="detectors of this model are 0, 7, and Par04 has places for 0 to 4"):
        make_target(make_inclined((0, 7)), "par04-calodit")
    with pytest.raises(CalomanError, match="does not hand in 'phi'"):
        make_target(make_inclined((0, 1)), "par04")


@pytest.mark.parametrize(("target", "inputs"), [
    ("ddml", ["noise", "incident_energies"]),
    ("fastcalosim", ["inn_eta_in", "inn_einc_in", "cfm_z_shape", "inn_z_energy"]),
])  # fmt: skip
def test_targets_have_inputs_and_snippets_of_their_own(tmp_path, target, inputs):
    path = tmp_path / "generator.pt"
    export(make_model(mesh="regular"), path, target=target)
    assert list(json.loads(Path(f"{path}.json").read_text())["inputs"]) == inputs
    snippets = [p for p in tmp_path.glob("generator.pt.*") if p.suffix in (".mac", ".py", ".h", ".md")]
    assert any("generator.pt" in p.read_text() for p in snippets)
    if target == "ddml":
        assert Path(f"{path}.md5").read_text().split() == [md5(path)]


def test_par04_reads_onnx_only(tmp_path):
    with pytest.raises(CalomanError, match=r"a\.pt: the program of target par04 reads \.onnx"):
        export(make_model(mesh="regular"), tmp_path / "a.pt", target="par04")


STUBS = {
    "DDML/ModelInterface.h": """
        #include <vector>
        class G4FastTrack; class G4ThreeVector;
        namespace dd4hep { namespace sim { class Geant4Action; } }
        namespace ddml {
        struct SpacePoint { double x, y, z, energy, time; SpacePoint(double x, double y, double z, double e, double t)
            : x(x), y(y), z(z), energy(e), time(t) {} };
        using SpacePointVec = std::vector<SpacePoint>;
        using InputVecs = std::vector<std::vector<float>>; using TensorDimVecs = std::vector<std::vector<long>>;
        struct ModelInterface {
          virtual ~ModelInterface() = default;
          virtual void declareProperties(dd4hep::sim::Geant4Action*) = 0;
          virtual void prepareInput(G4FastTrack const&, G4ThreeVector const&, InputVecs&, TensorDimVecs&,
                                    std::vector<float>&) = 0;
          virtual void convertOutput(G4FastTrack const&, G4ThreeVector const&, const std::vector<float>&,
                                     std::vector<SpacePointVec>&) = 0;
        };
        }""",
    "CLHEP/Random/RandGauss.h": "namespace CLHEP { constexpr double MeV = 1, mm = 1;"
    " struct RandGauss { static double shoot(double, double) { return 0; } }; }",
    "G4FastTrack.hh": "struct Track { double GetKineticEnergy() const { return 1; } };"
    "class G4ThreeVector {};"
    "struct G4FastTrack { Track track; Track const* GetPrimaryTrack() const { return &track; } };",
    "main.cpp": """
        #include "model.h"
        #include <cstdio>
        int main() {
          G4FastTrack track; G4ThreeVector vector; ddml::InputVecs inputs; ddml::TensorDimVecs dims;
          std::vector<float> output; std::vector<ddml::SpacePointVec> layers;
          ddml::Caloman model;
          model.prepareInput(track, vector, inputs, dims, output);
          for (size_t i = 0; i < output.size(); ++i) output[i] = i + 1;
          model.convertOutput(track, vector, output, layers);
          for (size_t i = 0; i < layers.size(); ++i)
            for (auto& point : layers[i]) std::printf("%zu %.9g %.9g %g\\n", i, point.x, point.y, point.energy);
        }""",
}
"""As much of DDML and Geant4 as the header needs."""


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("mesh", MESHES)
def test_the_header_for_ddml_puts_each_voxel_where_it_is(tmp_path, mesh):
    (tmp_path / "content").touch()
    make_target(make_model(mesh=mesh), "ddml").write_beside(tmp_path / "generator.pt", tmp_path / "content")
    (tmp_path / "generator.pt.ddml_model.h").rename(tmp_path / "model.h")
    for name, text in STUBS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    command = ["c++", "-std=c++17", f"-I{tmp_path}", tmp_path / "main.cpp", "-o", tmp_path / "main"]
    subprocess.run(command, check=True)
    found = np.loadtxt(
        subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout.split("\n")
    )
    layers, geometry = MESHES[mesh].layers, MESHES[mesh]
    r, alpha = (np.concatenate([getattr(layer, name) for layer in layers]) for name in ("r", "alpha"))
    expected = np.stack(
        [geometry.voxel_layer, r * np.cos(alpha), r * np.sin(alpha), np.arange(1, geometry.n_voxels + 1)], axis=1
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_log_names_each_step_before_it_is_done(tmp_path, caplog):
    caplog.set_level("INFO", logger="caloman")
    export(make_model(), tmp_path / "a.pt")
    assert "export: step 1 of 3, write the graph" in caplog.text


@pytest.mark.parametrize(("options", "message"), [
    ({"target": "gauss"}, "calochallenge, par04"),
    ({"output": "a.h5"}, "suffix"),
    ({"target": "par04"}, "equal layers"),
    ({"target": "fastcalosim", "noise": "internal"}, "--noise"),
    ({"noise": "none"}, "internal"),
    ({"seed": -1}, "--seed -1"),
    ({"seed": 2**63}, "--seed 9223372036854775808"),
])  # fmt: skip
def test_what_cannot_be_exported_is_refused(tmp_path, options, message):
    with pytest.raises(CalomanError, match=message) as error:
        export(make_model(), **{"output": tmp_path / "a.onnx", **options})
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_sampler_that_has_no_graph_is_refused_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(Transform, "sampling_passes", 11)
    with pytest.raises(CalomanError, match="export its student"):
        export(make_model(), tmp_path / "a.onnx")


def test_file_that_differs_is_not_left_behind(tmp_path, monkeypatch):
    good = FORMATS[".pt"]
    monkeypatch.setitem(
        FORMATS, ".pt", good._replace(read=lambda path: lambda n, e: [good.read(path)(n, e)[0] * 1.001])
    )
    with pytest.raises(CalomanError, match="does not give the showers"):
        export(make_model(), tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_a_full_disk_is_one_sentence(tmp_path, suffix, full_disk):
    with full_disk(5000), pytest.raises(CalomanError, match="cannot be written"):
        export(make_model(), tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_missing_package_names_the_extra(tmp_path):
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from caloman.exporting.formats import read_onnx\nread_onnx('a.onnx')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "caloman[export]" in result.stderr.splitlines()[-1]


def test_command(tmp_path, capsys):
    bundle.save(
        make_model(),
        make_spec("HurdleHead"),
        {"files": [{"name": "a", "sha256": "0"}], "showers": 3},
        tmp_path / "run" / "bundle",
    )
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "a.onnx")]) == 0
    text = capsys.readouterr().out
    assert "gives the showers of the model" in text
    assert "batch 1000" in text
    assert json.loads((tmp_path / "a.onnx.json").read_text())["training"]["showers"] == 3


@pytest.mark.parametrize(("function", "exact", "inputs", "rtol"), [
    ("erfc", special.erfc, np.linspace(-5, 5, 10001), 3e-6),
    ("sigmoid", special.expit, np.linspace(-80, 80, 10001), 1e-5),
    ("ndtri", special.ndtri, np.concatenate([np.logspace(-8, -1, 5001), np.linspace(0.1, 1 - 1e-6, 5001)]), 1e-5),
])  # fmt: skip
def test_operators_against_scipy(function, exact, inputs, rtol):
    from caloman.exporting import operators

    class Function(torch.nn.Module):
        def forward(self, x):
            return {"erfc": torch.erfc, "sigmoid": torch.sigmoid, "ndtri": torch.special.ndtri}[function](x)

    x = torch.from_numpy(inputs.astype(np.float32))
    program = torch.onnx.export(
        Function().eval(),
        (x,),
        opset_version=18,
        dynamo=True,
        verbose=False,
        custom_translation_table=operators.TRANSLATIONS,
    )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, exact(x.double().numpy()), rtol=rtol, atol=3e-7 if function == "ndtri" else 0)


def run_cpp(*arguments):
    """Runs one of the C++ clients, or skips the test where they cannot be built."""
    script = Path(__file__).parent.parent / "scripts" / "cpp_client" / "run"
    environment = {**os.environ, "PYTHON": sys.executable}
    command = [shutil.which("bash"), script, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode == 77:
        pytest.skip(result.stderr.strip())
    assert result.returncode == 0, result.stderr
    return result


def test_cpp_client_repeats_the_reference(exported):
    result = run_cpp(exported(".onnx")[1], "1000", "50000")
    assert "1000 showers" in result.stdout
    assert result.stdout.count("MeV deposited") == 2


def test_fastcalosim_gets_the_showers_of_the_model(tmp_path):
    model, path = make_model(), tmp_path / "generator.onnx"
    result = export(model, path, target="fastcalosim")
    geometry = model.geometry
    boundaries = np.cumsum([0, *geometry.layer_sizes])
    layers = [layer.id for layer in geometry.layers]
    lists = (",".join(map(str, part)) for part in (boundaries, layers))
    run_cpp("fastcalosim", path, *lists, -0.2, 5e3, 50, tmp_path / "record")
    record = torch.from_numpy(np.fromfile(tmp_path / "record", "<f4").reshape(50, -1))
    shape, energy, showers = record.split([geometry.n_voxels, geometry.n_layers, geometry.n_voxels], dim=1)
    at = torch.full((50, 1), 5e3)
    target = make_target(model, "fastcalosim")
    assert target.missing > 0
    with torch.no_grad():
        expected = target(at, at, shape, energy)
    assert compare(expected.numpy(), showers.numpy(), geometry.voxel_layer).holds(result.rounding)
    assert (showers > 0).any()


def make_noisy(voxels, noise, energy=True):
    """A model of one layer that asks for noise, with or without an energy block."""
    model = make_model()
    model.geometry = Geometry("flat", "photon", (Layer(0, tuple(range(voxels + 1))),), threshold=0.01)
    model.noise_blocks = {"energy": 1, "decoder": noise - 1} if energy else {"decoder": noise}
    return model


@pytest.mark.parametrize(("make", "message"), [
    (lambda: make_noisy(200, 100, energy=False), "has no energy model; train with one"),
    (lambda: make_noisy(20, 100), "the digits of 20 normal numbers are too few for the 79 more"),
    (lambda: make_inclined((0, 1)), "does not hand in 'phi'"),
])  # fmt: skip
def test_fastcalosim_refuses_models_that_it_hands_too_little(make, message):
    with pytest.raises(CalomanError, match=f"target fastcalosim: .*{message}") as error:
        make_target(make(), "fastcalosim")
    assert "\n" not in str(error.value)


def test_fastcalosim_finds_each_voxel_in_the_binning(tmp_path):
    model, path = make_model(), tmp_path / "generator.pt"
    make_target(model, "fastcalosim").write_beside(path, path)
    with h5py.File(f"{path}.binning.hdf5") as file:
        for layer in model.geometry.layers:
            for name, expected in {"radius": layer.r, "alpha": layer.alpha}.items():
                start, size = (file[f"bin{kind}_{name}_layer_{layer.id}"][:] for kind in ("start", "size"))
                np.testing.assert_allclose(start + size / 2, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("given", "n"), [(2, 1), (32, 20)])
def test_low_digits_are_normal_and_independent_of_all_other_numbers(given, n, rng):
    normals = rng.standard_normal((2 * 10**5, given), np.float32)
    more = more_normals(torch.from_numpy(normals), n).numpy()
    for one in more.T[:3]:
        assert stats.kstest(one, "norm").pvalue > 1e-4
    for other in [*normals.T[:3], *more.T[1:4]]:
        table, *_ = np.histogram2d(*(special.ndtr(x) for x in (more[:, 0], other)), bins=20, range=[[0, 1], [0, 1]])
        assert stats.chisquare(table.ravel()).pvalue > 1e-4


def test_further_normals_of_pions_are_independent_five_by_five():
    """Sums of words are uniform together unless their words cancel: then the sum of as many keys is zero."""
    terms = fastcalosim._terms(266, 3878).numpy()[:2000]
    keys = np.random.default_rng(0).integers(1, 2**63, size=266)
    sums = np.bitwise_xor.reduce(keys[terms], axis=1)
    first, second = np.triu_indices(len(sums), 1)
    assert np.diff(np.sort(sums[first] ^ sums[second])).all()
    assert terms.shape[1] % 2, "an odd number of sums has an odd number of words"


@pytest.mark.parametrize("flow", ["FlowMatching", "TransformerCouplingFlow"])
def test_transformers_are_exported(flow, tmp_path):
    mesh = {"shape": [3, 4, 2], "patch": [1, 2, 2], "hidden": 12, "depth": 1, "heads": 2}
    network = {"class_path": "caloman.rivals.PatchTransformer", "init_args": mesh}
    settings = {"network": network, "steps": 1} if flow == "FlowMatching" else {**mesh, "transforms": 2}
    flow = {"class_path": f"caloman.rivals.{flow}", "init_args": settings}
    spec = make_spec("HurdleHead")
    spec["init_args"]["shape"] = {
        "class_path": "caloman.rivals.CopulaShape",
        "init_args": {"density": {"class_path": "caloman.models.Density", "init_args": {"flow": flow}}},
    }
    model = bundle.build_model(spec, MESHES["regular"], ENERGY_ONLY, Path("spec")).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.conditions = Conditions.energies(1e3, 1e5)
    result = export(model, tmp_path / "generator.onnx")
    assert result.parity.holds(result.rounding)
