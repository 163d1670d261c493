"""Generators of showers: one signature for all, `forward(noise, conditions) -> showers [MeV]`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.flows import Sampler
from caloman.models.energy import LayerEnergyModel
from caloman.models.noise import chunk_noise
from caloman.models.shape import ManifoldShape, ShapeModel
from caloman.preprocessing import ShowerTransform
from caloman.showers.conditions import ENERGY, Conditions
from caloman.showers.geometry import Geometry
from caloman.showers.showers import CHUNK, Showers

MAX_BATCH_VOXELS = 6_500_000
"""As many as in a chunk of dataset 2; more of them would only fill the memory and leave the cache."""


class ShowerModel(Sampler, ABC):
    """A generator: a pure function of standard normal noise and conditions.

    Args:
        geometry: the voxel mesh with V voxels.
        conditions: what showers are asked for by, C of them, with their trained ranges.
    """

    noise_blocks: dict[str, int]

    def __init__(self, geometry: Geometry, conditions: Conditions) -> None:
        super().__init__()
        self.geometry = geometry
        self.conditions = conditions

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        tensor = next(chain(self.parameters(), self.buffers()), None)
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def noise_dim(self) -> int:
        """Number of standard normal numbers for one shower."""
        return sum(self.noise_blocks.values())

    @property
    @abstractmethod
    def threshold(self) -> float:
        """Energy below which a voxel is empty [MeV]; 0 if any energy may be generated."""

    @property
    def batch_size(self) -> int:
        """Number of showers computed at a time."""
        return max(1, min(CHUNK, MAX_BATCH_VOXELS // self.geometry.n_voxels))

    def __repr__(self) -> str:
        """Particle, mesh, trained conditions, noise and parts, not the tree of modules."""
        geometry = self.geometry
        blocks = ", ".join(f"{name} {size}" for name, size in self.noise_blocks.items())
        lines = [
            f"{type(self).__name__} of {geometry.particle} showers, geometry {geometry.name!r}",
            f"  mesh        {geometry.n_voxels} voxels in {geometry.n_layers} layers, threshold {self.threshold:g} MeV",
            *(f"  {condition.label:<11} {condition.domain}" for condition in self.conditions),
            f"  noise       {self.noise_dim} standard normal numbers: {blocks}",
            f"  parameters  {_size(self):,}",
            *(f"    {name}: {type(part).__name__}, {_size(part):,}" for name, part in self._parts() if _size(part)),
        ]
        return "\n".join(lines)

    def _parts(self) -> Iterator[tuple[str, nn.Module]]:
        for name, child in self.named_children():
            if isinstance(child, ShapeModel):
                yield from ((f"{name}.{inner}", part) for inner, part in child.named_children())
            else:
                yield name, child

    def prepare(self, batches: Iterable[Tensor]) -> None:
        """Fits the statistics of the preprocessing on batches of training voxels (n, V) [MeV], before all training."""

    @abstractmethod
    def forward(self, noise: Tensor, conditions: Tensor) -> Tensor:
        """Turns noise (N, noise_dim) under conditions (N, C), incident energies [MeV] first, into showers (N, V) [MeV].

        The columns of the conditions have the order of `conditions`.
        """

    def sample(
        self, incident_energies: Sequence[float] | NDArray[np.floating], seed: int = 0, **conditions: ArrayLike
    ) -> Showers:
        """Generates one shower for each incident energy [MeV]; the same seed gives the same showers.

        Args:
            incident_energies: [MeV], shape (N,).
            seed: of the noise.
            conditions: the model's other conditions by name, such as ``theta`` [rad], a number or shape (N,).

        Raises:
            CalomanError: if a condition is missing, unknown, no number, or outside its trained range.
        """
        energies = _numbers(ENERGY.plural, incident_energies).reshape(-1)
        unknown = next((name for name in conditions if name not in self.conditions.further), None)
        if unknown is not None:
            raise CalomanError(f"no condition {unknown!r}; those of this model are {', '.join(self.conditions.names)}")
        columns = {name: _numbers(name, values) for name, values in conditions.items()}
        columns = {k: np.full(len(energies), v) if v.ndim == 0 else v for k, v in columns.items()}
        matrix = self.conditions.matrix(energies, columns, "sample")
        self.conditions.check_trained(matrix)
        starts = range(0, len(energies), CHUNK)
        parts = [self.sample_chunk(matrix[start : start + CHUNK], seed, start // CHUNK).voxels for start in starts]
        voxels = np.concatenate(parts or [np.zeros((0, self.geometry.n_voxels), np.float32)])
        return Showers(energies, voxels, self.geometry, self.conditions.columns(matrix))

    def sample_chunk(self, conditions: NDArray[np.float32], seed: int, chunk: int) -> Showers:
        """Generates the showers of one chunk, at most `CHUNK` of them, under conditions (n, C), unchecked."""
        noise = torch.from_numpy(chunk_noise(seed, chunk, len(conditions), self.noise_dim)).to(self.device)
        rows = torch.from_numpy(conditions.astype(np.float32)).to(self.device)
        parts = zip(noise.split(self.batch_size), rows.split(self.batch_size), strict=True)
        with torch.inference_mode():
            voxels = torch.cat([self(*part).float().cpu() for part in parts])
        return Showers(conditions[:, 0], voxels.numpy(), self.geometry, self.conditions.columns(conditions))


class FactorizedShowerModel(ShowerModel):
    """p(shower | c) = p(layer energies | c) p(shape | layer energies, c); without an energy model the shape has it all.

    Args:
        geometry: the voxel mesh.
        conditions: c, C of them.
        transform: between voxels and the variables of the shape model.
        shape: the shape model.
        energy: the layer-energy model; none in the two-step variant.
    """

    def __init__(
        self,
        geometry: Geometry,
        conditions: Conditions,
        transform: Callable[[Geometry, Conditions], ShowerTransform],
        shape: Callable[[Geometry, int], ShapeModel],
        energy: Callable[[Geometry, Conditions], LayerEnergyModel] | None = None,
    ) -> None:
        super().__init__(geometry, conditions)
        self.transform = transform(geometry, conditions)
        self.energy = energy(geometry, conditions) if energy else None
        self.shape = shape(geometry, self.transform.context_dim)
        energy_block = {"energy": self.energy.noise_dim} if self.energy else {}
        self.noise_blocks = {**energy_block, **self.shape.noise_blocks}

    @property
    def threshold(self) -> float:
        return self.transform.threshold

    def prepare(self, batches: Iterable[Tensor]) -> None:
        self.transform.fit(batches)

    def forward(self, noise: Tensor, conditions: Tensor) -> Tensor:
        n_energy = self.noise_blocks.get("energy", 0)
        layer_energies = self.energy(noise[:, :n_energy], conditions) if self.energy else None
        return self.forward_shapes(noise[:, n_energy:], conditions, layer_energies)

    def forward_shapes(self, noise: Tensor, conditions: Tensor, layer_energies: Tensor | None) -> Tensor:
        """Showers (N, V) [MeV] of given layer energies (N, L) [MeV] from the noise (N, S) of the shape model alone."""
        shapes = self.shape(noise, self.transform.context(conditions, layer_energies))
        return self.transform.inverse(shapes, conditions, layer_energies)

    def reconstruct(self, noise: Tensor, voxels: Tensor, conditions: Tensor) -> Tensor:
        """Showers (N, V) [MeV] decoded from the latents of the given ones, with their layer energies.

        Args:
            noise: of the shape model, (N, S).
            voxels: the showers (N, V) [MeV].
            conditions: theirs (N, C).

        Raises:
            CalomanError: if the model has no manifold.
        """
        prepared = self.transform(voxels, conditions)
        shapes = self.manifold.reconstruct(noise, prepared.shapes, prepared.context)
        return self.transform.inverse(shapes, conditions, prepared.layer_energies)

    @property
    def manifold(self) -> ManifoldShape:
        """The shape model, if it has a manifold.

        Raises:
            CalomanError: if it has none.
        """
        if not isinstance(self.shape, ManifoldShape):
            raise CalomanError(f"a {type(self.shape).__name__} has no manifold; use a model with a ManifoldShape")
        return self.shape


def _size(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float32]:
    """The values of a condition as an array."""
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError):
        raise CalomanError(f"sample: {name} needs numbers, one per shower, not {values!r:.60}") from None
