"""Checkpoints that survive a kill at any moment: the last two epochs and the best one."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from shutil import copyfile
from typing import Any
from zipfile import ZipFile

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor

from caloman.errors import CalomanError
from caloman.files import appearing, write

logger = logging.getLogger(__name__)


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints that appear when they are complete."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        content = BytesIO()  # torch itself reports a full disk in the words of its zip library
        torch.save(checkpoint, content)
        write(Path(path), content.getvalue())


@dataclass(eq=False)
class EpochCheckpoints(Checkpoint):
    """Writes ``last.ckpt`` after each epoch, and keeps ``previous.ckpt`` and ``best.ckpt``.

    The monitored quantity, lower is better, picks the best epoch; one that is not finite is refused.

    An epoch that ends the training early is not written, other than by Lightning's `ModelCheckpoint`: after an
    interruption it is repeated and ends the training again, where one that was written would be followed by another.
    """

    folder: Path
    monitor: str
    best: float = math.inf

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        logged = trainer.callback_metrics
        if self.monitor not in logged:
            raise CalomanError(f"trainer.monitor: nothing is called {self.monitor!r}; choose among {', '.join(logged)}")
        score = float(logged[self.monitor])
        if not math.isfinite(score):
            raise CalomanError(
                f"{self.folder.parent}: {self.monitor} is {score} after epoch {trainer.current_epoch + 1}; lower "
                "learning_rate or set gradient_clip"
            )
        if trainer.should_stop:
            return
        improved, self.best = score < self.best, min(score, self.best)
        new = self.folder / "new.ckpt"
        trainer.save_checkpoint(new)
        if trainer.is_global_zero:
            self._take_over(new, improved)

    def _take_over(self, new: Path, improved: bool) -> None:
        """Gives a new checkpoint its names; a kill after any of the steps leaves a state to go on from."""
        last = self.folder / "last.ckpt"
        if improved:
            with appearing(self.folder / "best.ckpt") as partial:
                copyfile(new, partial)
        if last.is_file():
            last.replace(self.folder / "previous.ckpt")
        new.replace(last)


def latest_usable(folder: Path, part: Mapping[str, Tensor]) -> Path | None:
    """The last checkpoint in a folder, or the one before if that is damaged; refuses one of another model.

    `part` is the state of the trained part of the model, under its full names.
    """
    for path in (folder / "last.ckpt", folder / "previous.ckpt"):
        if not path.is_file():
            continue
        checkpoint = read(path)
        if checkpoint is None:
            logger.warning("%s: damaged, not used", path)
            continue
        state = checkpoint.get("state_dict", {})
        if {name: value.shape for name, value in state.items()} != {name: value.shape for name, value in part.items()}:
            raise CalomanError(f"{path}: a checkpoint of another model; remove it or use another --output")
        return path
    return None


def read(path: Path) -> dict[str, Any] | None:
    """A checkpoint, or None if it is damaged or no checkpoint at all."""
    try:
        if ZipFile(path).testzip() is not None:  # torch does not look at the check sums
            return None
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises many kinds for broken files
        return None
    return content if isinstance(content, dict) else None
