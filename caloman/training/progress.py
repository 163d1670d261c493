"""How far a fit has come, over all of its stages, and how long the rest takes."""

import logging
import time
from collections.abc import Mapping
from datetime import timedelta

import pytorch_lightning as pl
from tqdm import tqdm

logger = logging.getLogger(__name__)

INTERVAL = 60  # seconds between two lines in a log


class FitProgress(pl.Callback):
    """One progress bar over the epochs of all stages, with the losses and the time that is left.

    Without a terminal it logs the first and the last epoch of each stage and one a minute in between. The metrics of
    each epoch get its ``seconds``, validation included.

    Args:
        epochs: most epochs of each stage, in order.
        shown: whether this process shows it.
    """

    def __init__(self, epochs: Mapping[str, int], shown: bool = True) -> None:
        self.stage = next(iter(epochs), "")
        self._epochs = epochs
        self._left = dict(epochs)
        self._seconds: dict[str, float] = {}  # of the last epoch of each stage
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
        first, epoch, last = self.stage not in self._seconds, trainer.current_epoch + 1, self._epochs[self.stage]
        self._seconds[self.stage] = seconds
        self._count(epoch)
        losses = ", ".join(f"{name} {trainer.callback_metrics[f'{name}_loss']:.4g}" for name in ("train", "validation"))
        left = timedelta(seconds=round(time_left(self._left, self._seconds)))
        state = f"loss {losses}; at most {left} left"
        if not self._bar.disable:
            self._bar.set_postfix_str(state)
        elif first or epoch == last or time.perf_counter() - self._logged > INTERVAL:
            self._logged = time.perf_counter()
            stage = f"stage {list(self._epochs).index(self.stage) + 1} of {len(self._epochs)}"
            logger.info("%s (%s): epoch %d of at most %d, %s", self.stage, stage, epoch, last, state)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._bar.total -= self._left[self.stage]  # it may have ended early
        self._left[self.stage] = 0

    def close(self) -> None:
        self._bar.close()

    def _count(self, epoch: int) -> None:
        self._left[self.stage] = self._epochs[self.stage] - epoch
        self._bar.set_description_str(f"{self.stage} {epoch}/{self._epochs[self.stage]} ", refresh=False)
        self._bar.update(self._bar.total - sum(self._left.values()) - self._bar.n)


def time_left(epochs: Mapping[str, int], seconds: Mapping[str, float]) -> float:
    """Seconds for the rest of the epochs of each stage, from those of its last one, or else from the others' mean."""
    typical = sum(seconds.values()) / max(len(seconds), 1)
    return sum(left * seconds.get(name, typical) for name, left in epochs.items())
