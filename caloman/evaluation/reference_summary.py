"""What Geant4 showers say among themselves, kept in a file for the next generator that is judged by them.

Of the generated showers the floor and the power of the judge depend on no more than their number at each energy.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs that of Python 3.12

from caloman import __version__
from caloman.errors import CalomanError
from caloman.evaluation.comparison import Comparison
from caloman.evaluation.judge import Judge
from caloman.evaluation.lineup import Lineup
from caloman.evaluation.schema import Error, Power, Trainings
from caloman.files import read_text, write


class ReferenceSummary(TypedDict):
    """Numbers of the floor and of the trainings of its classifiers, the power of the judge if it was measured, and what
    decided them.
    """

    belongs_to: dict[str, str]
    values: dict[str, tuple[float, Error]]
    trainings: dict[str, Trainings]
    power: Power | None


def keep(path: Path, judge: Judge, lineup: Lineup, floor: Comparison, power: Power | None) -> None:
    """Writes a summary as JSON.

    Raises:
        CalomanError: if it cannot be written.
    """
    content = ReferenceSummary(
        belongs_to=_owner(judge, lineup), values=floor.values, trainings=floor.trainings, power=power
    )
    write(path, json.dumps(content, indent=1, allow_nan=False))


def recall(path: Path, judge: Judge, lineup: Lineup) -> ReferenceSummary:
    """Reads a summary.

    Raises:
        CalomanError: if the file is none, or belongs to another reference, mesh, protocol or version.
    """
    try:
        found = TypeAdapter(ReferenceSummary).validate_json(read_text(path))
    except (CalomanError, ValidationError):
        raise CalomanError(f"{path}: not a summary that --reference-summary wrote; remove it") from None
    for name, expected in _owner(judge, lineup).items():
        owner = found["belongs_to"].get(name)
        if owner != expected:
            raise CalomanError(f"{path}: was made with another {name}, {owner} instead of {expected}; remove it or "
                               "name another file with --reference-summary")  # fmt: skip
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
