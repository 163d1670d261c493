"""One stage of a pipeline on disk: its folder, and a Lightning trainer that fills it."""

import json
import logging
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from safetensors.torch import save_file

from caloman.errors import CalomanError
from caloman.files import write
from caloman.training.callbacks import StageProgress
from caloman.training.config import Pipeline, StageTrainer
from caloman.training.data import ShowerDataModule
from caloman.training.logs import Stopwatch, stage_loggers
from caloman.training.monitor import ShowerMonitor
from caloman.training.tasks import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageFolder:
    """The files of one stage.

    Args:
        path: holds ``stage.json``, ``checkpoints/``, ``metrics.csv``, ``monitor/`` and, when finished,
            ``part.safetensors``.
    """

    path: Path

    @property
    def weights(self) -> Path:
        """Weights and statistics of the part that the stage trains."""
        return self.path / "part.safetensors"

    @property
    def checkpoints(self) -> Path:
        """Lightning checkpoints, of the last and of the best epoch."""
        return self.path / "checkpoints"

    def is_finished(self, fingerprint: str) -> bool:
        """Whether the stage was finished with this fingerprint."""
        return self._state() == {"fingerprint": fingerprint, "finished": True} and self.weights.is_file()

    def start(self, fingerprint: str) -> Path | None:
        """Prepares the folder and returns the checkpoint to go on from, if there is one with this fingerprint."""
        if self._state() != {"fingerprint": fingerprint, "finished": False}:
            shutil.rmtree(self.path, ignore_errors=True)
            self._write_state(fingerprint, finished=False)
        last = self.checkpoints / "last.ckpt"
        return last if last.is_file() else None

    def finish(self, fingerprint: str, weights: dict[str, torch.Tensor]) -> None:
        """Stores the result and marks the stage as finished."""
        save_file(weights, self.weights)
        self._write_state(fingerprint, finished=True)

    def _state(self) -> dict[str, Any]:
        path = self.path / "stage.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def _write_state(self, fingerprint: str, finished: bool) -> None:
        write(self.path / "stage.json", json.dumps({"fingerprint": fingerprint, "finished": finished}))


def train_stage(
    name: str, task: Task, folder: StageFolder, fingerprint: str, pipeline: Pipeline, data: ShowerDataModule
) -> None:
    """Trains one stage, from its last checkpoint if there is one, and stores the best epoch's part of the model.

    Raises:
        CalomanError: if no epoch gave a finite loss.
    """
    settings = pipeline.stages[name].trainer
    checkpoint = folder.start(fingerprint)
    if checkpoint:
        logger.info("%s: going on from %s", name, checkpoint)
    else:
        task.fit_statistics(data.statistics_batches)
    data.batch_size = settings.batch_size
    # first of the callbacks, so that it sees the weights that were validated
    monitor = [ShowerMonitor(folder.path / "monitor", pipeline.monitor, data.validation)] if pipeline.monitor else []
    trainer = pl.Trainer(
        max_epochs=settings.max_epochs,
        gradient_clip_val=settings.gradient_clip,
        accelerator=pipeline.hardware.accelerator,
        devices=pipeline.hardware.devices,
        precision=pipeline.hardware.precision,  # type: ignore[arg-type]
        callbacks=[*monitor, Stopwatch(), *_callbacks(name, settings, folder)],
        logger=stage_loggers(folder.path, pipeline.wandb),
        default_root_dir=folder.path,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # the data module shares the showers out itself
        log_every_n_steps=1,
    )
    with warnings.catch_warnings():
        # showers in memory need no workers, and how many read those on disk is the user's choice
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")  # Lightning 2.6 on torch 2.13
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists")  # as it does after a kill
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    folder.finish(fingerprint, _best_weights(folder))


def _callbacks(name: str, settings: StageTrainer, folder: StageFolder) -> list[Callback]:
    callbacks: list[Callback] = [
        StageProgress(name),
        ModelCheckpoint(folder.checkpoints, "best", settings.monitor, mode="min", enable_version_counter=False),
        ModelCheckpoint(folder.checkpoints, "last", enable_version_counter=False),
    ]
    if settings.patience is not None:
        callbacks.append(EarlyStopping(settings.monitor, patience=settings.patience, mode="min"))
    return callbacks


def _best_weights(folder: StageFolder) -> dict[str, torch.Tensor]:
    """State of the trained part at its best epoch, under the names that it has in the model."""
    best = folder.checkpoints / "best.ckpt"
    if not best.is_file():
        raise CalomanError(f"{folder.path}: no epoch gave a finite loss; lower learning_rate or set gradient_clip")
    state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("model."): value.contiguous() for name, value in state.items()}
