"""What a stage of the pipeline trains: one part of the generator, with everything else fixed."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import Strategy
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from caloman.errors import CalomanError
from caloman.models import FactorizedShowerModel, ShowerModel
from caloman.training.data import Batch


class EpochMeans:
    """Means of losses over the showers of an epoch and over all devices."""

    def __init__(self) -> None:
        self._totals: dict[str, Tensor] = {}
        self._count = 0

    def add(self, losses: Mapping[str, Tensor], n: int) -> None:
        """Adds the mean losses of n showers, without waiting for the device."""
        for name, loss in losses.items():
            self._totals[name] = self._totals.get(name, 0.0) + n * loss.detach().float()
        self._count += n

    def take(self, strategy: Strategy) -> dict[str, Tensor]:
        """The means, the same on all devices; starts over."""
        totals = torch.stack(list(self._totals.values()))
        sums = strategy.reduce(torch.cat([totals, totals.new_tensor([self._count])]), reduce_op="sum")
        means = dict(zip(self._totals, sums[:-1] / sums[-1], strict=True))
        self._totals, self._count = {}, 0
        return means


class Task(pl.LightningModule, ABC):
    """Trains one part of a generator.

    Args:
        model: the generator.
        learning_rate: of AdamW, at its peak.
        weight_decay: of AdamW.
        schedule: ``cosine`` falls to zero at the last step, ``onecycle`` also warms up, ``constant`` stays.
    """

    part: ClassVar[str]
    """Path of the trained part, such as ``shape.density``."""
    upstream: ClassVar[tuple[str, ...]] = ()
    """Parts that have to be trained before."""
    observables: ClassVar[tuple[str, ...]] = ()
    """The monitored observables of `caloman.evaluation.histograms`; all if it is empty."""

    def __init__(
        self,
        model: ShowerModel,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: Literal["cosine", "onecycle", "constant"] = "cosine",
    ) -> None:
        super().__init__()
        self.model = model
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self._means = {"train": EpochMeans(), "validation": EpochMeans()}
        try:
            trained = model.get_submodule(self.part)
        except AttributeError:
            raise CalomanError(f"{type(self).__name__} trains {self.part!r}, which the model does not have") from None
        model.requires_grad_(False)
        trained.requires_grad_(True)

    @property
    def external(self) -> dict[str, str]:
        """SHA-256 of further files, beside the training showers, with an influence on the result."""
        return {}

    @property
    def module(self) -> nn.Module:
        return self.model.get_submodule(self.part)

    @abstractmethod
    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the part learns, shape (n, D), and its condition, shape (n, C), from a batch of showers."""

    def losses(self, x: Tensor, context: Tensor) -> dict[str, Tensor]:
        """The mean loss under ``loss``, and its terms if there are several; by default the part's own."""
        loss = self.module.loss(x, context)  # type: ignore[operator]
        return loss if isinstance(loss, dict) else {"loss": loss}

    def showers(self, batch: Batch) -> Tensor:
        """Showers [MeV], shape (n, V): the trained part's, with all else true; by default the whole generator's."""
        _, conditions = batch
        return self.model(normal_noise(conditions, self.model.noise_dim), conditions)

    def fit_statistics(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fits the statistics of the part on the training showers."""
        with torch.no_grad():
            self.module.fit(lambda: (self.inputs(batch) for batch in batches()))  # type: ignore[operator]

    def losses_of(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch; its preparation is fixed and keeps full precision."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            x, context = self.inputs(batch)
        return self.losses(x, context)

    def training_step(self, batch: Batch) -> Tensor:
        losses = self.losses_of(batch)
        self._means["train"].add(losses, len(batch[0]))
        return losses["loss"]

    def validation_step(self, batch: Batch) -> None:
        self._means["validation"].add(self.validation_losses(batch), len(batch[0]))

    def validation_losses(self, batch: Batch) -> dict[str, Tensor]:
        return self.losses_of(batch)

    def on_validation_epoch_end(self) -> None:
        """Logs the means over the epoch, once: logging of each step costs as much as a small network."""
        for split, means in self._means.items():
            values = means.take(self.trainer.strategy)
            self.log_dict({f"{split}_{name}": value for name, value in values.items()}, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the trained part only; the others have files of their own."""
        for key in {"state_dict", "current_model_state"} & set(checkpoint):  # the second one next to an average
            checkpoint[key] = self._part_of(checkpoint[key])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for key in {"state_dict", "current_model_state"} & set(checkpoint):
            checkpoint[key] = {**self.state_dict(), **checkpoint[key]}

    def part_state(self) -> dict[str, Tensor]:
        """State of the trained part under its names in a checkpoint."""
        return self._part_of(self.state_dict())

    def _part_of(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in state.items() if name.startswith(f"model.{self.part}.")}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trained parameters, in groups with a learning rate each."""
        return [{"params": self.module.parameters()}]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW(self.parameter_groups(), self.learning_rate, weight_decay=self.weight_decay)
        if self.schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler: LRScheduler = (
            CosineAnnealingLR(optimizer, steps)
            if self.schedule == "cosine"
            else OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class EnergyTask(Task):
    """Trains the layer-energy model by maximum likelihood."""

    part = "energy"
    observables = ("response", "response_at_energy", "layer_energies")
    model: FactorizedShowerModel

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.model.transform(*batch).layer_energies, batch[1]

    def showers(self, batch: Batch) -> Tensor:
        """True shapes with generated layer energies."""
        assert self.model.energy is not None
        _, conditions = batch
        shapes = self.model.transform(*batch).shapes
        layers = self.model.transform.layers
        # an empty layer has no shape, and what is generated there goes to one voxel
        shapes = shapes + (layers.broadcast(layers.sum(shapes) == 0) & layers.is_largest(shapes))
        layer_energies = self.model.energy(normal_noise(shapes, self.model.energy.noise_dim), conditions)
        return self.model.transform.inverse(shapes, conditions, layer_energies)


class ShapeTask(Task):
    """A task on the shape model."""

    model: FactorizedShowerModel

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        prepared = self.model.transform(*batch)
        return prepared.shapes, prepared.context


def normal_noise(rows: Tensor, columns: int) -> Tensor:
    """Standard normal numbers, one row for each of `rows`, shape (n, columns)."""
    return torch.randn(len(rows), columns, device=rows.device)
