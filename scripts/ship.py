"""Puts the generator of a run into the package: float16 weights, the judge's numbers and a card, in one folder.

    python scripts/ship.py RUN photons --reference TEST --floor TRAIN --detector "simplified barrel of lead and argon"

The stored generator itself is judged, not the run: its showers at the energies of REFERENCE against these, which it has
not been trained on. The folder is caloman/generators/NAME. It appears when it is complete, and is refused above 10 MB.
Times are processor times of one thread at batch 1000.

Weight matrices become float16. Statistics and biases stay float32: they take no room, and some float16 cannot hold. In
memory everything is float32.
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file
from tabulate import tabulate
from torch import Tensor

from caloman import bundle
from caloman.benchmarking.timing import conditions_at, measure
from caloman.errors import CalomanError
from caloman.evaluation.command import evaluate
from caloman.evaluation.measures import number
from caloman.exporting.timing import threads
from caloman.files import appearing_folder, check_name, sha256
from caloman.generation.generate import generate
from caloman.generators.card import model_card
from caloman.generators.listing import EVALUATION
from caloman.generators.names import FOLDER
from caloman.models import ShowerModel
from caloman.sharing import without_machine
from caloman.specification import read_yaml, to_yaml

LARGEST = 10e6
"""Bytes of a generator of the package."""
MODES = ("hist", "cls-low", "cls-high", "cls-trees", "fpd", "prdc")
KEYS = ("auc_low", "auc_high", "auc_trees", "separation_response", "separation_layer_energies",
        "separation_voxel_energy", "separation_sparsity", "fpd", "precision", "recall", "density",
        "coverage")  # fmt: skip
BATCH = 1000


def cast(state: dict[str, Tensor], model: ShowerModel) -> dict[str, Tensor]:
    """Weights as they are stored: matrices of the networks in float16.

    Raises:
        CalomanError: if a weight is too large for it.
    """
    matrices = {name for name, weight in model.named_parameters() if weight.ndim > 1}
    stored = {name: tensor.half() if name in matrices else tensor for name, tensor in state.items()}
    broken = [name for name in matrices if not stored[name].isfinite().all()]
    if broken:
        raise CalomanError(f"{broken[0]}: has weights beyond 65504, too large for float16; train with weight decay")
    return stored


def store(run: str, folder: Path) -> None:
    """Writes the generator of a run as a bundle of today's format, then casts its weights."""
    model, manifest, path = bundle.load(run), bundle.read_config(run), bundle.find(run) / "training.json"
    record = without_machine(json.loads(path.read_text())) if path.is_file() else {}
    bundle.save(model, manifest["model"], manifest["training"], folder, record)
    weights = folder / "model.safetensors"
    save_file(cast(load_file(weights), model), weights)
    config: Any = read_yaml(folder / "config.yaml")
    config["files"] = {name: sha256(folder / name) for name in config["files"]}
    (folder / "config.yaml").write_text(to_yaml(config))


def judge(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What the package tells about the generator in a folder."""
    model = bundle.load(folder)
    with TemporaryDirectory() as place:
        showers = Path(place) / f"{options.name}.hdf5"
        generate(folder, showers, energies=options.reference, seed=1)
        report = evaluate(
            showers, options.reference, output=Path(place), floor=options.floor, modes=MODES, repeats=options.repeats
        )
    sample = report.metrics["samples"][0]
    with threads(1):
        milliseconds = measure(model, model, conditions_at(model, BATCH), runs=5).processor
    return {
        "detector": options.detector,
        "milliseconds": milliseconds,
        "rounding": rounding(model, bundle.load(options.run)),
        "classifier_trainings": len(report.metrics["settings"]["seeds"]),
        "preset": report.metrics["preset"],
        "showers": sample["showers"],
        "verdict": sample["verdict"],
        "warnings": sample["warnings"],
        "reference": report.metrics["reference"],
        "floor": report.metrics["floor"],
        "metrics": {key: sample["metrics"][key] for key in KEYS},
    }


def rounding(stored: ShowerModel, trained: ShowerModel) -> float:
    """What float16 changes: share of the energy of 1000 showers that lies in other voxels or is missing."""
    conditions = conditions_at(trained, BATCH).numpy()
    one, other = (model.sample_chunk(conditions, 1, 0).voxels.astype(np.float64) for model in (stored, trained))
    return float(np.abs(one - other).sum() / other.sum())


def card(folder: Path, facts: dict[str, Any]) -> str:
    """The card of a stored generator with the numbers of the judge."""
    rows = [
        [entry["label"], number(entry["value"], entry["error"]), number(entry["floor"], entry["floor_error"])]
        for entry in facts["metrics"].values()
    ]
    table = tabulate(rows, ["", "generator", "Geant4"], "github", disable_numparse=True)
    record = json.loads((folder / "training.json").read_text())
    return model_card(bundle.load(folder), bundle.read_config(folder)["training"], record, {**facts, "table": table})


def ship(options: argparse.Namespace) -> Path:
    """Writes the folder of the generator."""
    with appearing_folder(options.output / options.name) as folder:
        store(options.run, folder)
        facts = judge(folder, options)
        (folder / EVALUATION).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        (folder / "README.md").write_text(card(folder, facts))
        size = sum(file.stat().st_size for file in folder.iterdir())
        if size > LARGEST:
            raise CalomanError(f"{options.run}: {size / 1e6:.1f} MB in float16; train a model of at most 10 MB")
    return options.output / options.name


def main() -> None:
    """Puts a generator into the package."""
    parser = argparse.ArgumentParser(
        prog="ship.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="run folder of caloman fit")
    parser.add_argument("name", help="name of the generator")
    parser.add_argument("--reference", required=True, help="Geant4 showers that the run has not seen")
    parser.add_argument("--floor", required=True, help="other Geant4 showers, such as those of the training")
    parser.add_argument("--detector", required=True, help="the simulated detector, in words")
    parser.add_argument("--repeats", type=int, help="trainings of each classifier, 5 by default")
    parser.add_argument("--output", type=Path, default=FOLDER, help="where to; by default the package")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("caloman").setLevel(logging.INFO)
    try:
        check_name(options.name, "generator")
        print(ship(options))
    except CalomanError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
