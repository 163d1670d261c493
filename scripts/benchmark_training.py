"""Times each stage of `caloman fit` against a bare PyTorch loop on the same network, optimizer and showers.

Usage: python scripts/benchmark_training.py [--config CONFIG] [--showers 4000] [--epochs 5] [--KEY=VALUE ...]

Prints samples per second of training steps (the fastest epoch), without validation: of the fit, of the bare loop on
batches that are ready in memory, and of the data module alone. Epochs of the fit and of the loop take turns, so that
both meet the same machine. `--hardware.devices=2` shows what a second process brings, `--hardware.precision=bf16-mixed`
and `--hardware.compile=true` what those do; on a GPU the last column is its utilization during the fit.
"""

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytorch_lightning as pl
import torch

from caloman.showers.geometry import Geometry
from caloman.training.config import load_pipeline
from caloman.training.data import ShowerDataModule
from caloman.training.folders import StageFolder
from caloman.training.processes import launch
from caloman.training.progress import FitProgress
from caloman.training.stage import compile_networks, make_trainer
from caloman.training.tasks import Task


class TakeTurns(pl.Callback):
    """Times the training steps of each epoch, and a bare loop and the data module after it."""

    def __init__(self, bare: Task) -> None:
        self.bare = bare
        self.fit, self.loop, self.data, self.utilization = [], [], [], []

    def on_train_epoch_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self.start = now(task.device)

    def on_validation_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        self.fit.append(now(task.device) - self.start)
        if task.device.type == "cuda":
            self.utilization.append(torch.cuda.utilization(task.device))

    def on_train_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        loader = trainer.train_dataloader
        self.data.append(seconds(task.device, lambda: [None for _ in loader]))
        batches = [tuple(values.to(task.device) for values in batch) for batch in loader]
        if not self.loop:
            self.bare.to(task.device)
            self.optimizer = torch.optim.AdamW([p for p in self.bare.parameters() if p.requires_grad], 1e-3)
            self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 10**6)
        autocast = torch.autocast(task.device.type, torch.bfloat16, enabled=trainer.precision == "bf16-mixed")
        self.loop.append(seconds(task.device, lambda: self.train(batches, autocast, trainer.gradient_clip_val)))

    def train(self, batches: list[tuple[torch.Tensor, ...]], autocast: torch.autocast, clip: float | None) -> None:
        """One epoch as one would write it by hand."""
        for batch in batches:
            self.optimizer.zero_grad()
            with autocast:
                loss = self.bare.losses_of(batch)["loss"]
            loss.backward()
            if clip:
                torch.nn.utils.clip_grad_norm_(self.bare.parameters(), clip)
            self.optimizer.step()
            self.scheduler.step()


def now(device: torch.device) -> float:
    """Time [s] when all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds(device: torch.device, function: Callable[[], object]) -> float:
    """Wall time of a call."""
    start = now(device)
    function()
    return now(device) - start


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/1-photons/caloman.yaml")
    parser.add_argument("--showers", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=5)
    options, overrides = parser.parse_known_args()
    pipeline, _ = load_pipeline(
        Path(options.config), [f"--data.max_showers={options.showers}", "--monitor=null", *overrides]
    )
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with launch(pipeline.hardware) as fabric, tempfile.TemporaryDirectory() as folder:
        geometry = Geometry.load(pipeline.geometry)
        data = ShowerDataModule(geometry, pipeline.data, pipeline.seed)
        pl.seed_everything(pipeline.seed, verbose=False)
        model = pipeline.model(geometry)
        if fabric.is_global_zero:
            print(f"samples/s on {fabric.world_size} device(s)")
            print(f"{'stage':<12} {'fit':>9} {'loop':>9} {'fit/loop':>8} {'data':>10}")
        for name, stage in pipeline.stages.items():
            stage.trainer.max_epochs = options.epochs + 1
            stage.trainer.patience = None
            progress = FitProgress({name: options.epochs + 1}, shown=False)
            data.batch_size = stage.trainer.batch_size
            task = stage.task(model)
            task.fit_statistics(data.statistics_batches)
            if pipeline.hardware.compile:
                compile_networks(task, data.train[:2])
            turns = TakeTurns(deepcopy(task))
            trainer = make_trainer(name, StageFolder(Path(folder), name), pipeline, data, progress)
            trainer.callbacks.append(turns)
            trainer.fit(task, datamodule=data)
            n = len(data.train)  # of all devices; loop and data are those of one
            fit, loop, alone = n / min(turns.fit[1:]), n / min(turns.loop[1:]), n / min(turns.data[1:])
            loop, alone = loop / fabric.world_size, alone / fabric.world_size
            used = f"  {max(turns.utilization)} %" if turns.utilization else ""
            if fabric.is_global_zero:
                print(f"{name:<12} {fit:9.0f} {loop:9.0f} {fit / loop:8.3f} {alone:10.0f}{used}")


if __name__ == "__main__":
    main()
