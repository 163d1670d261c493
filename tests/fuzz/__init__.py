"""Damaged and malicious input, made at random from a seed, and what the commands do with it.

Each other module here, but for `runner` and those with an underscore, is a kind of input. It defines

    DAMAGES                         what can be wrong with an input: functions or words
    MOST                            how many of them a case may have
    write(folder, rng, damages)     writes the input into a folder and returns command lines of ``caloman``
    warm(folder)                    the same for good input, of each command that it calls

The command lines run in an empty folder, which is where they may write. Of those that fail nothing may stay there.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path

import numpy as np

Commands = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Case:
    """One input: what is wrong with it, and what writes it into a folder and returns command lines."""

    name: str
    write: Callable[[Path], Commands]


def cases(kind: str, seed: int) -> Iterator[Case]:
    """Cases of a kind without end, the same for the same seed."""
    module = import_module(f"fuzz.{kind}")
    for number in count():
        rng = np.random.default_rng([seed, number])
        chosen = rng.integers(len(module.DAMAGES), size=rng.integers(1, module.MOST + 1))
        damages = [module.DAMAGES[index] for index in chosen]
        name = " and ".join(getattr(damage, "__name__", damage) for damage in damages)
        yield Case(name, partial(module.write, rng=rng, damages=damages))
