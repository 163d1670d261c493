"""Training of the rivals: densities of voxels, whole showers, copulas, and students of slow flows.

References:
    van den Oord et al., Parallel WaveNet (arXiv:1711.10433); CaloFlow II (arXiv:2110.11377).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from caloman import bundle
from caloman.errors import CalomanError
from caloman.files import sha256
from caloman.flows import Conditioned, Flow, Step
from caloman.models import Density, FactorizedShowerModel, ShapeModel, ShowerModel
from caloman.rivals import CopulaShape, FlowShape, JointShowerModel
from caloman.training.data import Batch
from caloman.training.tasks import ShapeTask, Task, normal_noise

Shape = TypeVar("Shape", bound=ShapeModel)


class JointTask(Task):
    """Trains the density of whole showers by maximum likelihood."""

    part = "density"
    model: JointShowerModel

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return batch


class FlowTask(ShapeTask):
    """Trains a density of the voxels themselves by its own loss."""

    part = "shape.density"

    @property
    def density(self) -> Density:
        return _shape(self, FlowShape).density

    def showers(self, batch: Batch) -> Tensor:
        """Generated shapes with the true layer energies."""
        _, conditions = batch
        layer_energies = self.model.transform(*batch).layer_energies
        noise = normal_noise(layer_energies, self.density.noise_dim)
        return self.model.forward_shapes(noise, conditions, layer_energies)

    def losses(self, x: Tensor, context: Tensor) -> dict[str, Tensor]:
        return {"loss": self.density.loss(x, context)}  # refuses the density of a model that is no FlowShape


class MarginalsTask(ShapeTask):
    """Trains the marginals of the voxels by maximum likelihood."""

    part = "shape.marginals"

    @property
    def shape(self) -> CopulaShape:
        return _shape(self, CopulaShape)

    def noise(self, shapes: Tensor, context: Tensor) -> Tensor:
        """The noise (n, V) to draw voxels (n, V) from, by default independent."""
        return torch.randn_like(shapes)

    def showers(self, batch: Batch) -> Tensor:
        """Showers of the noise with the true layer energies."""
        shapes, context, layer_energies = self.model.transform(*batch)
        shapes = self.shape.marginals.sample(self.noise(shapes, context), context)
        return self.model.transform.inverse(shapes, batch[1], layer_energies)


class CopulaTask(MarginalsTask):
    """Trains the density of the voxels' noise."""

    part = "shape.density"
    upstream = ("shape.marginals",)

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        shapes, context = super().inputs(batch)
        return self.shape.marginals.to_noise(shapes, context), context

    def noise(self, shapes: Tensor, context: Tensor) -> Tensor:
        return self.shape.density.sample(super().noise(shapes, context), context)


