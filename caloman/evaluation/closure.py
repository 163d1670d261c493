"""Closure tests of a two-stage model: the AUC with one part generated and the others true, which tells the part to
improve.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from caloman.errors import CalomanError
from caloman.evaluation.classifier import train_classifier
from caloman.evaluation.comparison import Comparison, Values
from caloman.evaluation.inputs import Inputs
from caloman.evaluation.judge import Judge
from caloman.evaluation.networks import dense
from caloman.evaluation.samples import Sample
from caloman.evaluation.summary import Summary, summarize
from caloman.showers.hdf5 import read_tables

LEVELS = {"cls-low": "low", "cls-high": "high"}

Files = Mapping[str, Sequence[str | Path]]
"""What stands in for generated showers: ``reconstruction`` and ``shapes`` of the reference, a file each, and
``latents``, two files of sampled and of encoded ones.
"""


def closure_steps(judge: Judge, files: Files) -> int:
    """Number of steps that closure tests add to an evaluation.

    Raises:
        CalomanError: if latents are not two files.
    """
    if len(files.get("latents", "12")) != 2:
        raise CalomanError(f"latents needs two files, sampled and encoded latents, not {len(files['latents'])}")
    levels = sum(mode in judge.modes for mode in LEVELS)
    return len(judge.seeds) * sum(1 if name == "latents" else levels for name in files)


def closure_tests(judge: Judge, files: Files, full: Comparison) -> dict[str, Values]:
    """Trains the classifiers of every closure test; `full` compares everything generated with the truth.

    Raises:
        CalomanError: if a file is unusable.
    """
    truth, tests = full.reference, {}
    for name, paths in files.items():
        if name == "latents":
            tests[name] = {"low": _latents_auc(judge, truth, paths)}
            continue
        summary = summarize(Sample.open(paths[0], truth.sample.geometry), truth.spectrum_edges)
        step = f"closure test of {name},"
        found = {LEVELS[mode]: judge.classify(mode, summary, truth, step).auc for mode in LEVELS if mode in judge.modes}
        tests[name] = found
    if tests:
        tests["full"] = {level: full.classifiers[level].auc for level in LEVELS.values() if level in full.classifiers}
    return tests


def _latents_auc(judge: Judge, truth: Summary, paths: Sequence[str | Path]) -> tuple[float, float]:
    """Tells sampled from encoded latents, which have their contexts beside them."""
    preset = judge.preset_of(truth)
    tables = [np.concatenate(read_tables(Path(path), ("latents", "contexts"), "encode"), axis=1) for path in paths]
    inputs = Inputs.of(*(table[: preset.max_showers] for table in tables))
    trainer = partial(train_classifier, network=partial(dense, inputs.n_features, preset.hidden))
    return judge.train(inputs, preset, trainer, "latent classifier").auc
