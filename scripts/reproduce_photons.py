"""Repeats the ablation of the photon generator: trains each row, judges it, and prints one table.

    scripts/reproduce_photons                               # all rows, on the shipped samples
    scripts/reproduce_photons TRAIN TEST --rows threshold hurdle latent caloman --output runs/ablation
    scripts/reproduce_photons TRAIN TEST --config configs/1-photons/caloinn_small.yaml   # a rival in the same table

The rows lead from CaloMan as it was submitted to the CaloChallenge to caloman.yaml, one step at a time; wae and avb
have another autoencoder than latent. Nothing is chosen on TEST. Every row is a run folder in --output with its showers,
closure tests and report, and the same command goes on after an interruption: a row is judged anew only if its model,
TRAIN or TEST changed. AUC reco is that of reconstructed showers, which limits what any density on the manifold can
reach. Times are processor times of one thread at batch 1000. The table is also written to table.md.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

import caloman
from caloman import bundle
from caloman.benchmarking.timing import conditions_at, measure
from caloman.errors import CalomanError
from caloman.evaluation.command import evaluate
from caloman.evaluation.measures import number
from caloman.exporting.timing import threads
from caloman.files import write
from caloman.generation.closure import encode, reconstruct
from caloman.generation.generate import generate
from caloman.models import FactorizedShowerModel, ManifoldShape, ShowerModel
from caloman.training import fit

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "data_prep" / "samples"
PHOTONS = ROOT / "configs" / "1-photons"
ABLATION = PHOTONS / "ablation"
ROWS = {
    "faithful": PHOTONS / "faithful.yaml",
    **{name: ABLATION / f"{name}.yaml" for name in ("threshold", "bce", "softmax", "hurdle", "latent")},
    "caloman": PHOTONS / "caloman.yaml",
    **{name: ABLATION / f"{name}.yaml" for name in ("wae", "avb")},
}
MODES = ("hist", "cls-low", "cls-high", "fpd", "prdc")
CLOSURE_TESTS = {"AUC reco low": "low", "AUC reco high": "high"}
MEASURES = {
    "AUC low": "auc_low",
    "AUC high": "auc_high",
    "E_tot/E_inc": "separation_response",
    "layer energies": "separation_layer_energies",
    "voxel energies": "separation_voxel_energy",
    "sparsity": "separation_sparsity",
    "density": "density",
    "recall": "recall",
    "FPD × 10³": "fpd",  # noqa: RUF001
}
BATCH = 1000
NOTHING = "-"


def judge(name: str, folder: Path, options: argparse.Namespace) -> None:
    """Writes the report and the facts of a run, unless they are those of the same model, TRAIN and TEST."""
    run = folder / "run"
    inputs = [bundle.fingerprint(run), options.train, options.test, options.repeats]
    if read(folder / "row.json").get("inputs") == inputs:
        logging.getLogger("caloman").info("%s: already judged, skipped", name)
        return
    model = caloman.load(run)
    generate(run, folder / "showers.hdf5", energies=options.test, seed=1)
    evaluate(
        f"{name}={folder / 'showers.hdf5'}", options.test, output=folder / "report", floor=options.train, modes=MODES,
        repeats=options.repeats, **closure_files(model, folder, options.test),
    )  # fmt: skip
    facts = {"parameters": sum(weight.numel() for weight in model.parameters()), "milliseconds": milliseconds(model)}
    write(folder / "row.json", json.dumps({"inputs": inputs, **facts}))


def closure_files(model: ShowerModel, folder: Path, test: str) -> dict[str, Any]:
    """Writes the files that show which part limits a model, and returns them as arguments of `evaluate`."""
    run, files = folder / "run", {}
    if isinstance(model, FactorizedShowerModel) and model.energy is not None:
        files["shapes"] = folder / "shapes.hdf5"
        reconstruct(run, test, files["shapes"], part="shapes")
    if isinstance(model, FactorizedShowerModel) and isinstance(model.shape, ManifoldShape):
        files["reconstruction"] = folder / "reconstructed.hdf5"
        reconstruct(run, test, files["reconstruction"])
        files["latents"] = [folder / "sampled.hdf5", folder / "encoded.hdf5"]
        for path, sampled in zip(files["latents"], (True, False), strict=True):
            encode(run, test, path, sampled)
    return files


def milliseconds(model: ShowerModel) -> float:
    """Processor time of one thread [ms per shower]."""
    with threads(1):
        return measure(model, model, conditions_at(model, BATCH), runs=5).processor


def read(path: Path) -> dict[str, Any]:
    """Content of a JSON file; empty if there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def table(names: Sequence[str], output: Path) -> str:
    """Markdown of the rows that are judged, and of Geant4 against Geant4."""
    rows = [["model", "parameters", *CLOSURE_TESTS, *MEASURES, "ms per shower"]]
    for name in names:
        facts, metrics = read(output / name / "row.json"), read(output / name / "report" / "metrics.json")
        if not facts:
            continue
        sample = metrics["samples"][0]
        values, reconstruction = sample["metrics"], sample.get("closure_tests", {}).get("reconstruction")
        cells = [number(*reconstruction[level]) if reconstruction else NOTHING for level in CLOSURE_TESTS.values()]
        cells += [number(values[key]["value"], values[key]["error"]) for key in MEASURES.values()]
        if len(rows) == 1:
            floor = [number(values[key]["floor"], values[key]["floor_error"]) for key in MEASURES.values()]
            rows.append(["Geant4", NOTHING, *[NOTHING] * len(CLOSURE_TESTS), *floor, NOTHING])
        rows.append([name, f"{facts['parameters']:,}", *cells, f"{facts['milliseconds']:.3f}"])
    return tabulate(rows, "firstrow", "github", disable_numparse=True)


def main() -> None:
    """Goes on with the rows and prints the table."""
    parser = argparse.ArgumentParser(
        prog="reproduce_photons", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("train", nargs="?", default=str(SAMPLES / "photons_train.hdf5"), help="showers to learn from")
    parser.add_argument("test", nargs="?", default=str(SAMPLES / "photons_test.hdf5"), help="showers to compare with")
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--rows", choices=ROWS, nargs="*", default=list(ROWS), help="of the ablation; all by default")
    parser.add_argument("--config", type=Path, nargs="+", default=[], help="pipelines of further rows, such as rivals")
    parser.add_argument("--repeats", type=int, help="trainings of each classifier, 5 by default")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("caloman").setLevel(logging.INFO)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    configs = {**{name: ROWS[name] for name in options.rows}, **{path.stem: path for path in options.config}}
    try:
        for name, config in configs.items():
            folder = options.output / name
            fit(config, folder / "run", overrides=[f"--data.train={json.dumps(options.train.split(','))}"])
            judge(name, folder, options)
            write(options.output / "table.md", table(list(configs), options.output) + "\n")
    except CalomanError as error:
        sys.exit(f"error: {error}")
    print(table(list(configs), options.output))


if __name__ == "__main__":
    main()
