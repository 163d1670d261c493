"""Gates: the AUC of a two-stage model with one part in the place of the truth, which tells the part to improve."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.evaluation.classifier import Score
from caloman.evaluation.inputs import Inputs
from caloman.evaluation.judge import CLASSIFIERS, Comparison, Gates, Judge
from caloman.evaluation.networks import dense
from caloman.evaluation.samples import Sample, Summary, summarize
from caloman.showers.hdf5 import read_tables

GATE_MODES = ("cls-low", "cls-high")


@dataclass(frozen=True)
class GateFiles:
    """What stands in for generated showers.

    Args:
        reconstruction: encoded and decoded showers of the reference, or None.
        shapes: generated shapes with the layer energies of the reference, or None.
        latents: two files, latents that were sampled and latents that were encoded, or None.
    """

    reconstruction: str | Path | None
    shapes: str | Path | None
    latents: Sequence[str | Path] | None

    def __post_init__(self) -> None:
        if self.latents is not None and len(self.latents) != 2:
            raise CalomanError(f"latents needs two files, sampled and encoded latents, not {len(self.latents)}")

    @property
    def showers(self) -> dict[str, str | Path]:
        """The shower files by gate."""
        files = {"reconstruction": self.reconstruction, "shapes": self.shapes}
        return {name: file for name, file in files.items() if file is not None}

    def steps(self, judge: Judge) -> int:
        """Number of steps that they add to an evaluation."""
        trainings = len(self.showers) * sum(mode in judge.modes for mode in GATE_MODES) + (self.latents is not None)
        return trainings * len(judge.seeds)

    def measure(self, judge: Judge, truth: Summary, full: Comparison) -> Gates:
        """Trains the classifiers of every gate.

        Args:
            judge: how the full model was compared.
            truth: the reference.
            full: the comparison of generated showers with it.

        Raises:
            CalomanError: if a file is unusable.
        """
        levels = [mode for mode in GATE_MODES if mode in judge.modes]
        gates: Gates = {}
        for name, file in self.showers.items():
            summary = summarize(Sample.open(file, truth.sample.geometry), truth.spectrum_edges)
            scores = {CLASSIFIERS[mode]: judge.classify(mode, summary, truth) for mode in levels}
            gates[name] = {level: (score.mean, score.error) for level, score in scores.items()}
        if self.latents is not None:
            score = _latent_score(judge, truth, *map(Path, self.latents))
            gates["latents"] = {"low": (score.mean, score.error)}
        if gates:
            keys = [CLASSIFIERS[mode] for mode in levels]
            gates["full"] = {key: (full.scores[key].mean, full.scores[key].error) for key in keys}
        return gates


def _latent_score(judge: Judge, truth: Summary, sampled: Path, encoded: Path) -> Score:
    preset = judge.preset_of(truth)
    inputs = Inputs.of(*(_coordinates(path)[: preset.max_showers] for path in (sampled, encoded)))
    return judge.score(inputs, preset, partial(dense, inputs.n_features, preset.hidden), "latent classifier")


def _coordinates(path: Path) -> NDArray[np.float32]:
    """Latents and their contexts, shape (N, d + C)."""
    return np.concatenate(read_tables(path, ("latents", "contexts"), "encode"), axis=1)
