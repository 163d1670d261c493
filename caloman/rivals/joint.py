"""One density for a whole shower: the voxels of all layers and the energies of the layers at once (CaloINN)."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from caloman.flows import Distribution
from caloman.models.shower import ShowerModel
from caloman.preprocessing import Dequantization, LayerFractions, LayerwiseTransform, LogUniformDequantization
from caloman.showers.geometry import Geometry


class JointDensity(nn.Module):
    """A density of V + L coordinates: logarithms of the voxels' fractions of their layers, and logits of the fractions.

    Voxels below the threshold and empty layers are dequantized; generated values below it are zero again. CaloINN has
    logarithms of the fractions, too; logits keep every generated shower below the largest possible deposit.

    Args:
        geometry: the voxel mesh with V voxels in L layers.
        flow: density of the coordinates under log10 of the incident energy.
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
        flow: Callable[[int, int], Distribution],
        dequantization: Dequantization,
        threshold: float = 0.01,
        alpha: float = 1e-6,
    ) -> None:
        super().__init__()
        self.transform = LayerwiseTransform(geometry, threshold)
        self.fractions = LayerFractions(alpha)
        dequantization.check(threshold)
        self.dequantization = dequantization
        self.empty_layers = LogUniformDequantization(threshold)
        self.sizes = [geometry.n_voxels, geometry.n_layers]
        self.flow = flow(sum(self.sizes), 1)

    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Fits all statistics on batches of voxels (n, V) and incident energies (n, 1) [MeV]."""
        self.fractions.fit((self._layer_energies(self._cut(voxels))[0], incident) for voxels, incident in batches())
        self.flow.fit(lambda: (self._coordinates(*batch)[:2] for batch in batches()))

    def log_prob(self, voxels: Tensor, incident_energies: Tensor) -> Tensor:
        """Lower bound of the log-density of voxels (N, V) at incident energies (N, 1) [MeV], shape (N,).

        Zeros count with their probability, other voxels and layers in logarithms of fractions and energies. Fractions
        of unit sum are redundant: the density is that of the coordinates.
        """
        coordinates, context, minus_log_q = self._coordinates(voxels, incident_energies)
        return self.flow.log_prob(coordinates, context) + minus_log_q

    def loss(self, voxels: Tensor, incident_energies: Tensor) -> Tensor:
        """Training loss on voxels (N, V) at incident energies (N, 1) [MeV]."""
        coordinates, context, minus_log_q = self._coordinates(voxels, incident_energies)
        return self.flow.loss(coordinates, context) - minus_log_q.mean()

    def sample(self, noise: Tensor, incident_energies: Tensor) -> Tensor:
        """Turns normal noise (N, noise_dim) at incident energies (N, 1) [MeV] into voxels (N, V) [MeV]."""
        coordinates = self.flow.sample(noise, _context(incident_energies))
        log_fractions, logits = coordinates.split(self.sizes, dim=1)
        layer_energies = self.fractions.inverse(logits, incident_energies)
        return self.transform.inverse(log_fractions.clamp(max=0).exp(), incident_energies, layer_energies)

    def _coordinates(self, voxels: Tensor, incident_energies: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates (N, V + L), their condition (N, 1), and the -log q of all noise (N,)."""
        voxels, context = self._cut(voxels), _context(incident_energies)
        layer_energies, of_layers = self._layer_energies(voxels)
        voxels, of_voxels = self.dequantization(voxels)
        log_fractions = voxels.log() - self.transform.layers.broadcast(layer_energies).log()
        logits = self.fractions(layer_energies, incident_energies)
        log_det = self.fractions.log_det(logits, layer_energies, incident_energies)
        return torch.cat([log_fractions, logits], dim=1), context, of_layers + of_voxels + log_det

    def _cut(self, voxels: Tensor) -> Tensor:
        return torch.where(voxels < self.transform.threshold, torch.zeros_like(voxels), voxels)

    def _layer_energies(self, voxels: Tensor) -> tuple[Tensor, Tensor]:
        """Energies of layers (N, L) with noise in empty ones, and the noise's -log q (N,)."""
        return self.empty_layers(self.transform.layers.sum(voxels))


class JointShowerModel(ShowerModel):
    """p(shower | E) in one piece.

    Args:
        geometry: the voxel mesh.
        density: of the showers.

    References:
        CaloINN (arXiv:2312.09290).
    """

    def __init__(self, geometry: Geometry, density: Callable[[Geometry], JointDensity]) -> None:
        super().__init__(geometry)
        self.density = density(geometry)
        self.noise_blocks = {"joint": self.density.flow.noise_dim}

    @property
    def threshold(self) -> float:
        return self.density.transform.threshold

    def forward(self, noise: Tensor, incident_energies: Tensor) -> Tensor:
        return self.density.sample(noise, incident_energies)


def _context(incident_energies: Tensor) -> Tensor:
    """log10 of the incident energy in GeV."""
    return (incident_energies / 1e3).log10()
