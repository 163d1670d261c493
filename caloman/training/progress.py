"""How far a fit has come, over all of its stages, and how long the rest takes."""

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytorch_lightning as pl
from tqdm import tqdm

logger = logging.getLogger(__name__)

INTERVAL = 60
"""Seconds between two lines in a log."""


class FitProgress(pl.Callback):
    """One progress bar over the epochs of all stages, with the losses and the time that is left.

    Without a terminal it logs the first and the last epoch of each stage and one a minute in between. The metrics of
    each epoch get its ``seconds``, validation included.

    Args:
        epochs: most epochs of each stage that is trained, in order.
        shown: whether this is the process that shows it.
    """

    def __init__(self, epochs: Mapping[str, int], shown: bool = True) -> None:
        self.stage = next(iter(epochs), "")
        self._epochs = dict(epochs)
        self._done = dict.fromkeys(epochs, 0)
        self._seconds: dict[str, list[float]] = {name: [] for name in epochs}
        self._logged = 0.0
        self._bar = tqdm(
            total=sum(epochs.values()),
            bar_format="{desc}|{bar}| {n_fmt}/{total_fmt} epochs [{elapsed}{postfix}]",
            disable=None if shown and epochs else True,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._count(trainer.current_epoch)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = time.perf_counter() - self._start
        pl_module.log("seconds", seconds, rank_zero_only=True)
        self._seconds[self.stage].append(seconds)
        first, epoch, last = not self._done[self.stage], trainer.current_epoch + 1, self._epochs[self.stage]
        self._count(epoch)
        losses = (
            f"{split} {float(trainer.callback_metrics[f'{split}_loss']):.4g}" for split in ("train", "validation")
        )
        left = timedelta(seconds=round(time_left(self._epochs, self._done, self._seconds)))
        state = f"loss {', '.join(losses)}; at most {left} left"
        if not self._bar.disable:
            self._bar.set_postfix_str(state)
        elif first or epoch == last or time.perf_counter() - self._logged > INTERVAL:
            self._logged = time.perf_counter()
            stage = f"stage {list(self._epochs).index(self.stage) + 1} of {len(self._epochs)}"
            logger.info("%s (%s): epoch %d of at most %d, %s", self.stage, stage, epoch, last, state)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epochs[self.stage] = self._done[self.stage]  # it may have ended early
        self._bar.total = sum(self._epochs.values())

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()

    def _count(self, epoch: int) -> None:
        self._done[self.stage] = epoch
        self._bar.set_description_str(f"{self.stage} {epoch}/{self._epochs[self.stage]} ", refresh=False)
        self._bar.update(sum(self._done.values()) - self._bar.n)


def time_left(epochs: Mapping[str, int], done: Mapping[str, int], seconds: Mapping[str, Sequence[float]]) -> float:
    """Seconds until all stages are trained.

    A stage whose first epoch has not ended yet is taken for as fast as the others are on average.

    Args:
        epochs: most epochs of each stage.
        done: epochs that are trained.
        seconds: how long those of this process took.
    """
    measured = {name: sum(times) / len(times) for name, times in seconds.items() if times}
    typical = sum(measured.values()) / max(len(measured), 1)
    return sum((most - done[name]) * measured.get(name, typical) for name, most in epochs.items())
