"""Measures what the judge sees: its classifiers meet Geant4 showers with small known distortions.

    python scripts/benchmark_judge.py GEANT4.hdf5 --output benchmark/judge

Half of the file is distorted, the other half is the reference. A classifier learns from N showers of each and is scored
on all others, so that its AUC is known better than the judge would know it. The table gives this AUC and its distance
from 1/2 in the errors that the judge quotes at N, beyond which 3 is seen. Trainings that are finished are not repeated.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from tabulate import tabulate

from caloman.evaluation.classifier import auc_error, train_classifier, train_trees
from caloman.evaluation.distortions import DISTORTIONS, Name, distorted
from caloman.evaluation.inputs import Inputs, collect, detailed_inputs, high_level_inputs, low_level_inputs
from caloman.evaluation.networks import dense
from caloman.evaluation.presets import QUICK
from caloman.evaluation.samples import LoadedSample, Sample
from caloman.showers.observables import compute_observables
from caloman.showers.showers import find_geometry

Collect = Callable[[Sample], Inputs]
CLASSIFIERS: dict[str, Collect] = {
    "low": lambda sample: collect(low_level_inputs, [sample]),
    "high": lambda sample: Inputs.of(high_level_inputs(compute_observables(sample.blocks(), threshold=0.0))),
    "trees": lambda sample: collect(detailed_inputs, [sample]),
}


class Benchmark:
    """AUCs of classifiers by distortion and number of showers, kept in a file."""

    def __init__(self, geant4: str, output: Path) -> None:
        sample = Sample.open(geant4, find_geometry(geant4))
        self.reference, self.other = sample.halves()
        self.showers = self.other.load(len(self.other))
        self.path = output / "trainings.json"
        output.mkdir(parents=True, exist_ok=True)
        self.found: dict[str, dict] = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.truth = cache(lambda classifier: CLASSIFIERS[classifier](self.reference))

    def measure(self, name: Name, classifier: str, count: int) -> dict:
        """AUC and seconds of processor time of one training."""
        key = f"{name} {classifier} {count}"
        if key not in self.found:
            sample = LoadedSample.of(distorted(self.showers, name, DISTORTIONS[name].size))
            inputs = Inputs.of(CLASSIFIERS[classifier](sample).values, self.truth(classifier).values)
            preset = replace(QUICK, train=int(QUICK.train * count), select=int(QUICK.select * count), folds=1)
            network = partial(dense, inputs.n_features, preset.hidden)
            train = train_trees if classifier == "trees" else partial(train_classifier, network=network)
            start = time.process_time()
            area = train(inputs, preset, seed=0, fold=0).auc
            self.found[key] = {"auc": area, "seconds": time.process_time() - start}
            self.path.write_text(json.dumps(self.found, indent=1))
        return self.found[key]


def error(count: int, folds: int) -> float:
    """Error of the AUC that a judge with so many folds quotes for two samples of `count` showers."""
    scored = count - int(QUICK.train * count) - int(QUICK.select * count)
    return auc_error([0.5] * QUICK.repeats, (scored, scored), folds)


def main() -> None:
    """Prints two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("geant4", help="shower file; half of it is distorted")
    parser.add_argument("--showers", type=int, nargs="+", default=[2500, 5000, 10_000])
    parser.add_argument("--output", type=Path, default=Path("benchmark/judge"))
    options = parser.parse_args()
    benchmark = Benchmark(options.geant4, options.output)
    rows = []
    for name, distortion in DISTORTIONS.items():
        for count in options.showers:
            found = {key: benchmark.measure(name, key, count)["auc"] for key in CLASSIFIERS}
            networks = max(found["low"], found["high"]) - 0.5
            sigmas = [networks / error(count, 1), (max(found.values()) - 0.5) / error(count, QUICK.folds)]
            planted = distortion.words.format(f"{100 * distortion.size:g} %")
            rows.append([planted, count, *(f"{area:.3f}" for area in found.values()), *(f"{s:.1f}" for s in sigmas)])
    header = ["planted", "N", *CLASSIFIERS, "networks, a fifth scored [errors]", "with trees and folds [errors]"]
    print(tabulate(rows, header, "github", disable_numparse=True))
    seconds = {
        key: [sum(benchmark.measure(name, key, n)["seconds"] for name in DISTORTIONS) for n in options.showers]
        for key in CLASSIFIERS
    }
    times = [[key, *(f"{total / len(DISTORTIONS):.1f}" for total in totals)] for key, totals in seconds.items()]
    print("\n" + tabulate(times, ["[s per training]", *map(str, options.showers)], "github", disable_numparse=True))


if __name__ == "__main__":
    main()
