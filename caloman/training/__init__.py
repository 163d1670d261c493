"""Training: the only package that knows Lightning and wandb."""

from caloman.training.copula import CopulaTask, MarginalsTask
from caloman.training.distillation import DistillationTask
from caloman.training.manifold import AutoencoderTask, LatentTask, ResidualTask
from caloman.training.pipeline import fit, replay
from caloman.training.tasks import EnergyTask, FlowTask, JointTask, Task

__all__ = [
    "AutoencoderTask", "CopulaTask", "DistillationTask", "EnergyTask", "FlowTask", "JointTask", "LatentTask",
    "MarginalsTask", "ResidualTask", "Task", "fit", "replay",
]  # fmt: skip
