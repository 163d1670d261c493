"""Conditions: what is known of an incident particle, as named columns of numbers.

In a file a condition is a table ``incident_NAME`` of one column; that of the energy is called ``incident_energies``.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError

Columns = Mapping[str, NDArray[np.float32]]  # values of conditions by name, each of shape (N,)

TABLE = re.compile(r"incident_([a-z][a-z0-9_]{0,30})")
TURN = 2 * math.pi
GAP = 0.2  # widest gap [rad] between the values of a periodic condition that still counts as trained
ROUNDING = 1e-6  # values are float32 in files, so the ends of a range may be off by a rounding
EDGE = 2e-3
"""Part of a range by which values may lie beyond it: a spectrum goes a little beyond the extremes of a sample."""
MOST_CATEGORIES = 100
LONGEST_UNIT = 20


@dataclass(frozen=True)
class Condition:
    """A named column.

    Args:
        name: such as ``theta``.
        unit: of its values, such as rad.
        kind: a number, an angle that closes after a turn, or a whole number that stands for a category.
        range: smallest and largest trained value; of a periodic condition the ends of the trained arc, in this order
            counterclockwise, a whole turn apart if all angles were trained. None before the training.
        categories: the trained categories, ascending.
    """

    name: str
    unit: str = ""
    kind: Literal["continuous", "periodic", "category"] = "continuous"
    range: tuple[float, float] | None = None
    categories: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        low, high = self.range or (1.0, 1.0)
        if not -math.inf < low <= high < math.inf or len(self.categories) > MOST_CATEGORIES:
            raise CalomanError(f"condition {self.name!r}: needs a finite range, the smaller end first, and at most "
                               f"{MOST_CATEGORIES} categories")  # fmt: skip
        if self.unit == "MeV" and low <= 0:
            raise CalomanError(f"condition {self.name!r}: needs a range of positive energies")
        if not self.unit.isprintable() or len(self.unit) > LONGEST_UNIT:
            raise CalomanError(f"condition {self.name!r}: needs a short and printable unit")
        if self.range if self.kind == "category" else self.categories:
            raise CalomanError(f"condition {self.name!r}: has either a range or, as a category, categories")

    @property
    def label(self) -> str:
        """Its name in tables and messages."""
        return self.name.removeprefix("incident_")

    @property
    def plural(self) -> str:
        """What several of its values are called."""
        return "energies" if self.name == ENERGY.name else self.name

    @property
    def table(self) -> str:
        """Name of its table in a file."""
        return "incident_energies" if self.name == ENERGY.name else f"incident_{self.name}"

    def check(self, values: NDArray[np.floating], source: object, first_row: int = 0) -> None:
        """Refuses values (N,) that make no sense.

        Raises:
            CalomanError: with the first of them, its row and `source`.
        """
        for wrong, reason in self._faults(values):
            if wrong.any():
                row = int(np.argmax(wrong))
                raise CalomanError(f"{source}: {self.table!r} of shower {first_row + row} is "
                                   f"{values[row]:g}{self._unit}; {reason}")  # fmt: skip

    def _faults(self, values: NDArray[np.floating]) -> Iterator[tuple[NDArray[np.bool_], str]]:
        if self.name == ENERGY.name:
            yield ~(np.isfinite(values) & (values > 0)), "energies must be positive, remove or correct that shower"
        yield ~np.isfinite(values), "conditions must be finite numbers, remove or correct that shower"
        if self.unit == "rad":
            yield np.abs(values) > TURN * (1 + ROUNDING), "degrees where radians are meant? give angles within +- 2 pi"
        if self.kind == "category":
            yield (values % 1 != 0) | (np.abs(values) > 2**24), "a category is a whole number up to 2^24"

    def trained(self, values: NDArray[np.floating]) -> "Condition":
        """The same condition with the range or the categories of training values (N,).

        Raises:
            CalomanError: if there are too many categories.
        """
        if self.kind == "category":
            return replace(self, categories=tuple(np.unique(values).astype(int).tolist()))
        if self.kind == "periodic":
            return replace(self, range=_arc(values))
        return replace(self, range=(float(values.min()), float(values.max())))

    def covers(self, values: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which values (N,) lie in the trained range or at its edge, energies in their logarithm, or are categories."""
        if self.kind == "category":
            return np.isin(values, self.categories)
        if self.range is None:
            return np.isfinite(values)
        low, high = self.range
        if self.kind == "periodic":
            return (values - low + ROUNDING) % TURN <= high - low + 2 * ROUNDING
        if self.name == ENERGY.name:
            values, low, high = np.log(values), math.log(low), math.log(high)
        edge = EDGE * (high - low) + ROUNDING * max(1.0, abs(low), abs(high))
        return (values >= low - edge) & (values <= high + edge)

    def at(self, places: NDArray[np.floating]) -> NDArray[np.floating]:
        """Values (N,) at places (N,) in the trained range, from 0 (lowest) to 1; energies in their logarithm."""
        if self.categories:
            last = len(self.categories) - 1
            return np.array(self.categories)[np.minimum(places * (last + 1), last).astype(int)]
        if self.name == ENERGY.name:
            low, high = self.range or (1.0, 1e9)
            return low * (high / low) ** places
        low, high = self.range or (0.0, 1.0)
        return low + (high - low) * places

    def check_trained(self, values: NDArray[np.floating]) -> None:
        """Refuses values (N,) outside the trained range, and unknown categories.

        Raises:
            CalomanError: with the first of them.
        """
        outside = ~self.covers(values)
        if outside.any():
            insist = "" if self.kind == "category" else ", or insist with `caloman generate --extrapolate`"
            raise CalomanError(f"incident {self.label} {values[outside][0]:g}{self._unit} is outside the range of the "
                               f"training, {self.domain}; ask for values inside it{insist}")  # fmt: skip

    @property
    def domain(self) -> str:
        """The trained values, in words."""
        if self.categories:
            return "categories " + ", ".join(map(str, self.categories))
        return f"{self.range[0]:g} to {self.range[1]:g}{self._unit}" if self.range else "none, the model is untrained"

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""


