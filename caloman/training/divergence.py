"""The guard that stops a stage whose loss is not finite or explodes, and the repetition of the batch that did it."""

import hashlib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from caloman.errors import CalomanError
from caloman.files import appearing
from caloman.training.tasks import Task


@dataclass(eq=False)
class DivergenceGuard(pl.Callback):
    """Stops at the first loss that is not finite or larger than a limit, before it reaches the weights.

    Writes rows, weights and the state of the random numbers to `path`, to repeat the step. The message names the step,
    a digest of the batch, and the checkpoint to go back to.
    """

    path: Path
    limit: float
    checkpoint: Path

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, step: int) -> None:  # noqa: ANN401
        self._batch, self._step, self._random = batch, step, random_state(pl_module.device)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Checks the losses of all devices, so that all stop at the same step."""
        values = loss.new_zeros(trainer.world_size)
        values[trainer.global_rank] = loss.detach() * trainer.accumulate_grad_batches
        values = trainer.strategy.reduce(values, reduce_op="sum")
        good = values.abs() <= self.limit
        if good.all():
            return
        rank = int(good.int().argmin())  # the first device that diverged
        message = self._record(trainer, pl_module, float(values[rank])) if trainer.global_rank == rank else ""
        raise CalomanError(trainer.strategy.broadcast(message, src=rank))

    def _record(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: float) -> str:
        """Stores the batch and says what happened."""
        assert isinstance(pl_module, Task)
        loader: Any = trainer.train_dataloader
        rows = loader.dataset.rows[next(islice(loader.sampler, self._step, None))]
        record = {
            "rows": torch.from_numpy(rows),
            "random": self._random,
            "weights": {name: weight.detach().cpu() for name, weight in pl_module.module.state_dict().items()},
        }
        with appearing(self.path) as partial:
            torch.save(record, partial)
        digest = hashlib.sha256(b"".join(values.cpu().numpy().tobytes() for values in self._batch)).hexdigest()[:12]
        good = self.checkpoint
        epochs = f"the last good checkpoint is {good}" if good.is_file() else "no epoch was finished"
        return (
            f"{self.path.parent}: the loss is {loss:g} in epoch {trainer.current_epoch + 1}, step {self._step + 1}, "
            f"for batch {digest} (showers {rows[0]}, {rows[-1]} and {len(rows) - 2} others), kept in "
            f"{self.path.name}; {epochs}; lower learning_rate or set gradient_clip"
        )


def random_state(device: torch.device) -> dict[str, Tensor]:
    """State of the random numbers of torch, on the CPU and on the device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: dict[str, Tensor], device: torch.device) -> None:
    """Puts a state of `random_state` back."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
