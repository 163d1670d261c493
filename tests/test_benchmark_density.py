import importlib
import json
import sys
from argparse import Namespace

import numpy as np
import pytest
import torch
from conftest import ROOT

SETTINGS = {"epochs": 4, "batch": 100, "learning_rate": 1e-2, "hidden": 16, "bins": 6, "bound": 5.0}
ARGUMENTS = [part for name, value in SETTINGS.items() for part in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("benchmark_density")


@pytest.mark.parametrize("flow", ["RealNVP", "MAF", "C-RQS", "A-RQS", "Mixture", "C-RQS, permuted each time"])
def test_training_improves_the_likelihood_and_keeps_the_best_epoch(benchmark, flow):
    options = Namespace(**SETTINGS)
    target = benchmark.CorrelatedMixture(2)
    points, others = target.sample(1000, 0), target.sample(500, 1)
    model = benchmark.Standardized(benchmark.make(flow, points, options), points, "cpu")
    train, validation = model.inputs(points), model.inputs(others)
    before = model.log_prob(others).mean()
    loss = benchmark.fit(model.flow, train, validation, options)
    log_prob = model.log_prob(others)
    assert log_prob.mean() > before + 0.1
    assert -model.flow.log_prob(validation).mean().item() == pytest.approx(loss, abs=1e-5)
    assert log_prob.mean() < target.log_prob(others).mean()


def test_entries_stay_behind_where_couplings_are_permuted_each_time(benchmark):
    """Why the table has this variant: of 16 entries some are moved by none of six couplings, or by few."""

    def moves(flow):
        columns, counts = torch.arange(16)[None], torch.zeros(16)
        for transform in flow.transforms:
            if isinstance(transform, benchmark.Coupling):
                counts[columns[0, transform.moved]] += 1
            else:
                columns = transform(columns)[0]
        return counts

    options, points = Namespace(**SETTINGS), np.random.default_rng(0).standard_normal((100, 16))
    fewest = [moves(benchmark.make("C-RQS, permuted each time", points, options)).min() for _ in range(20)]
    assert min(fewest) <= 1
    assert all(moves(benchmark.make("C-RQS", points, options)) == 3)


def test_the_benchmark_goes_on_where_it_stopped_and_the_truth_has_the_right_scores(
    benchmark, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "table.json"
    common = ["benchmark_density.py", "--target", "uncorrelated-mixture", "--dimensions", "2", *ARGUMENTS]
    common += ["--train", "500", "--test", "20000", "--seeds", "0", "--output", str(output), "--device", "cpu"]
    rows = []
    for flows in (["MAF"], ["MAF", "Mixture"]):
        monkeypatch.setattr(sys, "argv", [*common, "--flows", *flows])
        benchmark.main()
        rows.append(json.loads(output.read_text()))
    first, second = rows
    assert second[:2] == first
    assert [row["flow"] for row in second] == ["truth", "MAF", "Mixture"]
    truth, maf, _ = second
    assert {"caloman", "torch"} < truth["versions"].keys()
    assert 0.05 < truth["KS"][0] < 0.95
    assert truth["SWD"][0] < maf["SWD"][0]
    assert maf["KL"][0] > 0
    assert capsys.readouterr().out.count("| uncorrelated-mixture | 2 | MAF | 1 |") == 2


def test_changed_settings_have_lines_of_their_own(benchmark):
    options = benchmark.parser().parse_args(["--causes", "--seeds", "0", "1"])
    keys = benchmark.wanted(options)
    assert len(keys) == 2 * sum(map(len, benchmark.CAUSES.values()))
    usual = ["--dimensions", "16", "--flows", "C-RQS", "--epochs", "4", "--bound", "10"]
    assert keys[0] == benchmark.wanted(benchmark.parser().parse_args(usual))[1]
    values = {"KS": [0.5, 0.1], "SWD": [0.1, 0.1], "FN": [0.1, 0.1], "KL": [0.2, 0.1], "KL train": [0.1, 0.1]}
    lines = benchmark.density_report.causes([{**key, **values} for key in keys]).splitlines()[2:]
    dimensions, names, seeds, *_ = zip(*(line.removeprefix("| ").split(" | ") for line in lines), strict=True)
    assert names[:3] == ("C-RQS", "C-RQS, permuted each time", "C-RQS, learning rate 0.002")
    assert set(dimensions) == {"16", "64"}
    assert set(seeds) == {"2"}


def test_the_table_shows_means_and_published_numbers(benchmark):
    row = {"target": "correlated-mixture", "features": 16, "flow": "C-RQS", "parameters": 7, "device": "cpu"}
    row["CPU seconds"] = 90.0
    rows = [{**row, "KS": [ks, 0.1], "SWD": [0.1, 0], "FN": [0.1, 0], "KL": [0.2, 0]} for ks in (0.2, 0.4)]
    line = benchmark.density_report.table(rows).splitlines()[-1]
    assert "| 2 | 0.3 ± 0.1 | 0.1 ± 0 |" in line
    assert "| 0.365 / 0.051 / 0.42 | 7 | 1.5 cpu |" in line
