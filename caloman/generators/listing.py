"""``caloman models``: the generators that come with the package, from the facts in their bundles."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from caloman.files import read_text
from caloman.generators.names import shipped_generators
from caloman.showers.conditions import ENERGY, Condition
from caloman.showers.geometry import Geometry
from caloman.showers.spectra import UNITS
from caloman.specification import build, read_yaml

EVALUATION = "evaluation.json"
"""File of a bundle with the result of the judge, the time of a shower, and the detector in words."""
HEADER = ("name", "particle", "voxels", "MB", "AUC, voxels", "AUC, observables", "ms")


@dataclass(frozen=True)
class GeneratorFacts:
    """A generator of the package.

    Args:
        name: what `caloman.load` knows it by.
        detector: in words.
        geometry: the voxel mesh.
        conditions: what showers are asked for by, with the trained ranges, the energy first.
        megabytes: size of the bundle.
        metrics: the numbers of `caloman evaluate`, each with ``value``, ``error``, ``floor`` and ``floor_error``.
        milliseconds: processor time of one thread per shower.
    """

    name: str
    detector: str
    geometry: Geometry
    conditions: Sequence[Condition]
    megabytes: float
    metrics: Mapping[str, Mapping[str, Any]]
    milliseconds: float

    @property
    def row(self) -> list[str]:
        """A line of the table."""
        aucs = [self.metrics[key] for key in ("auc_low", "auc_high")]
        return [
            self.name,
            self.geometry.particle,
            str(self.geometry.n_voxels),
            f"{self.megabytes:.1f}",
            *(f"{auc['value']:.3f} ({auc['floor']:.3f})" for auc in aucs),
            f"{self.milliseconds:.2f}",
        ]

    @property
    def text(self) -> str:
        """What does not fit into the table."""
        return f"{self.name}: {', '.join(map(condition_text, self.conditions))}\n  {self.detector}"


class GeneratorTable(list[GeneratorFacts]):
    """Generators; its text is what ``caloman models`` says."""

    def __str__(self) -> str:
        table = tabulate([facts.row for facts in self], HEADER, "simple", disable_numparse=True)
        units = "AUC of Geant4 against the generator (of Geant4 against Geant4); ms per shower on one thread"
        return "\n".join([table, "", units, "", *(facts.text for facts in self)])


def list_models() -> GeneratorTable:
    """Lists the generators that come with the package, and how good they are.

    Each has a name that `caloman generate` and `caloman.load` take in the place of a run. Its README.md is the card.
    """
    return GeneratorTable(read_facts(name, folder) for name, folder in shipped_generators().items())


def read_facts(name: str, folder: Path) -> GeneratorFacts:
    """Reads what a bundle of the package tells about itself.

    Raises:
        CalomanError: if one of its files is missing.
    """
    evaluation = json.loads(read_text(folder / EVALUATION))
    config: Any = read_yaml(folder / "config.yaml")
    return GeneratorFacts(
        name=name,
        detector=evaluation["detector"],
        geometry=Geometry.from_xml(folder / "geometry.xml"),
        conditions=build(config["conditions"], list[Condition], f"{folder}: conditions")[0],
        megabytes=sum(file.stat().st_size for file in folder.iterdir()) / 1e6,
        metrics=evaluation["metrics"],
        milliseconds=evaluation["milliseconds"],
    )


def condition_text(condition: Condition) -> str:
    """A condition and what was trained, in a few words; all values in a range of energies may be asked for."""
    if condition.name == ENERGY.name and condition.range:
        low, high = condition.range
        return f"{energy_text(low, math.ceil)} to {energy_text(high, math.floor)}"
    return f"{condition.label} {condition.domain}"


def energy_text(energy: float, rounded: Callable[[float], int]) -> str:
    """An energy [MeV] with three digits, rounded up or down, and the unit that suits it."""
    units = UNITS[ENERGY.unit]
    unit = max((unit for unit, size in units.items() if size <= energy), key=units.__getitem__, default="keV")
    value = energy / units[unit]
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{rounded(round(value / step, 6)) * step:.3g} {unit}"
