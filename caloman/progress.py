"""How far a command has come: a bar on a terminal, lines in a log."""

import logging
import time
from typing import Self

from tqdm import tqdm

logger = logging.getLogger(__name__)

SECONDS = 30.0  # shortest time between two lines of numbers


class Progress:
    """Tells how much of some work is done, in steps with a name or in numbers.

    Args:
        task: the work, such as ``generate``.
        total: its size.
        unit: of the size, such as ``shower``.
        done: what was done before.
    """

    def __init__(self, task: str, total: int, unit: str, done: int = 0) -> None:
        self._task, self._total, self._unit, self._done, self._before = task, total, unit, done, done
        self._step = ""
        self._bar = tqdm(total=total, initial=done, desc=task, unit=unit, disable=None)
        self._start = self._spoken = time.monotonic()

    def begin(self, step: str) -> None:
        """Names the next step; the one before it is done."""
        if self._step:
            self.add()
        self._step = step
        self._bar.set_postfix_str(step)
        if self._bar.disable:
            self._log(f"{self._unit} {self._done + 1} of {self._total}, {step}")

    def add(self, n: int = 1) -> None:
        """Counts what is done."""
        self._done += n
        self._bar.update(n)
        if self._bar.disable and time.monotonic() - self._spoken > SECONDS:
            self._log(f"{self._done} of {self._total} {self._unit}s")

    def _log(self, text: str) -> None:
        self._spoken = time.monotonic()
        seconds = self._spoken - self._start
        left = seconds * (self._total - self._done) / max(self._done - self._before, 1)
        rest = f", about {left:.0f} s left" if self._done > self._before else ""
        logger.info("%s: %s, %.0f s%s", self._task, text, seconds, rest)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
