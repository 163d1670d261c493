"""The format of metrics.json: what the judge fills, and what files are checked against.

Versions 2 and 3 are read, too. What is new since: `extremes` and `neighbor_showers` (3), `equivalent`, `power`,
`learning_curve`, `strongest` and `reading` (4). Floors are scaled to the number of showers from version 3 on.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict  # pydantic needs that of Python 3.12

OLDEST, SCHEMA = 2, 4  # versions that are read; the second one is written

Pair = Annotated[list[float], Field(min_length=2, max_length=2, description="a value and its error, or from and to")]
Count = Annotated[int, Field(ge=0)]
Error = Annotated[float, Field(ge=0)]


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
    error: Error
    floor: float
    floor_error: Error
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


class Tail(TypedDict):
    """One tail of an observable: generated showers beyond the most extreme Geant4 shower of their incident energy.

    `expected` is their mean number if both samples have one distribution, and `p_value` the two-sided probability of a
    number at least as unlikely. The other numbers are of the `window` [MeV] with the least likely `overshoot`,
    (generated - reference) / (reference - median), whose probability `p_overshoot` bounds for exponential tails.
    """

    observable: str
    side: str
    beyond: int
    expected: float
    p_value: float
    generated: float
    reference: float
    window: Pair
    overshoot: float
    p_overshoot: float


class EquivalentNumber(TypedDict):
    """How many Geant4 showers the generated ones are worth by one distance; a lower limit has no error.

    `curve` has the distances of n Geant4 `showers`, by n.
    """

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


class Point(TypedDict):
    """An AUC at a number of showers of each class."""

    showers: Count
    value: float
    error: Error


class LearningCurve(TypedDict):
    """AUC of one classifier at growing numbers of showers, measured and extrapolated."""

    classifier: str
    statement: str
    points: list[Point]
    extrapolated: list[Point]


class Distortion(TypedDict):
    """The smallest size of a planted distortion that is seen, None if it is none of those tried."""

    name: str
    words: str
    planted: float
    seen: float | None
    tried: list[dict[str, float]]


class Power(TypedDict):
    """What a classifier sees with so many showers of each class, and the AUC that it must reach for it."""

    classifier: str
    statement: str
    showers: Count
    auc: float
    distortions: list[Distortion]


class Sentence(TypedDict):
    """What is wrong, in words, the group of the features, and the significance in standard errors."""

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
    learning_curve: NotRequired[LearningCurve]
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
    power: NotRequired[Power]
    posterior: NotRequired[dict[str, Any]]
    ensemble: NotRequired[dict[str, Any]]
