import importlib
import json
import sys
from argparse import Namespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from caloman.demonstrations import Circle

SETTINGS = {"epochs": 5, "batch": 100, "learning_rate": 1e-2, "transforms": 2, "hidden": 16, "weight": 1.0}
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("benchmark_manifold")


@pytest.mark.parametrize("method", ["M/D", "PAE"])
def test_two_phases_find_the_circle(benchmark, method):
    circle = Circle(noise=0)
    points, test = circle.sample(2000, 0), circle.sample(500, 1)
    scale = benchmark.Scale.of(points)
    model = benchmark.METHODS[method](circle, scale.inputs(points), Namespace(**SETTINGS))
    numbers = benchmark.judged(circle, model, scale, test)
    samples = scale.points(benchmark.sampled(model, 500))
    assert numbers["reconstruction"] < 0.1
    assert benchmark.distance(circle, samples).mean() < 0.1
    assert abs(numbers["excess"]) < 0.3


def test_the_scale_is_undone(benchmark):
    points = np.random.default_rng(0).normal(3, [1, 2, 9], (100, 3))
    scale = benchmark.Scale.of(points)
    np.testing.assert_allclose(scale.points(scale.inputs(points)), points, atol=1e-5)


def test_the_table_has_a_row_for_each_method_and_the_truth(benchmark, monkeypatch, capsys, tmp_path):
    arguments = [part for name, value in SETTINGS.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    output = tmp_path / "manifolds.json"
    arguments += ["--epochs", "1", "--train", "100", "--test", "50", "--seeds", "0", "--output", str(output), "--toys"]
    for toys in (["circle"], ["circle", "surface, narrow"]):
        monkeypatch.setattr(sys, "argv", ["benchmark_manifold.py", *arguments, *toys])
        benchmark.main()
    assert len(json.loads(output.read_text())) == 12  # the circle only once
    _, last = capsys.readouterr().out.split("| toy |")[1:]
    header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in f"| toy |{last}".splitlines())
    assert [row[:3] for row in rows[:6]] == [
        ["circle", name, "1"] for name in ("truth", "AF", "M/D", "joint", "OT/D", "PAE")
    ]
    assert len(rows) == 12
    assert float(rows[0][header.index("distance")]) == pytest.approx(0.008, abs=0.003)
    assert float(rows[6][header.index("distance")]) < 1e-10  # points of the surface have no noise
    assert all(row[header.index("excess")] for row in rows[1:5])


def test_the_figure_shows_the_circle(benchmark):
    rows = [{"method": "truth", "samples": [[0.0, 1.0], [1.0, 0.0]]}, {"method": "AF"}]
    assert benchmark.manifold_report.figure(rows).startswith(b"\x89PNG")


def test_the_sinkhorn_divergence_is_that_of_the_best_assignment(benchmark):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((150, 2)), 0.5 * rng.standard_normal((150, 2)) + 1
    cost = cdist(x, y, "sqeuclidean") / 2
    points = torch.tensor(x, requires_grad=True)
    divergence = benchmark.sinkhorn_divergence(points, torch.tensor(y), 0.05)
    assert divergence.item() == pytest.approx(cost[linear_sum_assignment(cost)].mean(), rel=0.02)
    divergence.backward()  # each point is pulled to its partner
    partners = y[linear_sum_assignment(cost)[1]]
    pull = 150 * points.grad.numpy()
    assert np.median(np.linalg.norm(pull - (x - partners), axis=1)) < 0.1
    assert benchmark.sinkhorn_divergence(points, points, 0.05).item() == pytest.approx(0, abs=1e-9)
