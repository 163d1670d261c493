"""One density for a whole shower: the voxels of all layers and the energies of the layers at once (CaloINN)."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from caloman.flows import Distribution
from caloman.models.shower import ShowerModel
from caloman.preprocessing import Dequantization, LayerFractions, LayerwiseTransform, LogUniformDequantization
from caloman.showers.conditions import Conditions
from caloman.showers.geometry import Geometry


class JointDensity(nn.Module):
    """A density of V + L coordinates: logarithms of the voxels' fractions of their layers, and logits of the fractions.

    Voxels below the threshold and empty layers are dequantized; generated values below it are zero again. CaloINN has
    logarithms of the fractions, too; logits keep every generated shower below the largest possible deposit.

    Args:
        geometry: the voxel mesh with V voxels in L layers.
        conditions: of the generator, C of them.
        flow: density of the coordinates under the conditions, log10 of the incident energy first.
        dequantization: replaces voxels without energy by noise.
        threshold: voxels and layers below it are empty [MeV].
        alpha: margin of the logits.

    Raises:
        CalomanError: if the threshold does not cut the noise.

    References:
        CaloINN (arXiv:2312.09290).
    """

    def __init__(
        self,
        geometry: Geometry,
        conditions: Conditions,
        flow: Callable[[int, int], Distribution],
        dequantization: Dequantization,
        threshold: float = 0.01,
        alpha: float = 1e-6,
    ) -> None:
        super().__init__()
        self.transform = LayerwiseTransform(geometry, conditions, threshold)
        self.fractions = LayerFractions(geometry.n_layers, alpha)
        dequantization.check(threshold)
        self.dequantization = dequantization
        self.empty_layers = LogUniformDequantization(threshold)
        self.sizes = [geometry.n_voxels, geometry.n_layers]
        self.flow = flow(sum(self.sizes), 1 + self.transform.encoding.size)

    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Fits all statistics on batches of voxels (n, V) [MeV] and conditions (n, C)."""
        layers = ((self._layer_energies(self._cut(voxels))[0], conditions[:, :1]) for voxels, conditions in batches())
        self.fractions.fit(layers)
        self.flow.fit(lambda: (self._coordinates(*batch)[:2] for batch in batches()))

    def log_prob(self, voxels: Tensor, conditions: Tensor) -> Tensor:
        """Lower bound of the log-density of voxels (N, V) [MeV] under conditions (N, C), shape (N,).

        Zeros count with their probability, other voxels and layers in logarithms of fractions and energies. Fractions
        of unit sum are redundant: the density is that of the coordinates.
        """
        coordinates, context, minus_log_q = self._coordinates(voxels, conditions)
        return self.flow.log_prob(coordinates, context) + minus_log_q

    def loss(self, voxels: Tensor, conditions: Tensor) -> Tensor:
        """Training loss on voxels (N, V) [MeV] under conditions (N, C)."""
        coordinates, context, minus_log_q = self._coordinates(voxels, conditions)
        return self.flow.loss(coordinates, context) - minus_log_q.mean()

    def sample(self, noise: Tensor, conditions: Tensor) -> Tensor:
        """Turns normal noise (N, noise_dim) under conditions (N, C) into voxels (N, V) [MeV]."""
        coordinates = self.flow.sample(noise, self._context(conditions))
        log_fractions, logits = coordinates.split(self.sizes, dim=1)
        layer_energies = self.fractions.inverse(logits, conditions[:, :1])
        return self.transform.inverse(log_fractions.clamp(max=0).exp(), conditions, layer_energies)

    def _context(self, conditions: Tensor) -> Tensor:
        """log10 of the incident energy in GeV, and the other conditions."""
        return self.transform.encoding.extend((conditions[:, :1] / 1e3).log10(), conditions)

    def _coordinates(self, voxels: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates (N, V + L), their context, and the -log q of all noise (N,)."""
        voxels, incident_energies = self._cut(voxels), conditions[:, :1]
        layer_energies, of_layers = self._layer_energies(voxels)
        voxels, of_voxels = self.dequantization(voxels)
        log_fractions = voxels.log() - self.transform.layers.broadcast(layer_energies).log()
        logits = self.fractions(layer_energies, incident_energies)
        log_det = self.fractions.log_det(logits, layer_energies, incident_energies)
        coordinates = torch.cat([log_fractions, logits], dim=1)
        return coordinates, self._context(conditions), of_layers + of_voxels + log_det

    def _cut(self, voxels: Tensor) -> Tensor:
        return torch.where(voxels < self.transform.threshold, torch.zeros_like(voxels), voxels)

    def _layer_energies(self, voxels: Tensor) -> tuple[Tensor, Tensor]:
        """Energies of layers (N, L) with noise in empty ones, and the noise's -log q (N,)."""
        return self.empty_layers(self.transform.layers.sum(voxels))


class JointShowerModel(ShowerModel):
    """p(shower | conditions) in one piece.

    Args:
        geometry: the voxel mesh.
        conditions: of the generator.
        density: of the showers.

    References:
        CaloINN (arXiv:2312.09290).
    """

    def __init__(
        self, geometry: Geometry, conditions: Conditions, density: Callable[[Geometry, Conditions], JointDensity]
    ) -> None:
        super().__init__(geometry, conditions)
        self.density = density(geometry, conditions)
        self.noise_blocks = {"joint": self.density.flow.noise_dim}

    @property
    def threshold(self) -> float:
        return self.density.transform.threshold

    def forward(self, noise: Tensor, conditions: Tensor) -> Tensor:
        return self.density.sample(noise, conditions)
