import json
import sys

import onnx
import pytest
import torch
import yaml
from onnx import TensorProto, helper

from caloman import bundle
from caloman.benchmarking import command
from caloman.benchmarking.command import benchmark, build_rival
from caloman.benchmarking.timing import conditions_at, measure, shares
from caloman.cli import main
from caloman.errors import CalomanError
from caloman.evaluation.leaderboard import entries
from caloman.showers.conditions import ENERGY_ONLY, Conditions
from caloman.showers.geometry import BUILT_IN

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

FEW = {"runs": 2, "showers": 6, "batches": [3, 1]}


@pytest.fixture
def graph(tmp_path):
    """Writes an ONNX file that multiplies its inputs of the given numbers of columns."""

    def write(**columns):
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in columns.items()]
        output = helper.make_tensor_value_info("showers", TensorProto.FLOAT, ["n", None])
        node = helper.make_node("Mul", [next(iter(columns)), list(columns)[-1]], ["showers"])
        model = helper.make_model(
            helper.make_graph([node], "graph", inputs, [output]),
            opset_imports=[helper.make_opsetid("", 18)],
            ir_version=8,
        )
        onnx.save(model, tmp_path / "generator.onnx")
        return tmp_path / "generator.onnx"

    return write


def test_engines_and_exports_are_measured_as_asked(run, graph, tmp_path):
    model = bundle.load(run)
    path = graph(noise=model.noise_dim, incident_energies=1)
    result = benchmark(run, [path], tmp_path / "out", engines=["eager", "ONNX"], **FEW)
    content = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert content == result.content
    found = [(row["engine"], row["batch"], row["showers"]) for row in content["timings"] if row["device"] == "cpu"]
    assert found == [(engine, n, 6) for engine in ("generator.onnx", "eager", "ONNX") for n in (1, 3)]
    for row in content["timings"]:
        assert 0 < row["fastest"] <= row["mean"]
        assert row["processor"] > 0
        assert row["parameters"] == sum(parameter.numel() for parameter in model.parameters())
        assert 0.05 < row["peak_gb"] < 50
    assert content["energies"]["mev"] == pytest.approx([1e3, 1e4, 1e5])
    assert "measured for 1-photons only" in content["notes"][-1]
    assert content["published"] == {}
    assert "generator.onnx" in str(result)


def test_photons_stand_beside_published_generators(config, tmp_path, monkeypatch, run):
    spec = yaml.safe_load(config.read_text())["model"]
    model = bundle.build_model(spec, BUILT_IN["1-photons"], ENERGY_ONLY, config)
    model.conditions = Conditions.energies(1e3, 1e5)
    bundle.save(model, spec, {"files": [], "showers": 0}, tmp_path / "photons")
    monkeypatch.setattr(command, "RIVALS", {"CaloINN": "1-photons/caloinn"})
    monkeypatch.setattr(command, "build_rival", lambda name: bundle.load(run))  # the real ones take seconds to build
    result = benchmark(tmp_path / "photons", output=tmp_path, engines=["eager"], **FEW)
    published = result.content["published"]
    assert published["CaloINN"]["CPU 100"] == list(
        next(e for e in entries("1-photons") if e.name == "CaloINN").time_ms["CPU 100"]
    )
    assert {row["generator"] for row in result.content["timings"]} == {"this run", "CaloINN"}
    assert "of CaloINN's eager" in str(result)


def test_the_caloinn_flow_has_the_published_size():
    model = build_rival("CaloINN")
    published = 18_821_350  # arXiv:2410.21611
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(published, rel=0.01)
    with torch.inference_mode():
        assert model(torch.randn(2, model.noise_dim), conditions_at(model, 2)).shape == (2, 368)


def test_shares_add_up_and_leave_the_model_as_it_was(run):
    model = bundle.load(run)
    found = shares(model, conditions_at(model, 4), runs=2)
    assert sum(found.values()) == pytest.approx(100)
    assert list(found) == ["energy model", "latent flow", "decoder", "inverse transform", "rest"]
    assert all(share > 0 for share in found.values())
    assert not any("forward" in module.__dict__ or "sample" in module.__dict__ for module in model.modules())


def test_a_run_is_made_of_whole_batches(run):
    model, calls = bundle.load(run), []
    timing = measure(lambda noise, energies: calls.append(noise.shape), model, conditions_at(model, 4), 3, showers=9)
    assert timing.showers == 12
    assert calls == [(4, model.noise_dim)] * (1 + 3 * 3)


def test_an_engine_that_cannot_run_is_left_out_with_a_word(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "caloman.exporting.onnx", raising=False)
    import caloman.exporting

    monkeypatch.delattr(caloman.exporting, "onnx", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    result = benchmark(run, output=tmp_path, **FEW)
    assert {row["engine"] for row in result.content["timings"] if row["device"] == "cpu"} == {"eager"}
    compiled, exported, _ = (note for note in result.content["notes"] if "cuda" not in note)
    assert "no C++ compiler" in compiled
    assert "pip install 'caloman[export]'" in exported


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--exports", "nowhere.onnx"], "nowhere.onnx: not an ONNX file"),
        (["--batches", "0"], "--batches 0: must be positive"),
        (["--threads", "1" + 30 * "0"], "must be positive, at most 1024"),
        (["--showers", "1" + 30 * "0"], "must be positive, at most 1000000000"),
        (["--engines", "steam"], "--engines steam: unknown"),
        (["--runs", "0"], "--runs 0: must be positive"),
    ],
)
def test_what_cannot_be_measured_is_refused(run, arguments, word, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", str(run), *arguments]) == 1
    assert word in capsys.readouterr().err
    assert not (tmp_path / "benchmark").exists()


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_measured(run, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_measure_all", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(CalomanError, match=r"file/benchmark\.json"):
        benchmark(run, output=tmp_path / "file")


def test_a_log_names_each_timing_before_it_is_measured(run, tmp_path, caplog):
    caplog.set_level("INFO", logger="caloman")
    benchmark(run, output=tmp_path, engines=["eager"], **FEW)
    assert "benchmark: timing 1 of 3, this run, eager, cpu, batch 1" in caplog.text


def test_an_export_with_other_inputs_is_refused(run, graph, tmp_path, capsys):
    path = graph(incident_energies=1)
    assert main(["benchmark", str(run), "--exports", str(path), "--output", str(tmp_path)]) == 1
    assert "`caloman export`" in capsys.readouterr().err
