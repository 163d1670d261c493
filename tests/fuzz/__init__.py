"""Damaged and malicious input, made at random from a seed, and what the commands do with it.

Each other module here, but for `runner` and those with an underscore, is a kind of input. It defines

    COMMANDS = ("check", ...)                    the commands it calls: their modules are loaded once
    def cases(seed: int) -> Iterator[Case]       cases without end, the same for the same seed
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Write = Callable[[Path], Sequence[Sequence[str]]]


@dataclass(frozen=True)
class Case:
    """One input.

    Args:
        name: what is wrong with it.
        write: writes the input into a folder and returns command lines of ``caloman``. They run in another, empty
            folder, which is where they may write; of those that fail nothing may stay there.
    """

    name: str
    write: Write
