"""The training of one stage of a pipeline."""

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from pytorch_lightning.callbacks import Callback, EarlyStopping, WeightAveraging
from pytorch_lightning.utilities.seed import isolate_rng
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.swa_utils import get_ema_multi_avg_fn

from caloman.errors import CalomanError
from caloman.training.checkpoints import EpochCheckpoints, WholeFiles
from caloman.training.config import Pipeline, StageTrainer
from caloman.training.data import Batch, ShowerDataModule
from caloman.training.divergence import DivergenceGuard
from caloman.training.folders import StageFolder
from caloman.training.logs import stage_loggers
from caloman.training.monitor import ShowerMonitor
from caloman.training.processes import lightning_options, listen_to_sigterm
from caloman.training.progress import FitProgress
from caloman.training.tasks import Task


@dataclass(eq=False)
class EpochSeeds(pl.Callback):
    """Makes an epoch a function of its weights, seed, number and rank, so that it can be repeated after a kill."""

    seed: int

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        listen_to_sigterm()  # Lightning's own handler waits for the other devices, which may never answer

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        entropy = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank))
        pl.seed_everything(int(entropy.generate_state(1)[0]), verbose=False)


def train_stage(
    task: Task,
    folder: StageFolder,
    configuration: Mapping[str, Any],
    pipeline: Pipeline,
    data: ShowerDataModule,
    fabric: Fabric,
    progress: FitProgress,
) -> None:
    """Trains one stage, from its last checkpoint if there is one, and stores the best epoch's result."""
    first = fabric.is_global_zero  # the others take over what the first process has found
    checkpoint = fabric.broadcast(folder.start(configuration, task.part_state()) if first else None)
    if not checkpoint:
        if first:
            weights = {name: weight.detach().clone() for name, weight in task.module.named_parameters()}
            task.fit_statistics(data.statistics_batches)
            if pipeline.start_from:  # statistics may set first values of weights, too
                task.module.load_state_dict(weights, strict=False)
        task.module.load_state_dict(fabric.broadcast(task.module.state_dict()))
    data.batch_size = fabric.broadcast(
        _batch_size(task, data, folder, pipeline.stages[folder.name].trainer, fabric) if first else 1
    )
    data.first_epoch = torch.load(checkpoint, map_location="cpu", weights_only=True)["epoch"] + 1 if checkpoint else 0
    if pipeline.hardware.compile:
        compile_networks(task, data.train[:2])
    progress.stage = folder.name
    trainer = make_trainer(folder, pipeline, data, progress)
    with warnings.catch_warnings():
        # showers in memory need no workers, and how many read those on disk is the user's choice
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        warnings.filterwarnings("ignore", message="It is recommended to use .*sync_dist")  # rank zero's own figures
        warnings.filterwarnings("ignore", message="The number of training batches")  # fewer than between logged steps
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")  # Lightning 2.6 on torch 2.13
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    if first:
        folder.finish()
    fabric.barrier()


def make_trainer(folder: StageFolder, pipeline: Pipeline, data: ShowerDataModule, progress: FitProgress) -> pl.Trainer:
    """The Lightning trainer of a stage."""
    settings, options = pipeline.stages[folder.name].trainer, lightning_options(pipeline.hardware)
    callbacks: list[Callback] = [
        progress,
        EpochSeeds(pipeline.seed + list(pipeline.stages).index(folder.name)),
        DivergenceGuard(folder.diverged, settings.max_loss, folder.checkpoints / "last.ckpt"),
        EpochCheckpoints(folder.checkpoints, settings.monitor),
    ]
    if pipeline.monitor:  # first of all, so that it sees the weights that were validated
        callbacks.insert(0, ShowerMonitor(folder.path / "monitor", pipeline.monitor, data.validation))
    if settings.patience is not None:
        callbacks.append(EarlyStopping(settings.monitor, patience=settings.patience, check_finite=False))
    if settings.ema_decay is not None:
        average = get_ema_multi_avg_fn(settings.ema_decay)  # leaves equal weights equal, to the last bit
        callbacks.append(WeightAveraging(use_buffers=False, multi_avg_fn=average))
    return pl.Trainer(
        **{**options, "plugins": [*options["plugins"], WholeFiles()]},
        max_epochs=settings.max_epochs,
        gradient_clip_val=settings.gradient_clip,
        accumulate_grad_batches=settings.accumulate,
        callbacks=callbacks,
        logger=stage_loggers(folder.path, pipeline.wandb),
        default_root_dir=folder.path,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # the data module shares the showers out itself
        log_every_n_steps=sys.maxsize,  # epochs are logged, not steps
    )


def compile_networks(task: Task, batch: Batch) -> list[nn.Module]:
    """Compiles and returns the outermost modules with weights in the loss of a batch; the weights keep their names."""
    networks: dict[nn.Module, None] = {}
    running: list[nn.Module] = []

    def enter(module: nn.Module, inputs: object) -> None:
        if not running and any(True for _ in module.parameters()):
            networks[module] = None
        running.append(module)

    def leave(*_: object) -> None:
        running.pop()

    hooks = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        with isolate_rng(), torch.compiler.set_stance("force_eager"):  # an earlier stage may have compiled some
            task.losses_of(batch)
    finally:
        for hook in hooks:
            hook.remove()
    for network in networks:
        network.compile()
    return list(networks)


def largest_batch(task: Task, data: ShowerDataModule) -> int:
    """Half of the largest power of two of showers whose gradients fit into memory, which leaves room for the rest."""
    size = 1
    while 2 * size <= len(data.train):
        voxels, energies = data.train[: 2 * size]
        try:
            task.losses_of((voxels.to(task.device), energies.to(task.device)))["loss"].backward()
        except torch.OutOfMemoryError:
            break
        finally:
            task.zero_grad()
        size *= 2
    return max(1, size // 2)


def _batch_size(task: Task, data: ShowerDataModule, folder: StageFolder, settings: StageTrainer, fabric: Fabric) -> int:
    if settings.batch_size != "auto":
        return settings.batch_size
    if fabric.device.type == "cpu":
        raise CalomanError("trainer.batch_size = auto fills the memory of a GPU, and there is none; give a number")
    if folder.batch_size is None:
        size = largest_batch(task.to(fabric.device), data) * fabric.world_size
        folder.note(batch_size=min(size, len(data.train)))
        task.cpu()
    assert folder.batch_size is not None
    return folder.batch_size
