"""Pages of the talks: what they show is what the committed data say, and bad input is refused by name."""

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from scipy.stats import kurtosis, norm, poisson

from caloman.demonstrations.results import ResultFile, defaults, show, spread
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


def usual(module):
    return defaults(module.parser(), module.SETTINGS)


def test_pages_show_the_committed_data(script, tmp_path):
    density, manifold = map(script, ("benchmark_density", "benchmark_manifold"))
    density.density_report.write_page(copied(tmp_path, "density"), usual(density))
    rows = copied(tmp_path, "manifolds").find({"settings": usual(manifold)})
    manifold.manifold_report.write_page(tmp_path / "manifolds.md", rows)
    for name, place in {
        "dequantization": "dequantization", "likelihood": "likelihood", "two_sample": "two samples",
    }.items():  # fmt: skip
        module = script(f"benchmark_{name}")
        rows = copied(tmp_path, name).find({"settings": usual(module)})
        show(tmp_path / f"{name}.md", place, module.table(rows))
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
        ("benchmark_likelihood", ["--flows", "NICE"], "invalid choice: 'NICE'"),
        ("benchmark_two_sample", ["--tests", "chi2"], "invalid choice: 'chi2'"),
        ("benchmark_two_sample", ["--distortions", "turn"], "invalid choice: 'turn'"),
        ("benchmark_two_sample", ["--dimensions", "1"], "invalid choice: 1"),
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


def test_the_toy_likelihood_is_that_of_scipy(script):
    toy = script("benchmark_likelihood").ToyMeasurement(bins=4, nuisances=3)
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(0.1, 5, (20, 2)), rng.standard_normal((20, 3))])
    expected = np.zeros((20, 4))
    for strengths, theta, counts in zip(points[:, :2], points[:, 2:], expected, strict=True):
        for sample, yields in enumerate(toy.yields):
            strength = strengths[sample] if sample < 2 else 1.0
            counts += strength * yields * np.exp(sum(t * toy.responses[k, sample] for k, t in enumerate(theta)))
    np.testing.assert_allclose(toy.expected(points), expected)
    truth = poisson.logpmf(toy.counts, expected).sum(axis=1) + norm.logpdf(points[:, 2:]).sum(axis=1)
    np.testing.assert_allclose(np.diff(toy.log_prob(points)), np.diff(truth))
    points[3, 1] = -0.1
    assert np.isneginf(toy.log_prob(points)[3])


def test_intervals_are_the_shortest_ones_and_weights_measure_a_shift(script):
    benchmark = script("benchmark_likelihood")
    points = np.random.default_rng(0).standard_normal((200_000, 1))
    found = benchmark.intervals(np.concatenate([points, np.exp(points)], axis=1))
    np.testing.assert_allclose(found[:, 0], np.outer((1, 2, 3), (-1, 1)), atol=0.15)
    mode = np.exp(-1.0)
    assert np.all((found[:, 1, 0] < mode) & (found[:, 1, 1] > mode))
    shifted = norm.logpdf(points[:, 0], 0.5), norm.logpdf(points[:, 0])
    assert benchmark.effective_share(*shifted) == pytest.approx(np.exp(-0.25), rel=0.02)


def test_distortions_change_what_they_say(script):
    benchmark = script("benchmark_two_sample")
    rng = np.random.default_rng(0)
    covariance = np.array([[1.0, 0.6], [0.6, 1.0]])
    x = rng.multivariate_normal([0, 0], covariance, 200_000)
    for distortion, expected in {
        "shift": covariance, "scale": 1.44 * covariance, "correlation": [[1, 0.48], [0.48, 1]], "tails": covariance,
    }.items():  # fmt: skip
        moved = benchmark.DISTORTIONS[distortion][0](x, 0.2, rng)
        np.testing.assert_allclose(np.cov(moved.T), expected, atol=0.05)
        assert moved.mean() == pytest.approx(0.2 if distortion == "shift" else 0, abs=0.02)
        assert (kurtosis(moved) > 1).all() == (distortion == "tails")


def test_a_test_sees_half_of_the_pairs_at_the_strength_that_it_says(script):
    """The mean of the KS distance of one shifted dimension grows with the shift, and nothing sees a change of 0."""
    benchmark = script("benchmark_two_sample")
    options = benchmark.parser().parse_args(["--points", "200", "--pairs", "15", "--without", "60"])
    pairs = benchmark.Pairs(3, options.points, 0)
    strength = benchmark.half_seen(pairs, "SWD", "shift", options)
    threshold = benchmark.usual(pairs, "SWD", options.without)
    assert np.median(pairs.statistics("SWD", 15, "shift", 1.3 * strength)) > threshold
    assert np.median(pairs.statistics("SWD", 15, "shift", 0.7 * strength)) < threshold
    assert benchmark.half_seen(pairs, "KS", "correlation", options) == np.inf
