"""What happens beside the optimisation: progress."""

import logging
import sys

import pytorch_lightning as pl
from tqdm import tqdm

logger = logging.getLogger(__name__)


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
        if isinstance(exception, KeyboardInterrupt):
            logger.info("%s: interrupted in epoch %d; the same command goes on", self.name, trainer.current_epoch + 1)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._bar is not None:
            self._bar.close()
