"""Measures how much worse a generator is at incident energies that it has not been trained on.

    python scripts/benchmark_energies.py TRAIN.hdf5 TEST.hdf5 --leave-out 1024 8192 --output benchmark/energies

Fits the same configuration twice, with and without the showers of the given energies [MeV], lets both generate at these
energies and judges them on the test showers there, one energy after the other. The floor compares the Geant4 showers of
the training file with them. Fits that are finished are not repeated.
"""

import argparse
import logging
from pathlib import Path

import numpy as np

import caloman
from caloman.generation.generate import generate
from caloman.showers.showers import find_geometry
from caloman.showers.slices import ShowerFiles
from caloman.showers.writer import ShowerWriter
from caloman.training import fit

MODES = ["hist", "cls-low", "cls-high"]
COLUMNS = {
    "AUC low": "auc_low",
    "AUC high": "auc_high",
    "E_tot/E_inc": "separation_response",
    "layer energies": "separation_layer_energies",
    "voxel energies": "separation_voxel_energy",
}


def select(source: str, energy: float, target: Path) -> str:
    """Writes the showers of one incident energy [MeV] to a file of their own."""
    geometry = find_geometry(source)
    with ShowerFiles(source, geometry) as files, ShowerWriter(target, geometry) as writer:
        for block in files.blocks():
            writer.append(block[np.isclose(block.incident_energies, energy, rtol=1e-5)])
    return str(target)


def judge(runs: dict[str, Path], train: str, test: str, energy: float, folder: Path) -> list[dict]:
    """Generates with each run at one energy [MeV] and returns the samples of the comparison with Geant4."""
    folder.mkdir(parents=True, exist_ok=True)
    truth, floor = select(test, energy, folder / "test.hdf5"), select(train, energy, folder / "train.hdf5")
    for name, run in runs.items():
        generate(run, folder / f"{name}.hdf5", energies=truth, seed=1)
    generated = [f"{name}={folder / name}.hdf5" for name in runs]
    report = caloman.evaluate(generated, truth, floor=floor, modes=MODES, output=folder / "report")
    return report.metrics["samples"]


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", help="shower file to train on")
    parser.add_argument("test", help="shower file to judge with")
    parser.add_argument("--config", default="configs/1-photons/caloman.yaml")
    parser.add_argument("--leave-out", type=float, nargs="+", required=True, metavar="MEV")
    parser.add_argument("--output", type=Path, default=Path("benchmark/energies"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    data = f'--data.train=["{options.train}"]'
    left_out = f"--data.leave_out={options.leave_out}"
    runs = {
        "trained": fit(options.config, options.output / "trained", overrides=[data]),
        "untrained": fit(options.config, options.output / "untrained", overrides=[data, left_out]),
    }
    print(f"| energy [MeV] | at this energy | {' | '.join(COLUMNS)} |\n|{'-|' * (2 + len(COLUMNS))}")
    for energy in options.leave_out:
        samples = judge(runs, options.train, options.test, energy, options.output / f"{energy:g}")
        floor = {key: {"value": m["floor"], "error": m["floor_error"]} for key, m in samples[0]["metrics"].items()}
        for name, metrics in [("Geant4", floor), *((sample["name"], sample["metrics"]) for sample in samples)]:
            cells = [f"{metrics[key]['value']:.4f} ± {metrics[key]['error']:.4f}" for key in COLUMNS.values()]
            print(f"| {energy:g} | {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
