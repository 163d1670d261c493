"""Where the numbers of a stage go: one CSV file that goes on after an interruption, and Weights & Biases."""

import csv
import io
import uuid
from argparse import Namespace
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from caloman.files import write
from caloman.run_folders import METRICS, read_metrics
from caloman.training.config import Wandb


class EpochLog(Logger):
    """A CSV file with one row per epoch; an epoch that is trained again after an interruption replaces its row."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._rows = {row["epoch"]: row for row in read_metrics(path)}

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: object, **kwargs: object) -> None:
        """Nothing: the run folder holds the whole configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        # Lightning hands over the values of validation and training one after the other
        values = {name: float(value) for name, value in metrics.items()}
        row = self._rows.setdefault(values["epoch"], {})
        row |= values if step is None else {**values, "step": float(step)}
        columns = sorted({name for row in self._rows.values() for name in row} - {"epoch", "step"})
        text = io.StringIO()
        writer = csv.DictWriter(text, ["epoch", "step", *columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: f"{value:.9g}" for name, value in self._rows[epoch].items()} for epoch in sorted(self._rows)
        )
        write(self.path, text.getvalue())


class WandbStage(WandbLogger):
    """A Weights & Biases run that ends with its stage, so that the next stage does not go on in it."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish()


def stage_loggers(folder: Path, config: Wandb | None) -> list[Logger]:
    """The loggers of the stage in ``RUN/stages/NAME``, which keeps the id of its Weights & Biases run."""
    log = EpochLog(folder / METRICS)
    if config is None:
        return [log]
    group = config.name or folder.resolve().parents[1].name
    wandb = WandbStage(
        name=f"{group}-{folder.name}",
        save_dir=folder,
        offline=config.mode == "offline",
        id=_wandb_id(folder / "wandb-id"),
        project=config.project,
        group=group,
        tags=config.tags,
    )
    return [log, wandb]


@rank_zero_only
def _wandb_id(path: Path) -> str:
    if not path.is_file():
        write(path, uuid.uuid4().hex[:8])
    return path.read_text()
