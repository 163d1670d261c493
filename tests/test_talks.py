"""Pages of the talks: what they show is what the committed data say, and bad input is refused by name."""

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

from caloman.demonstrations.results import ResultFile, show, spread
from caloman.errors import CalomanError

PAGES = ROOT / "docs" / "talks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module


def copied(tmp_path, name):
    for suffix in (".md", ".json"):
        (tmp_path / name).with_suffix(suffix).write_bytes((PAGES / name).with_suffix(suffix).read_bytes())
    return ResultFile(tmp_path / f"{name}.json")


def defaults(module):
    return {name: module.parser().get_default(name) for name in module.SETTINGS}


def test_pages_show_the_committed_data(script, tmp_path):
    density, manifold, dequantization = map(
        script, ("benchmark_density", "benchmark_manifold", "benchmark_dequantization")
    )
    density.density_report.write_page(copied(tmp_path, "density"), defaults(density))
    rows = copied(tmp_path, "manifolds").find({"settings": defaults(manifold)})
    manifold.manifold_report.write_page(tmp_path / "manifolds.md", rows)
    rows = copied(tmp_path, "dequantization").find({"settings": defaults(dequantization)})
    show(tmp_path / "dequantization.md", "dequantization", dequantization.table(rows))
    for page in tmp_path.glob("*.md"):
        assert page.read_text() == (PAGES / page.name).read_text()
    for figure in tmp_path.glob("*.png"):
        assert figure.read_bytes().startswith(b"\x89PNG")
        assert (PAGES / figure.name).is_file()


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("benchmark_density", ["--dimensions", "1"], "'1' is no number of dimensions from 2 to 1000"),
        ("benchmark_density", ["--dimensions", "four"], "'four' is no number of dimensions"),
        ("benchmark_density", ["--flows", "NICE"], "invalid choice: 'NICE'"),
        ("benchmark_density", ["--target", "moons"], "invalid choice: 'moons'"),
        ("benchmark_density", ["--test", "10000"], "'10000' is no multiple of 10000, at least twice that"),
        ("benchmark_manifold", ["--toys", "torus"], "invalid choice: 'torus'"),
        ("benchmark_manifold", ["--methods", "OT"], "invalid choice: 'OT'"),
        ("benchmark_dequantization", ["--dequantizations", "argmax"], "invalid choice: 'argmax'"),
    ],
)
def test_unknown_names_are_refused(script, capsys, name, arguments, said):
    with pytest.raises(SystemExit):
        script(name).parser().parse_args(arguments)
    assert said in capsys.readouterr().err


def test_results_go_on_where_they_stopped(tmp_path):
    path = tmp_path / "results.json"
    ResultFile(path).add({"flow": "MAF", "settings": {"bound": 4.0}, "KL": (np.float64(1 / 3), 0.1)})
    again = ResultFile(path)
    assert again.find({"flow": "MAF", "settings": {"bound": 4.0}})[0]["KL"] == [0.333333, 0.1]
    assert again.find({"flow": "MAF", "settings": {"bound": 5.0}}) == []
    again.add({"flow": "NICE"})
    assert [row["flow"] for row in json.loads(path.read_text())] == ["MAF", "NICE"]


@pytest.mark.parametrize("content", ["", "[{", '{"flow": "MAF"}', "[1]"])
def test_other_files_are_no_results(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(CalomanError, match=r"results\.json is no file of results"):
        ResultFile(path)
    assert path.read_text() == content


def test_tables_take_their_place_in_a_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- a -->\n\n| old |\n\n<!-- end of a -->\n\nafter\n")
    for table in (r"| \1 |", "| new |"):
        show(page, "a", table)
    assert page.read_text() == "before\n\n<!-- a -->\n\n| new |\n\n<!-- end of a -->\n\nafter\n"
    with pytest.raises(CalomanError, match="no place for a table between <!-- b -->"):
        show(page, "b", "")


def test_spreads():
    assert spread([0.123]) == "0.12"
    assert spread([1.0, 2.0, 3.0]) == "2 ± 1"


def test_the_two_layers_have_the_density_of_their_samples(script):
    toy = script("benchmark_dequantization").TwoLayers()
    excess = np.linspace(1e-3, 60, 1500)
    one = np.exp(toy.log_prob(np.stack([1 + excess, np.zeros(1500)], axis=1)))
    assert np.trapezoid(one, excess) == pytest.approx(0.25, abs=1e-3)
    both = np.exp(toy.log_prob(np.stack(np.meshgrid(1 + excess, 1 + excess), axis=-1).reshape(-1, 2)))
    assert np.trapezoid(np.trapezoid(both.reshape(1500, 1500), excess), excess) == pytest.approx(0.5, abs=2e-3)
    x = toy.sample(100_000, seed=0)
    np.testing.assert_allclose(np.bincount(toy.pattern(x)) / len(x), toy.weights, atol=0.006)
    hit = x[toy.pattern(x) == 3]
    np.testing.assert_allclose(np.log(hit - 1).mean(axis=0), [2.0, 1.5], atol=0.01)


@pytest.mark.parametrize("name", ["uniform", "log-uniform", "log-normal"])
def test_the_bound_stays_below_the_truth_and_samples_have_zeros(script, name):
    benchmark = script("benchmark_dequantization")
    toy = benchmark.TwoLayers()
    x = torch.as_tensor(toy.sample(5000, seed=0), dtype=torch.float32)
    model = benchmark.Dequantized(benchmark.DEQUANTIZATIONS[name](), x)
    model.mean[0] += 0.1  # not the best of all flows
    assert (torch.as_tensor(toy.log_prob(x.double().numpy())) - model.bound(x)).mean() > 0
    samples = model.sample(2000)
    assert ((samples == 0) | (samples >= toy.threshold)).all()
    assert 0.05 < (samples == 0).mean() < 0.95


def test_the_benchmark_of_dequantizations_goes_on(script, tmp_path, monkeypatch, capsys):
    benchmark, output = script("benchmark_dequantization"), tmp_path / "table.json"
    arguments = ["--train", "200", "--test", "200", "--epochs", "1", "--seeds", "0", "--output", str(output)]
    for names in (["uniform"], ["uniform", "log-normal"]):
        monkeypatch.setattr(sys, "argv", ["benchmark", *arguments, "--dequantizations", *names])
        benchmark.main()
    assert [row["dequantization"] for row in json.loads(output.read_text())] == ["truth", "uniform", "log-normal"]
    assert "| log-normal | 1 |" in capsys.readouterr().out
