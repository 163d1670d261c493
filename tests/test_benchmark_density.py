import json
import runpy
import sys
from argparse import Namespace

import pytest
import torch
from conftest import ROOT

SCRIPT = str(ROOT / "scripts" / "benchmark_density.py")
SETTINGS = {
    "epochs": 4, "patience": 3, "batch": 100, "learning_rate": 1e-2, "gradient_clip": 5.0, "hidden": 16, "blocks": 1,
    "bins": 6, "bound": 5.0,
}  # fmt: skip
ARGUMENTS = [part for name, value in SETTINGS.items() for part in (f"--{name.replace('_', '-')}", str(value))]


@pytest.mark.parametrize("flow", ["RealNVP", "MAF", "C-RQS", "A-RQS", "Mixture"])
def test_training_improves_the_likelihood_and_keeps_the_best_epoch(flow):
    benchmark = runpy.run_path(SCRIPT)
    options = Namespace(**SETTINGS)
    target = benchmark["CorrelatedMixture"](2)
    points, others = target.sample(1000, 0), target.sample(500, 1)
    model = benchmark["Standardized"](benchmark["make"](flow, 2, options), points, "cpu")
    train, validation = model.inputs(points), model.inputs(others)
    before = model.log_prob(others).mean()
    loss = benchmark["fit"](model.flow, train, validation, options)
    log_prob = model.log_prob(others)
    assert log_prob.mean() > before + 0.1
    assert -model.flow.log_prob(validation).mean().item() == pytest.approx(loss, abs=1e-5)
    assert log_prob.mean() < target.log_prob(others).mean()


def test_training_stops_when_it_no_longer_improves():
    benchmark = runpy.run_path(SCRIPT)
    options = Namespace(**{**SETTINGS, "epochs": 1000, "patience": 2, "learning_rate": 0.0})
    points, passes = torch.randn(50, 2), []
    flow = benchmark["make"]("MAF", 2, options)
    flow.transforms[0].register_forward_hook(lambda *_: passes.append(1))
    benchmark["fit"](flow, points, points, options)
    assert len(passes) == 2 * 3  # a batch and the validation of the first epoch and of two that were not better


def test_the_benchmark_goes_on_where_it_stopped_and_the_truth_has_the_right_scores(tmp_path, monkeypatch, capsys):
    output = tmp_path / "table.json"
    common = ["benchmark_density.py", "--target", "uncorrelated-mixture", "--dimensions", "2", *ARGUMENTS]
    common += ["--train", "500", "--test", "20000", "--output", str(output), "--device", "cpu", "--flows"]
    rows = []
    for flows in (["MAF"], ["MAF", "Mixture"]):
        monkeypatch.setattr(sys, "argv", [*common, *flows])
        runpy.run_path(SCRIPT, run_name="__main__")
        rows.append(json.loads(output.read_text()))
    first, second = rows
    assert second[:2] == first
    assert [row["flow"] for row in second] == ["truth", "MAF", "Mixture"]
    truth, maf, _ = second
    assert 0.05 < truth["KS"][0] < 0.95
    assert truth["SWD"][0] < maf["SWD"][0]
    assert maf["KL"][0] > 0
    assert capsys.readouterr().out.count("| uncorrelated-mixture | 2 | MAF | 0 |") == 2
