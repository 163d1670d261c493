"""Training: the only package that knows Lightning and wandb."""

from caloman.training.pipeline import fit, replay
from caloman.training.tasks import AutoencoderTask, EnergyTask, LatentTask, ResidualTask, Task

__all__ = ["AutoencoderTask", "EnergyTask", "LatentTask", "ResidualTask", "Task", "fit", "replay"]
