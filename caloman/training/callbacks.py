"""What happens beside the optimization: progress, and where random numbers and signals come from."""

import logging
import sys

import numpy as np
import pytorch_lightning as pl
from tqdm import tqdm

from caloman.training.processes import listen_to_sigterm

logger = logging.getLogger(__name__)


class EpochSeeds(pl.Callback):
    """Makes an epoch a function of its weights, seed, number and rank, so that it can be repeated after a kill.

    Args:
        seed: of the stage.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        listen_to_sigterm()  # Lightning's own handler waits for the other devices, which may never answer

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        entropy = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank))
        pl.seed_everything(int(entropy.generate_state(1)[0]), verbose=False)


class StageProgress(pl.Callback):
    """One progress bar per stage, which advances with the epochs and shows the losses.

    Without a terminal it logs about ten lines per stage instead.

    Args:
        name: of the stage.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._bar: tqdm | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._bar = tqdm(
            total=trainer.max_epochs,
            initial=trainer.current_epoch,
            desc=f"{self.name:<12}",
            unit="epoch",
            disable=not (trainer.is_global_zero and sys.stderr.isatty()),
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        losses = {split: f"{float(metrics[f'{split}_loss']):.4g}" for split in ("train", "validation")}
        if self._bar is not None and not self._bar.disable:
            self._bar.set_postfix(losses, refresh=False)
            self._bar.update()
        elif trainer.is_global_zero:
            epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 1
            if epoch == 1 or epoch == epochs or epoch % max(1, epochs // 10) == 0:
                values = ", ".join(f"{split} {loss}" for split, loss in losses.items())
                logger.info("%s: epoch %d of at most %d: loss %s", self.name, epoch, epochs, values)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is not None:
            self._bar.close()
