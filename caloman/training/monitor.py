"""Generated showers next to validation showers during the training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities.seed import isolate_rng

from caloman.errors import CalomanError
from caloman.evaluation.binnings import challenge_binnings
from caloman.evaluation.histograms import Histogram, by_observable, fill_histograms
from caloman.evaluation.plots import panels
from caloman.evaluation.samples import LoadedSample
from caloman.evaluation.summary import summarize
from caloman.files import write
from caloman.showers.showers import Showers
from caloman.training.config import Monitor
from caloman.training.data import ShowerDataset
from caloman.training.tasks import Task

MAX_BYTES = 64 * 2**20
BATCH = 500
PANELS = 3


@dataclass(eq=False)
class ShowerMonitor(pl.Callback):
    """Logs separation powers between generated and validation showers, and draws the worst histograms to a folder.

    `Task.showers` of the stage generates. Showers and noise are always the same, so that the numbers change with the
    model only. The random numbers of the training go on as if nothing had happened.
    """

    folder: Path
    config: Monitor
    validation: ShowerDataset

    def __post_init__(self) -> None:
        if min(self.config.every, self.config.showers) < 1:
            raise CalomanError("monitor.every and monitor.showers start at 1; set monitor to null to compare nothing")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        due = epoch % self.config.every == 0 or epoch == trainer.max_epochs
        if not (due and trainer.is_global_zero):
            return
        assert isinstance(pl_module, Task)
        histograms = self.histograms(pl_module)
        pl_module.log_dict(mean_separations(histograms), rank_zero_only=True)
        path = self.folder / f"epoch_{epoch:04d}.png"
        worst = sorted(histograms, key=lambda histogram: histogram.separation - floor(histogram))[-PANELS:]
        write(path, panels(worst))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("monitor", [str(path)], step=trainer.global_step)

    def histograms(self, task: Task) -> list[Histogram]:
        """The task's observables, of validation and of generated showers."""
        geometry = task.model.geometry
        rows = min(self.config.showers, len(self.validation), MAX_BYTES // (4 * geometry.n_voxels))
        # files may be ordered by energy, so the showers are taken from everywhere
        voxels, conditions = self.validation[np.linspace(0, len(self.validation) - 1, rows).astype(np.int64)]
        with isolate_rng(), torch.no_grad():
            torch.manual_seed(0)
            batches = zip(voxels.split(BATCH), conditions.split(BATCH), strict=True)
            parts = [task.showers((true.to(task.device), given.to(task.device))) for true, given in batches]
        reference, generated = (
            LoadedSample.of(Showers(conditions[:, 0].numpy(), showers.cpu().numpy(), geometry))
            for showers in (voxels, torch.cat(parts))
        )
        expected = summarize(reference)
        binnings = challenge_binnings(expected, geometry)
        chosen = [binning for binning in binnings if not task.observables or binning.observable in task.observables]
        return fill_histograms(chosen, expected, summarize(generated, expected.spectrum_edges))


def mean_separations(histograms: Sequence[Histogram]) -> dict[str, float]:
    """Mean separation power of each observable and of all, and that of two samples of one distribution."""
    values = np.array([histogram.separation for histogram in histograms])
    means = {f"separation_{name}": float(values[chosen].mean()) for name, chosen in by_observable(histograms).items()}
    means["separation"] = float(values.mean())
    return {**means, "separation_floor": float(np.mean([floor(histogram) for histogram in histograms]))}


def floor(histogram: Histogram) -> float:
    """Expected separation power of two samples of these sizes from one distribution.

    With (p - q)^2 of mean p (1/N + 1/M) the sum over B occupied bins is B (1/N + 1/M) / 4.
    """
    both = (histogram.reference, histogram.generated)
    occupied = int(np.count_nonzero(both[0] + both[1]))
    return float(sum(occupied / max(counts.sum(), 1) for counts in both) / 4)