class DistillationTask(FlowTask):
    """Trains a student in the place of its teacher: the same chain of transforms, conditioned on noise instead of data.

    Two round trips should end where they began: from data through the teacher to noise and back through the student,
    and from noise through the student to data and on through the teacher. Scalings, permutations and all else between
    the autoregressive transforms come from the teacher.

    Args:
        model: the generator with the student as its density of voxels.
        teacher: run folder or bundle of a generator of the same kind.
        beta: weight of the round trip from data; that of the other is 1 - beta.
        guided: also compare the points between the transforms and the raw outputs of the conditioners ("fully
            guided", which needs conditioners with equal outputs), not the end points alone.
        options: of every `Task`.

    Raises:
        CalomanError: if the student does not sample in one pass.
    """

    def __init__(
        self,
        model: ShowerModel,
        teacher: str,
        beta: float = 0.5,
        guided: bool = True,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(model, **options)
        if not self.density.one_pass_sampling:
            raise CalomanError("the student samples entry by entry; set direction: sampling in its flow")
        self.path = teacher
        self.beta = beta
        self.guided = guided

    @cached_property
    def teacher(self) -> Density:
        """The frozen teacher; no part of this module, so it takes no room in checkpoints."""
        model = bundle.load(self.path)
        if not (isinstance(model, FactorizedShowerModel) and isinstance(model.shape, FlowShape)):
            raise CalomanError(f"{self.path}: a teacher has to be a FlowShape, this is a {type(model).__name__}")
        teacher = model.shape.density.requires_grad_(False)
        if model.geometry != self.model.geometry or self._plan(teacher) != self._plan(self.density):
            raise CalomanError(
                f"{self.path}: teacher and student differ in geometry, transforms or bins; configure them alike"
            )
        return teacher

    def _plan(self, density: Density) -> list[tuple[type, int]]:
        """Kinds of the transforms, and sizes of their raw outputs if guided."""
        parts = _flow(density).transforms
        sizes = (p.elementwise.n_parameters if self.guided and isinstance(p, Conditioned) else 0 for p in parts)
        return list(zip(map(type, parts), sizes, strict=True))

    @property
    def external(self) -> dict[str, str]:
        weights = bundle.find(self.path) / "model.safetensors"
        try:
            return {"teacher": sha256(weights)}
        except OSError:
            raise CalomanError(f"{self.path}: no finished model here; train the teacher first, or name it") from None

    def fit_statistics(self, batches: Callable[[], Iterable[Batch]]) -> None:
        student = self.density
        student.scaling.load_state_dict(self.teacher.scaling.state_dict())
        student.context_scaling.load_state_dict(self.teacher.context_scaling.state_dict())
        for learning, known in zip(_flow(student).transforms, _flow(self.teacher).transforms, strict=True):
            if not isinstance(known, Conditioned):
                learning.load_state_dict(known.state_dict())

    def losses(self, x: Tensor, context: Tensor) -> dict[str, Tensor]:
        teacher, student = _flow(self.teacher.to(x.device)), _flow(self.density)
        data, condition = self.teacher.scaling(x), self.teacher.context_scaling(context)
        with torch.no_grad():
            encoded = teacher.trace(data, condition)
        noise = encoded[-1].outputs
        from_data = self._distance(data, encoded, noise, student.trace(noise, condition, inverse=True))

        noise = torch.randn_like(data)
        generated = student.trace(noise, condition, inverse=True)
        sample = generated[-1].outputs
        encoded = teacher.trace(sample, condition)
        from_noise = self._distance(sample, encoded, noise, generated)

        log_student = student.log_prob_of_noise(noise) - torch.stack([step.log_det for step in generated]).sum(0)
        log_teacher = teacher.log_prob_of_noise(encoded[-1].outputs) + torch.stack([s.log_det for s in encoded]).sum(0)
        loss = self.beta * from_data + (1 - self.beta) * from_noise
        return {"loss": loss, "kl": (log_student - log_teacher).mean().detach()}

    def _distance(self, data: Tensor, encoded: Sequence[Step], noise: Tensor, generated: Sequence[Step]) -> Tensor:
        """Distance of the student's way from noise to the teacher's way from data."""
        generated = generated[::-1]
        ways = list(zip([data, *(s.outputs for s in encoded)], [*(s.outputs for s in generated), noise], strict=True))
        compared = [ways[0], ways[-1]]
        if self.guided:
            conditioned = [i for i, step in enumerate(encoded) if step.raw is not None]
            compared += [ways[i] for i in conditioned[1:]]
            compared += [(encoded[i].raw, generated[i].raw) for i in conditioned]  # type: ignore[misc]
        return torch.stack([mse_loss(a, b) for a, b in compared]).sum()


def _shape(task: ShapeTask, kind: type[Shape]) -> Shape:
    shape = task.model.shape
    if not isinstance(shape, kind):
        raise CalomanError(f"{type(task).__name__} needs a {kind.__name__}, not a {type(shape).__name__}")
    return shape


def _flow(density: Density) -> Flow:
    if not isinstance(density.flow, Flow):
        raise CalomanError(f"distillation needs a flow made of transforms, not a {type(density.flow).__name__}")
    return density.flow
