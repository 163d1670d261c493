"""What showers are asked for: the conditions of a generator, chunk by chunk, the same for any number of jobs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.showers.conditions import Condition, Conditions
from caloman.showers.spectra import Listed, Spectrum, is_file, parse_values, read_request, values_from_files


@dataclass(frozen=True)
class Request:
    """A spectrum for each condition of a generator.

    Each but the energy's has random numbers that depend on its name.

    Args:
        conditions: of the generator.
        spectra: theirs, in the same order.
    """

    conditions: Conditions
    spectra: tuple[Spectrum, ...]

    @classmethod
    def read(
        cls, conditions: Conditions, energies: str | None, n: int | None, given: Mapping[str, str]
    ) -> tuple["Request", int]:
        """What was asked for, and the number of showers, by default that of the energies listed.

        Args:
            conditions: of the generator.
            energies: specification of the energies; files also tell all conditions that are not given.
            n: number of showers.
            given: specifications of other conditions by name.

        Raises:
            CalomanError: if a condition is missing, unknown, or cannot be read, or the number is not possible.
        """
        spectrum, total = read_request(energies, n)
        unknown = next((name for name in given if name not in conditions.further), None)
        if unknown is not None:
            raise CalomanError(
                f"{unknown}: no condition of this model, which has {', '.join(conditions.names)}; leave it out"
            )
        spectra = [cls._spectrum(condition, energies or "", given) for condition in conditions[1:]]
        return cls(conditions, (spectrum, *spectra)), total

    @staticmethod
    def _spectrum(condition: Condition, energies: str, given: Mapping[str, str]) -> Spectrum:
        if condition.name in given:
            return parse_values(given[condition.name], condition)
        if is_file(energies):
            return Listed(values_from_files(energies, condition))
        raise CalomanError(
            f"this model needs {condition.name!r}, too; say at which values, such as --conditions "
            f"{condition.name}=VALUE, or take --energies from a file with {condition.table!r}"
        )

    @property
    def is_covered(self) -> bool:
        """Whether everything asked for lies in the trained ranges."""
        return all(bool(condition.covers(values).all()) for condition, values in self._extremes())

    def check(self, extrapolate: bool = False) -> None:
        """Refuses what lies outside the trained ranges; of categories always.

        Raises:
            CalomanError: with the first value outside.
        """
        for condition, values in self._extremes():
            if condition.kind == "category" or not extrapolate:
                condition.check_trained(values)

    def _extremes(self) -> list[tuple[Condition, NDArray[np.floating]]]:
        pairs = zip(self.conditions, self.spectra, strict=True)
        return [(c, s.bounds if c.kind == "continuous" else s.samples) for c, s in pairs]

    def attributes(self) -> dict[str, str]:
        """Text of each spectrum, for a file."""
        names = ("energies", *self.conditions.further)
        return {name: str(spectrum) for name, spectrum in zip(names, self.spectra, strict=True)}

    def chunk(self, seed: int, chunk: int, rows: int) -> NDArray[np.float32]:
        """Conditions of the first `rows` showers of a chunk, shape (rows, C)."""
        streams = ((), *((crc32(name.encode()),) for name in self.conditions.further))
        columns = [s.chunk(seed, chunk, rows, stream) for s, stream in zip(self.spectra, streams, strict=True)]
        return np.stack(columns, axis=1)


def read_assignments(texts: list[str], **options: str | None) -> dict[str, str]:
    """Specifications by name, from texts such as ``detector=3`` and from options of their own; None is no option.

    Raises:
        CalomanError: if a text has another form, or a name comes twice.
    """
    found = {name: text for name, text in options.items() if text is not None}
    for text in texts:
        pair = re.fullmatch(r"([a-z][a-z0-9_]*)=(.+)", text)
        if pair is None:
            raise CalomanError(f"--conditions {text!r}: use NAME=VALUES, such as detector=3")
        if pair[1] in found:
            raise CalomanError(f"--conditions {text!r}: {pair[1]} is given twice; name it once")
        found[pair[1]] = pair[2]
    return found
