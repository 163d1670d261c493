"""Progress of a command that takes minutes: a bar on a terminal, lines in a log."""

import logging
from types import TracebackType
from typing import Self

from tqdm import tqdm

log = logging.getLogger(__name__)


class Progress:
    """Steps that follow one another.

    Args:
        name: of the command.
        total: number of steps; may be set later.
    """

    def __init__(self, name: str, total: int = 0) -> None:
        self.name, self.total, self.started = name, total, 0
        self.bar = tqdm(desc=name, unit="step", disable=None)

    def __call__(self, step: str) -> None:
        """Starts a step, which ends the one before."""
        self.bar.total = self.total
        self.bar.update(int(self.started > 0))
        self.bar.set_postfix_str(step)
        self.started += 1
        if self.bar.disable:
            log.info("%s: step %d of %d, %s", self.name, self.started, self.total, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exception: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.bar.update(int(self.started > 0))
        self.bar.close()
