"""The format of metrics.json: a typed description, a JSON schema made from it, and a check of files.

Versions 2 and 3 are read, too. What is new since: `extremes` and `neighbor_showers` (3), `equivalent`, `power`,
`learning_curve`, `strongest` and `reading` (4). Floors are scaled to the number of showers from version 3 on.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic needs that of Python 3.12

from caloman.errors import CalomanError
from caloman.evaluation.extremes import Tail
from caloman.evaluation.measures import SCHEMA
from caloman.files import read_text

OLDEST = 2
Pair = Annotated[list[float], Field(min_length=2, max_length=2, description="a value and its error, or from and to")]
Count = Annotated[int, Field(ge=0)]


class File(TypedDict):
    """A file that was read: its name, content and number of showers."""

    file: str
    sha256: str
    showers: Count


class Floor(TypedDict):
    """The Geant4 showers of the floor: both numbers of showers."""

    kind: str
    file: str
    sha256: str
    showers: Annotated[list[Count], Field(min_length=2, max_length=2)]


class Settings(TypedDict):
    """How it was measured."""

    threshold_mev: float
    seeds: list[int]
    neighbor_showers: NotRequired[Count]
    classifier: dict[str, Any]


class Metric(TypedDict):
    """A number with its error, beside the same of Geant4 against Geant4."""

    label: str
    value: float
    error: Annotated[float, Field(ge=0)]
    floor: float
    floor_error: Annotated[float, Field(ge=0)]
    target: Literal["low", "floor"]
    significance: float
    words: str


class Trainings(TypedDict):
    """Numbers of every training of a classifier."""

    scored_showers: list[Count]
    trainings: list[dict[str, float]]


class Classifier(Trainings):
    """Numbers of every training of a classifier, and of its floor."""

    floor: Trainings


class Histogram(TypedDict):
    """Separation power of one histogram; pairs are generated and Geant4."""

    observable: str
    where: str
    layer: int | None
    incident_energies_mev: Pair | None
    value: float
    error: float
    floor: float
    floor_error: float
    entries: list[Count]
    outside: list[float]


class EquivalentNumber(TypedDict):
    """How many Geant4 showers the generated ones are worth by one distance; a lower limit has no error."""

    label: NotRequired[str]
    showers: Count
    error: Count | None
    at_least: bool
    words: str
    distance: float
    curve: list[dict[str, float]]


class EquivalentWindow(TypedDict):
    """The same in a window of the incident energy [MeV]."""

    window: Pair
    measures: dict[str, EquivalentNumber]


class Equivalent(TypedDict):
    """How many Geant4 showers the generated ones are worth."""

    statement: str
    training_showers: Count | None
    measures: dict[str, EquivalentNumber]
    windows: list[EquivalentWindow]


class Sentence(TypedDict):
    """What is wrong, in words."""

    text: str
    group: str
    significance: float


class Telltale(TypedDict):
    """A shower that gives the generator away: its number in the sample, and ln p(Geant4) / p(generated)."""

    position: Count
    log_ratio: float


class Reading(TypedDict):
    """What is wrong, and what a classifier goes by: the fall of its AUC without a group of features."""

    statement: str
    sentences: list[Sentence]
    auc: Pair
    importances: dict[str, Pair]
    telltale: dict[str, list[Telltale]]


class Quantity(TypedDict):
    """A mean or a resolution with its error, and by how many errors the generated one is larger."""

    generated: Pair
    reference: Pair
    pull: float


class ConditionBin(TypedDict):
    """What showers are like in a bin of a condition; pairs of numbers are generated and Geant4."""

    bin: str
    range: Pair
    showers: list[Count]
    quantities: dict[str, Quantity]


class ConditionBins(TypedDict):
    """What showers are like in bins of a condition."""

    condition: str
    bins: list[ConditionBin]


class PublishedField(TypedDict):
    """Where the sample would stand among published results, and why it may not be compared."""

    not_comparable: list[str]
    standings: list[dict[str, Any]]


class Sample(File):
    """Everything about one generated sample."""

    name: str
    verdict: str
    warnings: list[str]
    metrics: dict[str, Metric]
    classifiers: dict[str, Classifier]
    histograms: list[Histogram]
    field: PublishedField
    strongest: NotRequired[str | None]
    extremes: NotRequired[list[Tail]]
    equivalent: NotRequired[Equivalent]
    learning_curve: NotRequired[dict[str, Any]]
    reading: NotRequired[Reading]
    conditions: NotRequired[list[ConditionBins]]
    closure_tests: NotRequired[dict[str, dict[str, Pair]]]


class Document(TypedDict):
    """The content of metrics.json."""

    schema: Annotated[int, Field(ge=OLDEST, le=SCHEMA, description="version of the format")]
    caloman: str
    dataset: str
    preset: str
    modes: list[str]
    settings: Settings
    reference: File
    floor: Floor
    samples: Annotated[list[Sample], Field(min_length=1)]
    power: NotRequired[dict[str, Any]]
    posterior: NotRequired[dict[str, Any]]
    ensemble: NotRequired[dict[str, Any]]


def json_schema() -> dict[str, Any]:
    """The format as a JSON schema (draft 2020-12), as it is shipped in ``metrics.schema.json``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"metrics.json of caloman evaluate, version {SCHEMA}",
        **{key: value for key, value in _adapter().json_schema().items() if key != "title"},
    }


def read_metrics(path: Path) -> Document:
    """Reads and checks a metrics.json.

    Raises:
        CalomanError: if it is none, of a version that is not read, or a field is missing or wrong.
    """
    try:
        text = read_text(path)
        content = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (CalomanError, ValueError, RecursionError):
        raise CalomanError(f"{path}: not a metrics.json of `caloman evaluate`; name one or its folder") from None
    version = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise CalomanError(f"{path}: not a metrics.json of `caloman evaluate`; name one or its folder")
    if not OLDEST <= version <= SCHEMA:
        raise CalomanError(
            f"{path}: has schema {version}, not {OLDEST} to {SCHEMA}; run `caloman evaluate` of this version again"
        )
    try:
        return _adapter().validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise CalomanError(
            f"{path}: {place} is not as metrics.json has it ({first['msg']}); run `caloman evaluate` again"
        ) from None


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError
    return number


@cache
def _adapter() -> TypeAdapter[Document]:
    return TypeAdapter(Document)
