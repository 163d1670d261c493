"""Generators of showers: one signature for all, `forward(noise, incident_energies) -> showers [MeV]`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.flows import Sampler
from caloman.models.energy import LayerEnergyModel
from caloman.models.noise import chunk_noise
from caloman.models.shape import ManifoldShape, ShapeModel
from caloman.preprocessing import ShowerTransform
from caloman.showers.geometry import Geometry
from caloman.showers.showers import CHUNK, Showers

MAX_BATCH_VOXELS = 6_500_000
"""As many as in a chunk of dataset 2; more of them would only fill the memory and leave the cache."""


class ShowerModel(Sampler, ABC):
    """A generator: a pure function of standard normal noise and incident energies.

    Args:
        geometry: the voxel mesh with V voxels.
    """

    noise_blocks: dict[str, int]
    energy_range: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry
        self.register_buffer("energy_range", torch.tensor([0.0, torch.inf]))

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
        """Particle, mesh, range of energies, noise and parts, not the tree of modules."""
        geometry, (low, high) = self.geometry, self.energy_range.tolist()
        blocks = ", ".join(f"{name} {size}" for name, size in self.noise_blocks.items())
        lines = [
            f"{type(self).__name__} of {geometry.particle} showers, geometry {geometry.name!r}",
            f"  mesh        {geometry.n_voxels} voxels in {geometry.n_layers} layers, threshold {self.threshold:g} MeV",
            f"  energies    {low:g} to {high:g} MeV" if high < np.inf else "  energies    none, the model is untrained",
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
    def forward(self, noise: Tensor, incident_energies: Tensor) -> Tensor:
        """Turns noise (N, noise_dim) at incident energies (N, 1) [MeV] into showers (N, V) [MeV]."""

    def sample(self, incident_energies: Sequence[float] | NDArray[np.floating], seed: int = 0) -> Showers:
        """Generates one shower for each incident energy [MeV]; the same seed gives the same showers.

        Raises:
            CalomanError: if an energy lies outside the trained range.
        """
        energies = np.asarray(incident_energies, dtype=np.float32).reshape(-1)
        self.check_energies(energies)
        parts = [
            self.sample_chunk(energies[start : start + CHUNK], seed, start // CHUNK)
            for start in range(0, len(energies), CHUNK)
        ]
        voxels = [part.voxels for part in parts] or [np.zeros((0, self.geometry.n_voxels), np.float32)]
        return Showers(energies, np.concatenate(voxels), self.geometry)

    def sample_chunk(self, incident_energies: NDArray[np.float32], seed: int, chunk: int) -> Showers:
        """Generates the showers of one chunk, at most `CHUNK` of them, at incident energies (n,) [MeV], unchecked."""
        device = self.energy_range.device
        noise = torch.from_numpy(chunk_noise(seed, chunk, len(incident_energies), self.noise_dim)).to(device)
        energies = torch.from_numpy(incident_energies.astype(np.float32)).unsqueeze(1).to(device)
        parts = zip(noise.split(self.batch_size), energies.split(self.batch_size), strict=True)
        with torch.inference_mode():
            voxels = torch.cat([self(*part).float().cpu() for part in parts])
        return Showers(incident_energies, voxels.numpy(), self.geometry)

    def covers(self, incident_energies: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which incident energies (n,) [MeV] lie within the trained range."""
        low, high = self.energy_range.tolist()
        # energies are float32 in files, so the ends of the range may be off by a rounding
        return (incident_energies >= low * (1 - 1e-6)) & (incident_energies <= high * (1 + 1e-6))

    def check_energies(self, incident_energies: NDArray[np.floating]) -> None:
        """Refuses incident energies [MeV] outside the trained range.

        Raises:
            CalomanError: with the range and the first energy outside it.
        """
        outside = ~self.covers(incident_energies)
        if outside.any():
            low, high = self.energy_range.tolist()
            raise CalomanError(
                f"incident energy {incident_energies[outside][0]:g} MeV is outside the range of the training, "
                f"{low:g} to {high:g} MeV; ask for energies inside it, or insist with "
                "`caloman generate --extrapolate`"
            )


class FactorizedShowerModel(ShowerModel):
    """p(shower | E) = p(layer energies | E) p(shape | layer energies, E); without an energy model the shape has it all.

    Args:
        geometry: the voxel mesh.
        transform: between voxels and the variables of the shape model.
        shape: the shape model.
        energy: the layer-energy model; none in the two-step variant.
    """

    def __init__(
        self,
        geometry: Geometry,
        transform: Callable[[Geometry], ShowerTransform],
        shape: Callable[[Geometry, int], ShapeModel],
        energy: Callable[[Geometry], LayerEnergyModel] | None = None,
    ) -> None:
        super().__init__(geometry)
        self.transform = transform(geometry)
        self.energy = energy(geometry) if energy else None
        self.shape = shape(geometry, self.transform.context_dim)
        energy_block = {"energy": self.energy.noise_dim} if self.energy else {}
        self.noise_blocks = {**energy_block, **self.shape.noise_blocks}

    @property
    def threshold(self) -> float:
        return self.transform.threshold

    def prepare(self, batches: Iterable[Tensor]) -> None:
        self.transform.fit(batches)

    def forward(self, noise: Tensor, incident_energies: Tensor) -> Tensor:
        n_energy = self.noise_blocks.get("energy", 0)
        layer_energies = self.energy(noise[:, :n_energy], incident_energies) if self.energy else None
        return self.forward_shapes(noise[:, n_energy:], incident_energies, layer_energies)

    def forward_shapes(self, noise: Tensor, incident_energies: Tensor, layer_energies: Tensor | None) -> Tensor:
        """Showers (N, V) [MeV] of given layer energies (N, L) [MeV] from the noise (N, S) of the shape model alone."""
        shapes = self.shape(noise, self.transform.context(incident_energies, layer_energies))
        return self.transform.inverse(shapes, incident_energies, layer_energies)

    def reconstruct(self, noise: Tensor, voxels: Tensor, incident_energies: Tensor) -> Tensor:
        """Showers (N, V) [MeV] decoded from the latents of the given ones, with their layer energies.

        Args:
            noise: of the shape model, (N, S).
            voxels: the showers (N, V) [MeV].
            incident_energies: theirs (N, 1) [MeV].

        Raises:
            CalomanError: if the model has no manifold.
        """
        prepared = self.transform(voxels, incident_energies)
        shapes = self.manifold.reconstruct(noise, prepared.shapes, prepared.context)
        return self.transform.inverse(shapes, incident_energies, prepared.layer_energies)

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
