"""Learning curve of a generator for a detector with few showers: trained from scratch, and from another generator.

    python scripts/benchmark_finetuning.py angles/caloman --start runs/siw --train scipb_train.h5 --test scipb_test.h5

Each generator learns from the first N showers, without those that the file sets aside. A fine-tuning takes half the
epochs and three tenths of the learning rates. The judge compares each with the test file; the floor are training
showers. Other options go to `caloman fit`, such as `--geometry=scipb.xml`. What is finished is not repeated. It prints
a Markdown table and writes OUTPUT/finetuning.png.
"""

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tabulate import tabulate

import caloman
from caloman.evaluation.measures import number
from caloman.evaluation.plots.style import REFERENCE, SAMPLES, rendered

EPOCHS = {250: (60, 60), 500: (60, 40), 1000: (40, 30), 1500: (30, 24)}
"""Showers -> epochs of the energies and the density, and of the decoder."""
RATES = {"energy": 2e-3, "autoencoder": 3e-3, "latent": 4e-3}
KINDS = ("scratch", "fine")
MEASURES = {"auc_high": "AUC, high-level classifier", "sliced_wasserstein": "sliced Wasserstein distance"}


def fit(kind: str, count: int, options: argparse.Namespace) -> Path:
    """Trains one generator and returns its showers at the conditions of the test file."""
    run = options.output / f"{kind}_{count}"
    flows, decoder = (epochs // (1 if kind == "scratch" else 2) for epochs in EPOCHS[count])
    part = 1.0 if kind == "scratch" else 0.3
    stages = {"energy": flows, "autoencoder": decoder, "latent": flows}
    overrides = [f'--data.train=["{options.train}"]', f"--data.max_showers={count}", "--monitor=null", *options.fit]
    overrides += [f"--stages.{name}.trainer.max_epochs={epochs}" for name, epochs in stages.items()]
    overrides += [f"--stages.{name}.task.learning_rate={part * rate}" for name, rate in RATES.items()]
    overrides += [] if kind == "scratch" else [f"--start_from={options.start}"]
    if not (run / "bundle").is_dir():
        caloman.fit(options.config, output=run, overrides=overrides)
    showers = run.with_suffix(".hdf5")
    if not showers.exists():
        caloman.generate(run, showers, energies=str(options.test), seed=1, extrapolate=True)
    return showers


def judge(showers: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Compares generated showers with the test file, and returns the measures."""
    report, floor = showers.with_name(f"report_{showers.stem}"), f"{options.train}[0:1000]"
    if not (report / "metrics.json").exists():
        settings: dict[str, Any] = {"modes": ("cls-high", "tests"), "repeats": 3, "floor": floor}
        kept = options.output / "floor.json"
        caloman.evaluate(showers, options.test, output=report, reference_summary=kept, **settings)
    return json.loads((report / "metrics.json").read_text())["samples"][0]["metrics"]


def picture(samples: dict[tuple[str, int], dict[str, Any]], counts: list[int]) -> bytes:
    """Both measures over the number of showers, with the floor as a band."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, 2), MEASURES.items(), strict=True):
        for kind, words, color in zip(KINDS, ("from scratch", "fine-tuned"), SAMPLES, strict=False):
            entries = [samples[kind, count][key] for count in counts]
            values, errors = ([entry[name] for entry in entries] for name in ("value", "error"))
            axes.errorbar(counts, values, errors, fmt="o-", color=color, capsize=2, label=words)
        floor, error = entries[0]["floor"], entries[0]["floor_error"]
        axes.axhspan(floor - error, floor + error, color=REFERENCE, alpha=0.3, label="Geant4 against Geant4")
        axes.set(title=label, xlabel="showers to learn from", xscale="log")
        axes.set_xticks(counts, map(str, counts), minor=False)
        axes.set_xticks([], minor=True)
    axes.legend()
    return rendered(figure, "png")


def main() -> None:
    """Prints the table and writes the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="pipeline, such as angles/caloman")
    parser.add_argument("--start", required=True, help="run or bundle of the other detector")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--showers", type=int, nargs="+", choices=EPOCHS, default=list(EPOCHS))
    parser.add_argument("--output", type=Path, default=Path("benchmark/finetuning"))
    options, fit_options = parser.parse_known_args()
    options.fit = fit_options
    logging.basicConfig(format="%(message)s")
    logging.getLogger("caloman").setLevel(logging.INFO)
    keys = [(kind, count) for count in options.showers for kind in KINDS]
    samples = {key: judge(fit(*key, options), options) for key in keys}
    (options.output / "finetuning.png").write_bytes(picture(samples, options.showers))
    rows = []
    for kind, count in keys:
        entries = [samples[kind, count][key] for key in MEASURES]
        rows.append([kind, count, *(number(entry["value"], entry["error"]) for entry in entries)])
    rows.append(["Geant4", "", *(number(entry["floor"], entry["floor_error"]) for entry in entries)])
    print(tabulate(rows, ["", "showers", *MEASURES.values()], "github", disable_numparse=True))


if __name__ == "__main__":
    main()
