"""The energy that each layer receives, p(u | conditions)."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.flows import Distribution
from caloman.models.density import Density
from caloman.preprocessing.conditions import ConditionEncoding
from caloman.preprocessing.dequantization import LogUniformDequantization
from caloman.preprocessing.layers import LayerCoordinates, LayerFractions
from caloman.preprocessing.scaling import Standardize
from caloman.showers.conditions import Conditions
from caloman.showers.geometry import Geometry


class LayerEnergyModel(nn.Module):
    """A flow on coordinates of the layer energies, by default the logits of fractions (CaloFlow's flow I, CaloMan).

    Where there are many layers, take `LayerLogarithms` with a `CopulaFlow`: a fraction moves with all layers behind it,
    and so do the edges of small energies.

    An empty layer would be a spike in the density. With a threshold, training gives it an energy drawn log-uniformly
    from the decade below the threshold (dequantization), and a generated layer below the threshold is empty.

    Args:
        geometry: the voxel mesh with L layers.
        conditions: of the generator, C of them.
        flow: density of the standardized coordinates under the conditions.
        threshold: layers with less energy are empty [MeV]; 0 leaves every layer as the flow gives it.
        alpha: margin of the logit.
        coordinates: of the layer energies, from L and `alpha`.

    References:
        CaloFlow (arXiv:2106.05285); Cresswell et al., CaloMan (arXiv:2211.15380).

    Raises:
        CalomanError: if the coordinates have no place for empty layers and there is no threshold.
    """

    def __init__(
        self,
        geometry: Geometry,
        conditions: Conditions,
        flow: Callable[[int, int], Distribution],
        threshold: float = 0.0,
        alpha: float = 1e-6,
        coordinates: Callable[[int, float], LayerCoordinates] = LayerFractions,
    ) -> None:
        super().__init__()
        self.coordinates = coordinates(geometry.n_layers, alpha)
        if not (self.coordinates.takes_zeros or threshold > 0):
            raise CalomanError(
                f"the {type(self.coordinates).__name__} of an energy model needs a threshold above 0, below which "
                "layers are empty"
            )
        self.threshold = threshold
        self.dequantization = LogUniformDequantization(threshold) if threshold > 0 else None
        self.encoding = ConditionEncoding(conditions)
        context = 1 + self.encoding.size
        self.density = Density(geometry.n_layers + self.coordinates.extra, context, flow, Standardize)
        self.noise_dim = self.density.noise_dim

    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Fits all statistics on batches of layer energies (n, L) [MeV] and conditions (n, C)."""
        self.coordinates.fit((self._dequantized(layers)[0], conditions[:, :1]) for layers, conditions in batches())
        self.density.fit(lambda: (self._prepare(*batch)[:2] for batch in batches()))

    def log_prob(self, layer_energies: Tensor, conditions: Tensor) -> Tensor:
        """Log-density of the logarithms of layer energies (N, L) under conditions (N, C), shape (N,).

        Empty layers count with their probability. While training it is a random lower bound where layers are empty.
        """
        coordinates, context, minus_log_q = self._prepare(layer_energies, conditions)
        return self.density.log_prob(coordinates, context) + minus_log_q

    def loss(self, layer_energies: Tensor, conditions: Tensor) -> Tensor:
        """What training minimizes: `log_prob` without the terms that no parameter changes."""
        coordinates, context, _ = self._prepare(layer_energies, conditions)
        return self.density.loss(coordinates, context)

    def forward(self, noise: Tensor, conditions: Tensor) -> Tensor:
        """Turns normal noise (N, noise_dim) into layer energies (N, L) [MeV] under conditions (N, C)."""
        coordinates = self.density.sample(noise, self._context(conditions))
        energies = self.coordinates.inverse(coordinates, conditions[:, :1])
        return torch.where(energies < self.threshold, 0.0, energies)

    def _context(self, conditions: Tensor) -> Tensor:
        return self.encoding.extend(conditions[:, :1].log10(), conditions)

    def _prepare(self, layer_energies: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates, their context, and what the log-density of log energies has in addition (N,)."""
        layer_energies, minus_log_q = self._dequantized(layer_energies)
        incident_energies = conditions[:, :1]
        coordinates = self.coordinates(layer_energies, incident_energies)
        log_det = self.coordinates.log_det(coordinates, layer_energies, incident_energies)
        return coordinates, self._context(conditions), minus_log_q + log_det

    def _dequantized(self, layer_energies: Tensor) -> tuple[Tensor, Tensor]:
        """Layer energies (N, L), noise in empty ones if there is a threshold, and the noise's -log q (N,)."""
        if not self.dequantization:
            return layer_energies, layer_energies.new_zeros(len(layer_energies))
        energies = torch.where(layer_energies < self.threshold, 0.0, layer_energies)
        return self.dequantization(energies, random=self.training)