ENERGY = Condition("incident_energy", "MeV")
KNOWN = {
    condition.name: condition
    for condition in (
        ENERGY,
        Condition("theta", "rad"),
        Condition("phi", "rad", "periodic"),
        Condition("detector", kind="category"),
        Condition("pdg", kind="category"),
    )
}
"""Conditions with a fixed meaning; others are numbers without a unit."""


def known(name: str) -> Condition:
    """The condition of this name."""
    return KNOWN.get(name, Condition(name))


def table_names(names: Iterable[str]) -> list[str]:
    """Names of the conditions beside the energy whose tables are among these names, in alphabetical order."""
    matches = (TABLE.fullmatch(name) for name in names)
    return sorted(match[1] for match in matches if match and match[0] != ENERGY.table and match[1] != ENERGY.name)


class Conditions(tuple[Condition, ...]):
    """The conditions of a generator in declared order, the incident energy first.

    Raises:
        CalomanError: if the energy is not the first, a name comes twice or a name cannot be that of a table.
    """

    def __new__(cls, conditions: Iterable[Condition] = (ENERGY,)) -> "Conditions":
        self = super().__new__(cls, conditions)
        listed = ", ".join(self.names)
        if not self or self[0].name != ENERGY.name:
            raise CalomanError(f"conditions: the first has to be {ENERGY.name}, not {listed or 'none'}")
        if len(set(self.names)) < len(self) or any(not TABLE.fullmatch(f"incident_{c.name}") for c in self[1:]):
            raise CalomanError(f"conditions: {listed}: needs distinct names of lower-case letters, digits and _")
        for condition in self:
            meant = known(condition.name)
            if condition.name in KNOWN and (condition.unit, condition.kind) != (meant.unit, meant.kind):
                raise CalomanError(
                    f"conditions: {condition.name!r} has to be {meant.kind} with the unit {meant.unit!r}"
                )
        return self

    @classmethod
    def energies(cls, low: float, high: float) -> "Conditions":
        """The energy alone, trained from `low` to `high` [MeV]."""
        return cls([replace(ENERGY, range=(low, high))])

    @property
    def names(self) -> list[str]:
        """Their names, that of the energy first."""
        return [condition.name for condition in self]

    @property
    def further(self) -> list[str]:
        """Names of all but the energy."""
        return self.names[1:]

    def matrix(self, energies: NDArray[np.floating], columns: Columns, source: object) -> NDArray[np.float32]:
        """The values as columns in declared order, shape (N, C).

        Args:
            energies: incident energies [MeV], shape (N,).
            columns: values of the other conditions; those that are not declared are left out.
            source: what an error names.

        Raises:
            CalomanError: if a condition is missing, of another length, or has values that make no sense.
        """
        found = {**columns, ENERGY.name: energies}
        out = np.empty((len(energies), len(self)), np.float32)
        for index, condition in enumerate(self):
            if condition.name not in found:
                raise CalomanError(f"{source}: no {condition.table!r}; the model needs {', '.join(self.names)}, "
                                   "one number per shower")  # fmt: skip
            values = np.asarray(found[condition.name], np.float32)
            if values.shape != (len(energies),):
                raise CalomanError(f"{source}: {condition.table!r} has shape {values.shape} for {len(energies)} "
                                   "showers; give one number per shower")  # fmt: skip
            condition.check(values, source)
            out[:, index] = values
        return out

    def columns(self, matrix: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """All but the energy of values (N, C), by name."""
        return {name: matrix[:, index] for index, name in enumerate(self.further, start=1)}

    def trained(self, matrix: NDArray[np.float32]) -> "Conditions":
        """The same conditions with the ranges of training values (N, C)."""
        return Conditions(condition.trained(values) for condition, values in zip(self, matrix.T, strict=True))

    def check_trained(self, matrix: NDArray[np.float32]) -> None:
        """Refuses values (N, C) outside the training.

        Raises:
            CalomanError: with the first of them.
        """
        for condition, values in zip(self, matrix.T, strict=True):
            condition.check_trained(values)

    def at(self, places: NDArray[np.floating]) -> NDArray[np.float32]:
        """Values (N, C) at places (N, C) in their trained ranges, from 0 (lowest) to 1; energies in their logarithm."""
        return np.stack([c.at(p) for c, p in zip(self, places.T, strict=True)], axis=1).astype(np.float32)

    def plain(self) -> list[dict[str, Any]]:
        """As plain data for a manifest."""
        fields = ("name", "unit", "kind", "range", "categories")
        values = ({field: getattr(condition, field) for field in fields} for condition in self)
        return [{k: list(v) if isinstance(v, tuple) else v for k, v in entry.items() if v} for entry in values]


ENERGY_ONLY = Conditions()


def check_equal_names(names: Collection[str], expected: Collection[str], source: object) -> None:
    """Makes sure that showers which come together have the same conditions.

    Raises:
        CalomanError: with `source` and the first difference.
    """
    for name in [*expected, *names]:
        if (name in names) != (name in expected):
            verb, first = ("has no", "have it") if name in expected else ("has", "have none")
            raise CalomanError(f"{source}: {verb} {known(name).table!r}, where the showers before {first}; join "
                               "showers with the same conditions")  # fmt: skip


def _arc(angles: NDArray[np.floating]) -> tuple[float, float]:
    """The shortest arc that holds all angles (N,) [rad]; a whole turn from -pi if no gap is wide."""
    turned = np.unique((angles.astype(np.float64) + math.pi) % TURN - math.pi)
    gaps = np.diff(turned, append=turned[0] + TURN)
    widest = int(np.argmax(gaps))
    if gaps[widest] < GAP:
        return (-math.pi, math.pi)
    low = float(turned[(widest + 1) % len(turned)])
    return (low, low + TURN - float(gaps[widest]))
