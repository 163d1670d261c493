"""What Geant4 showers say among themselves, kept in a file for the next generator that is judged by them.

Of the generated showers the floor and the power of the judge depend on no more than their number at each energy.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from caloman import __version__
from caloman.errors import CalomanError
from caloman.evaluation.classifier import ClassifierTest, Training
from caloman.evaluation.judge import Judge
from caloman.evaluation.lineup import Lineup
from caloman.evaluation.power import Power
from caloman.evaluation.results import Comparison, Values
from caloman.files import write


class ReferenceSummary(NamedTuple):
    """Numbers of the floor, and the power of the judge if it was measured."""

    classifiers: dict[str, ClassifierTest]
    values: Values
    power: Power | None


def keep(path: Path, judge: Judge, lineup: Lineup, floor: Comparison, power: Power | None) -> None:
    """Writes a summary: four rows for each training of a classifier as safetensors, and numbers as JSON beside them.

    Raises:
        CalomanError: if it cannot be written.
    """
    arrays = {
        f"{key}/{number}": np.stack([training.labels, training.logits, training.probabilities, training.log_ratios])
        for key, test in floor.classifiers.items()
        for number, training in enumerate(test.trainings)
    }
    content = {
        "belongs_to": _owner(judge, lineup),
        "values": floor.values,
        "power": power and power.to_json(),
        "protocols": {key: (test.recalibrated, test.folds) for key, test in floor.classifiers.items()},
    }
    write(path, save(arrays, {"content": json.dumps(content)}))


def recall(path: Path, judge: Judge, lineup: Lineup) -> ReferenceSummary:
    """Reads a summary.

    Raises:
        CalomanError: if the file is none, or belongs to another reference, mesh, protocol or version.
    """
    damaged = CalomanError(f"{path}: not a summary that --reference-summary wrote; remove it")
    if not path.is_file():  # a pipe would wait forever
        raise damaged
    try:
        with safe_open(path, "numpy") as file:
            content = json.loads(file.metadata()["content"])
            trainings = {key: _rows(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118 - no mapping
        owner, values, power = content["belongs_to"], content["values"], content["power"]
        for name, expected in _owner(judge, lineup).items():
            if owner[name] != expected:
                raise CalomanError(f"{path}: was made with another {name}, {owner[name]} instead of {expected}; remove "
                                   "it or name another file with --reference-summary")  # fmt: skip
        tests = {key: _test(key, trainings, *protocol) for key, protocol in content["protocols"].items()}
        numbers = {key: (float(value), float(error)) for key, (value, error) in values.items()}
        return ReferenceSummary(tests, numbers, power and Power.from_json(power))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged from None


def _owner(judge: Judge, lineup: Lineup) -> dict[str, str]:
    """What decides the numbers of a summary, in words."""
    floor = hashlib.sha256()
    for sample in lineup.floor:
        floor.update(f"{sample.sha256} {np.packbits(sample.rows).tobytes().hex()}".encode())
    mesh = hashlib.sha256(repr(lineup.geometry).encode())
    return {
        "version of caloman": __version__,
        "mesh": f"{lineup.geometry.name} ({mesh.hexdigest()[:12]})",
        "reference": f"{lineup.reference.name} ({lineup.reference.sha256[:12]})",
        "floor": f"{' and '.join(str(len(sample)) for sample in lineup.floor)} showers ({floor.hexdigest()[:12]})",
        "choice of modes": " ".join(judge.modes),
        "preset": judge.preset,
        "choice of seeds": " ".join(map(str, judge.seeds)),
        "number of neighbors": str(judge.neighbors),
    }


def _rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    if rows.dtype != np.float64 or rows.ndim != 2 or len(rows) != 4 or np.isnan(rows).any():
        raise ValueError("not the four rows of a training")
    return rows


def _test(key: str, trainings: dict[str, NDArray[np.float64]], recalibrated: bool, folds: int) -> ClassifierTest:
    rows = [trainings[name] for name in trainings if name.rpartition("/")[0] == key]
    if not rows:
        raise ValueError("no training of this classifier")
    found = tuple(Training(labels.astype(np.int64), *others) for labels, *others in rows)
    return ClassifierTest(found, bool(recalibrated), int(folds))
