"""Training: the only package that knows Lightning and wandb."""

from caloman.training.manifold import AutoencoderTask, LatentTask, ResidualTask
from caloman.training.pipeline import fit, replay
from caloman.training.rivals import CopulaTask, DistillationTask, FlowTask, JointTask, MarginalsTask
from caloman.training.tasks import EnergyTask, Task

__all__ = [
    "AutoencoderTask", "CopulaTask", "DistillationTask", "EnergyTask", "FlowTask", "JointTask", "LatentTask",
    "MarginalsTask", "ResidualTask", "Task", "fit", "replay",
]  # fmt: skip
