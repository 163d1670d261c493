"""What Geant4 showers say among themselves, kept in a file for the next generator that is judged by them.

Of the generated showers the floor and the power of the judge depend on no more than their number at each energy.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from caloman import __version__
from caloman.errors import CalomanError
from caloman.evaluation.comparison import Comparison, Values
from caloman.evaluation.judge import Judge
from caloman.evaluation.lineup import Lineup
from caloman.evaluation.schema import Power, Trainings
from caloman.files import read_text, write


class ReferenceSummary(NamedTuple):
    """Numbers of the floor and of the trainings of its classifiers, and the power of the judge if it was measured."""

    values: Values
    trainings: dict[str, Trainings]
    power: Power | None


def keep(path: Path, judge: Judge, lineup: Lineup, floor: Comparison, power: Power | None) -> None:
    """Writes a summary as JSON.

    Raises:
        CalomanError: if it cannot be written.
    """
    content = ReferenceSummary(floor.values, floor.trainings, power)._asdict()
    write(path, json.dumps({"belongs_to": _owner(judge, lineup), **content}, indent=1))


def recall(path: Path, judge: Judge, lineup: Lineup) -> ReferenceSummary:
    """Reads a summary.

    Raises:
        CalomanError: if the file is none, or belongs to another reference, mesh, protocol or version.
    """
    try:
        content = json.loads(read_text(path))
        owner = dict(content.pop("belongs_to"))
        values = {key: (float(value), float(error)) for key, (value, error) in content.pop("values").items()}
        found = ReferenceSummary(values, **content)
    except (CalomanError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CalomanError(f"{path}: not a summary that --reference-summary wrote; remove it") from None
    for name, expected in _owner(judge, lineup).items():
        if owner.get(name) != expected:
            raise CalomanError(f"{path}: was made with another {name}, {owner.get(name)} instead of {expected}; remove "
                               "it or name another file with --reference-summary")  # fmt: skip
    return found


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
