"""Pages of the talks: what they show is what the committed data say, and bad input is refused by name."""

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from scipy.stats import kurtosis, norm, poisson

from caloman.demonstrations.results import ResultFile, show, spread
from caloman.errors import CalomanError
from caloman.preprocessing import LogNormalDequantization

PAGES = ROOT / "docs" / "talks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module


def copied(tmp_path, name):
    for suffix in (".md", ".json"):
        (tmp_path / name).with_suffix(suffix).write_bytes((PAGES / name).with_suffix(suffix).read_bytes())
    return ResultFile(tmp_path / f"{name}.json")


def test_pages_show_the_committed_data(script, tmp_path):
    density, manifold = map(script, ("benchmark_density", "benchmark_manifold"))
    density.density_report.write_page(copied(tmp_path, "density"), density.usual)
    report = manifold.manifold_report
    copied(tmp_path, "manifolds").show("manifolds", manifold.parser().usual, report.table, report.figure)
    for name, place in {
        "surjections": "surjections", "likelihood": "likelihood", "two_sample": "two samples", "scaling": "scalings",
        "bands": "bands",
    }.items():  # fmt: skip
        module = script(f"benchmark_{name}")
        rows = copied(tmp_path, name).find({"settings": module.parser().usual})
        show(tmp_path / f"{name}.md", place, module.table(rows))
    showers, rows = script("benchmark_showers"), copied(tmp_path, "showers").rows
    show(tmp_path / "showers.md", "dimensions", showers.dimension_table(rows))
    show(tmp_path / "showers.md", "unusual", showers.separation_table(rows))
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
        ("benchmark_manifold", ["--methods", "GAN"], "invalid choice: 'GAN'"),
        ("benchmark_surjections", ["--toys", "words"], "invalid choice: 'words'"),
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


def test_toys_of_the_surjections_have_the_density_of_their_samples(script):
    toys = script("benchmark_surjections").TOYS
    layers, sets, categories = toys["empty layers"], toys["sets"], toys["categories"]
    excess = np.linspace(1e-3, 60, 1500)
    one = np.exp(layers.log_prob(np.stack([1 + excess, np.zeros(1500)], axis=1)))
    assert np.trapezoid(one, excess) == pytest.approx(0.25, abs=1e-3)
    both = np.exp(layers.log_prob(np.stack(np.meshgrid(1 + excess, 1 + excess), axis=-1).reshape(-1, 2)))
    assert np.trapezoid(np.trapezoid(both.reshape(1500, 1500), excess), excess) == pytest.approx(0.5, abs=2e-3)
    x = layers.sample(100_000, seed=0)
    np.testing.assert_allclose(np.bincount(layers.classes(x)) / len(x), layers.weights, atol=0.008)
    np.testing.assert_allclose(np.log(x[layers.classes(x) == 3] - 1).mean(axis=0), [2.0, 1.5], atol=0.02)
    box = np.random.default_rng(0).uniform(-3.5, 3.5, (400_000, 4))
    assert (7**4 * np.exp(sets.log_prob(box))).mean() == pytest.approx(1, abs=0.1)
    counted = np.bincount(categories.classes(categories.sample(100_000, seed=0)), minlength=64) / 100_000
    np.testing.assert_allclose(counted, categories.table, atol=0.006)


@torch.no_grad()
def test_contributions_of_surjections_are_those_of_their_latents(script):
    """For white latents E_q[p(z) exp(V)] is the probability that latents are decoded to x, and integrates to 1."""
    surjections = script("surjections")
    torch.manual_seed(0)

    def weights(surjection, x):
        z, contribution = surjection.encode(x)
        return (surjections.log_normal(z).sum(dim=1) + contribution).exp()

    ones = torch.ones(100_000, 1)
    between_one_and_two = norm.cdf(2) - norm.cdf(1)
    for surjection, share in {
        surjections.UniformNoise(4): between_one_and_two,
        surjections.VariationalNoise(1, 4): between_one_and_two,
        surjections.Argmax(1, 4): 0.25,
    }.items():
        assert float(weights(surjection, ones).mean()) == pytest.approx(share, abs=0.01)
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0]])[[0, 0, 0, 1]]
    dropout = surjections.Dropout(x)
    assert float(weights(dropout, torch.zeros(1, 2))) == pytest.approx(0.75)
    energies = torch.linspace(1e-3, 100, 100_000)
    assert weights(dropout, torch.stack([energies, 0 * energies], dim=1)).sum() * 1e-3 == pytest.approx(0.25, abs=0.01)
    wide_noise = surjections.Dequantized(LogNormalDequantization(0.0, 0.6), 1.0)
    assert float(weights(wide_noise, 0 * ones).mean()) == pytest.approx(1, abs=0.01)  # all noise counts, decoded or not
    grid = torch.cartesian_prod(*2 * [torch.linspace(-6, 6, 600)]) + torch.tensor([0.0, 1e-3])
    assert float(weights(surjections.Sort(), grid).sum()) * (12 / 599) ** 2 == pytest.approx(1, abs=0.05)


def test_surjections_give_back_their_data(script):
    module = script("benchmark_surjections")
    torch.manual_seed(0)
    for name, known in module.SURJECTIONS.items():
        x = torch.as_tensor(module.TOYS[name].sample(500, seed=0), dtype=torch.float32)
        for make in known.values():
            surjection = make(x)
            decoded = surjection.decode(surjection.encode(x)[0], surjection.condition(x))
            expected, decoded = (v.sort(dim=1).values if name == "sets" else v for v in (x, decoded))
            torch.testing.assert_close(decoded, expected, rtol=1e-4, atol=0.011)  # uniform noise blurs by 0.01


def test_the_benchmark_of_surjections_goes_on(script, tmp_path, monkeypatch, capsys):
    benchmark, output = script("benchmark_surjections"), tmp_path / "table.json"
    arguments = ["--train", "200", "--test", "200", "--epochs", "1", "--seeds", "0", "--output", str(output)]
    for toys in (["sets"], ["sets", "categories"]):
        monkeypatch.setattr(sys, "argv", ["benchmark", *arguments, "--toys", *toys])
        benchmark.main()
    rows = json.loads(output.read_text())
    assert [row["surjection"] for row in rows[:4]] == ["truth", "none", "stochastic permutation", "sort"]
    assert "| categories | argmax | 1 |" in capsys.readouterr().out


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
