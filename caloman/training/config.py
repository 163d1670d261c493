"""The typed form of a pipeline file, and its parser."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import PositiveInt

from caloman.models import ShowerModel
from caloman.showers.conditions import ENERGY, Conditions
from caloman.showers.geometry import Geometry
from caloman.specification import build, overlay, parse_yaml, read_layers, set_key, split_overrides
from caloman.training.data import DataConfig
from caloman.training.tasks import Task


@dataclass
class StageTrainer:
    """How long and how a stage is trained.

    Args:
        max_epochs: upper limit of passes over the training showers.
        batch_size: showers per batch, shared by all devices, so that a stage does not depend on their number; auto
            takes half of the largest power of two that fits into the memory of the GPUs.
        patience: stop after so many epochs without a better `monitor`; null never stops early.
        monitor: the logged quantity, lower is better, that picks the best epoch.
        gradient_clip: largest norm of the gradient; null does not clip.
        accumulate: batches whose mean gradient makes one step.
        ema_decay: the result, and what is validated, is the average of the weights over about 1 / (1 - ema_decay)
            steps; null does not average.
        max_loss: largest absolute loss of a batch; beyond it, or when it is not finite, the stage stops.
    """

    max_epochs: int = 50
    batch_size: PositiveInt | Literal["auto"] = 512
    patience: int | None = 20
    monitor: str = "validation_loss"
    gradient_clip: float | None = None
    accumulate: PositiveInt = 1
    ema_decay: float | None = None
    max_loss: float = 1e8


@dataclass
class Stage:
    """One stage of training.

    Args:
        task: which part of the model is trained, and its optimizer.
        trainer: how long.
    """

    task: Callable[[ShowerModel], Task]
    trainer: StageTrainer = field(default_factory=StageTrainer)


@dataclass
class Hardware:
    """Where to train; the names are Lightning's. None of it starts a finished stage anew.

    Args:
        accelerator: cpu, gpu, or auto.
        devices: number of devices per machine, or auto.
        num_nodes: number of machines.
        strategy: how devices work together; auto is ddp if there are several.
        precision: bf16-mixed computes networks in bfloat16, and splines and likelihoods in float32.
        deterministic: only algorithms that give the same bits whenever they are repeated, also on a GPU.
        compile: translate the networks with torch.compile, which takes minutes and then makes steps faster.
    """

    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    deterministic: bool = False
    compile: bool = False


@dataclass
class Wandb:
    """Logging to Weights & Biases, beside the CSV log that is always written.

    Args:
        project: name of the project.
        name: of the group that the run's stages form; by default that of the run folder.
        tags: of all stages.
        mode: offline needs no network and no account.
    """

    project: str = "caloman"
    name: str | None = None
    tags: list[str] = field(default_factory=list)
    mode: Literal["offline", "online"] = "offline"


@dataclass
class Monitor:
    """Comparison of generated with validation showers during the training.

    Args:
        every: number of epochs between two comparisons; there is one after the last epoch, too.
        showers: number of validation showers, always the same; fewer if they are large.
    """

    every: int = 5
    showers: int = 1000


@dataclass
class Pipeline:
    """Everything that makes a generator.

    Args:
        geometry: dataset id (1-photons, 1-pions, 2, 3) or a binning .xml file.
        data: what to train on.
        model: the generator.
        stages: by name, in the order of training.
        conditions: names of what showers are asked for by, incident_energy first; a file has a table of each.
        start_from: bundle or run folder with the weights to start from, where their shapes agree; statistics are fitted
            anew. Lower learning rates suit it.
        seed: of the split, the initial weights and the order of the showers.
        hardware: where to train.
        wandb: also log to Weights & Biases.
        monitor: how often generated showers are compared with validation showers; null never does.
    """

    geometry: str
    data: DataConfig
    model: Callable[[Geometry, Conditions], ShowerModel]
    stages: dict[str, Stage]
    conditions: list[str] = field(default_factory=lambda: [ENERGY.name])
    start_from: str | None = None
    seed: int = 0
    hardware: Hardware = field(default_factory=Hardware)
    wandb: Wandb | None = None
    monitor: Monitor | None = field(default_factory=Monitor)


def load_pipeline(path: str | Path, overrides: Sequence[str] = ()) -> tuple[Pipeline, dict[str, Any]]:
    """Reads a pipeline and checks every key against the signatures.

    Args:
        path: YAML file, or the name of one that comes with the package, such as ``2/caloman``.
        overrides: options for single keys, such as ``--stages.latent.trainer.max_epochs=5``; ``--trainer=FILE`` lays a
            whole file over the pipeline.

    Returns:
        The pipeline, and the complete configuration with all defaults.

    Raises:
        CalomanError: with the first key or value that does not fit.
    """
    config = read_layers(path)
    for key, value in split_overrides(overrides):
        if key == "trainer":
            config = overlay(config, read_layers(value))
        else:
            set_key(config, key, parse_yaml(value, f"--{key}"))
    return build(config, Pipeline, str(path))
