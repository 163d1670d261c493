"""Closure tests of a two-stage model: the AUC with one part generated and the others true, which tells the part to
improve.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.evaluation.classifier import train_classifier
from caloman.evaluation.inputs import Inputs
from caloman.evaluation.judge import CLASSIFIERS, Judge
from caloman.evaluation.networks import dense
from caloman.evaluation.results import ClosureTests, Comparison
from caloman.evaluation.samples import Sample, Summary, summarize
from caloman.showers.hdf5 import read_tables

LEVELS = ("cls-low", "cls-high")


@dataclass(frozen=True)
class ClosureFiles:
    """What stands in for generated showers, as far as it was given: reconstructions of the reference, generated shapes
    with its layer energies, and two files of sampled and of encoded latents.
    """

    reconstruction: str | Path | None
    shapes: str | Path | None
    latents: Sequence[str | Path] | None

    def __post_init__(self) -> None:
        if self.latents is not None and len(self.latents) != 2:
            raise CalomanError(f"latents needs two files, sampled and encoded latents, not {len(self.latents)}")

    @property
    def showers(self) -> dict[str, str | Path]:
        """The shower files by closure test."""
        files = {"reconstruction": self.reconstruction, "shapes": self.shapes}
        return {name: file for name, file in files.items() if file is not None}

    def steps(self, judge: Judge) -> int:
        """Number of steps that they add to an evaluation."""
        trainings = len(self.showers) * sum(mode in judge.modes for mode in LEVELS) + (self.latents is not None)
        return trainings * len(judge.seeds)

    def measure(self, judge: Judge, truth: Summary, full: Comparison) -> ClosureTests:
        """Trains the classifiers of every closure test; `full` compares everything generated with the `truth`.

        Raises:
            CalomanError: if a file is unusable.
        """
        levels = {mode: CLASSIFIERS[mode] for mode in LEVELS if mode in judge.modes}
        tests: ClosureTests = {}
        for name, file in self.showers.items():
            summary = summarize(Sample.open(file, truth.sample.geometry), truth.spectrum_edges)
            step = f"closure test of {name},"
            tests[name] = {level: judge.classify(mode, summary, truth, step).auc for mode, level in levels.items()}
        if self.latents is not None:
            tests["latents"] = {"low": _latents_auc(judge, truth, self.latents)}
        if tests:
            tests["full"] = {level: full.classifiers[level].auc for level in levels.values()}
        return tests


def _latents_auc(judge: Judge, truth: Summary, files: Sequence[str | Path]) -> tuple[float, float]:
    preset = judge.preset_of(truth)
    inputs = Inputs.of(*(_coordinates(Path(file))[: preset.max_showers] for file in files))
    trainer = partial(train_classifier, network=partial(dense, inputs.n_features, preset.hidden))
    return judge.train(inputs, preset, trainer, "latent classifier").auc


def _coordinates(path: Path) -> NDArray[np.float32]:
    """Latents and their contexts, shape (N, d + C)."""
    return np.concatenate(read_tables(path, ("latents", "contexts"), "encode"), axis=1)
