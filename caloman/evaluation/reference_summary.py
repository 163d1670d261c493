"""What Geant4 showers say among themselves, kept in a file for the next generator that is judged by them.

Of the generated showers the floor and the power of the judge depend on no more than their number at each energy.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from caloman import __version__
from caloman.errors import CalomanError
from caloman.evaluation.classifier import ClassifierTest, Training
from caloman.evaluation.comparison import Values
from caloman.evaluation.judge import Judge
from caloman.evaluation.lineup import Lineup
from caloman.evaluation.results import Results
from caloman.evaluation.schema import Power
from caloman.files import write


class ReferenceSummary(NamedTuple):
    """Numbers of the floor, and the power of the judge if it was measured."""

    classifiers: dict[str, ClassifierTest]
    values: Values
    power: Power | None


def keep(path: Path, judge: Judge, lineup: Lineup, results: Results) -> None:
    """Writes a summary: numbers as JSON, and four rows for each training of a classifier, as an .npz archive.

    Raises:
        CalomanError: if it cannot be written.
    """
    tests = results.floor.classifiers
    arrays: dict[str, Any] = {
        f"{key}/{number}": np.stack([training.labels, training.logits, training.probabilities, training.log_ratios])
        for key, test in tests.items()
        for number, training in enumerate(test.trainings)
    }
    content = {
        "belongs_to": _owner(judge, lineup),
        "values": results.floor.values,
        "power": results.power,
        "protocols": {key: (test.recalibrated, test.folds) for key, test in tests.items()},
    }
    np.savez(buffer := io.BytesIO(), content=np.array(json.dumps(content)), **arrays)
    write(path, buffer.getvalue())


def recall(path: Path, judge: Judge, lineup: Lineup) -> ReferenceSummary:
    """Reads a summary.

    Raises:
        CalomanError: if the file is none, or belongs to another reference, mesh, protocol or version.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            content = json.loads(str(archive["content"]))
            arrays = {key: archive[key] for key in archive.files if key != "content"}
        owner = content["belongs_to"]
        tests = {
            key: ClassifierTest(tuple(_training(arrays[n]) for n in arrays if n.startswith(f"{key}/")), *protocol)
            for key, protocol in content["protocols"].items()
        }
        values = {key: (value, error) for key, (value, error) in content["values"].items()}
        found = ReferenceSummary(tests, values, content["power"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadZipFile):
        raise CalomanError(f"{path}: not a summary that --reference-summary wrote; remove it") from None
    for name, expected in _owner(judge, lineup).items():
        if owner.get(name) != expected:
            raise CalomanError(f"{path}: was made with another {name}, {owner.get(name)} instead of {expected}; remove "
                               "it or name another file with --reference-summary")  # fmt: skip
    return found


def _training(rows: np.ndarray) -> Training:
    labels, *others = rows
    return Training(labels.astype(np.int64), *others)


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
