"""The energy that each layer receives, p(u | E)."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.flows import Distribution
from caloman.geometry import Geometry
from caloman.models.density import Density
from caloman.preprocessing.layers import LayerFractions
from caloman.preprocessing.scaling import Standardise


class LayerEnergyModel(nn.Module):
    """A flow on the logits of the layer fractions (CaloFlow's flow I, CaloMan's energy-per-layer flow).

    An empty layer would be a spike in the density. With a threshold it is filled, in training, with an energy drawn
    log-uniformly from the decade below the threshold, and a layer that comes out below the threshold is empty.

    Args:
        geometry: the voxel mesh with L layers.
        flow: density of the standardised logits under the incident energy.
        threshold: layers with less energy are empty [MeV]; 0 leaves every layer as the flow gives it.
        max_deposit_ratio: upper bound of E_tot / E_inc.
        alpha: margin of the logit.

    References:
        CaloFlow (arXiv:2106.05285); Cresswell et al., CaloMan (arXiv:2211.15380).
    """

    def __init__(
        self,
        geometry: Geometry,
        flow: Callable[[int, int], Distribution],
        threshold: float = 0.0,
        max_deposit_ratio: float = 3.1,
        alpha: float = 1e-6,
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.fractions = LayerFractions(max_deposit_ratio, alpha)
        self.density = Density(geometry.n_layers, 1, flow, Standardise)
        self.noise_dim = self.density.noise_dim

    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Fits the scalings on batches of layer energies (n, L) and incident energies (n, 1) [MeV].

        Raises:
            CalomanError: if a shower deposits more than `max_deposit_ratio` allows.
        """
        largest = max(float((layers.sum(1, keepdim=True) / incident).max()) for layers, incident in batches())
        if largest >= self.fractions.max_deposit_ratio:
            raise CalomanError(
                f"max_deposit_ratio = {self.fractions.max_deposit_ratio} of the energy model is not above the largest "
                f"E_tot / E_inc of the training data, {largest:.3f}; raise it"
            )
        self.density.fit(lambda: (self._coordinates(*batch) for batch in batches()))

    def log_prob(self, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        """Log-density of the scaled logits of layer energies (N, L) at incident energies (N, 1), shape (N,)."""
        return self.density.log_prob(*self._coordinates(layer_energies, incident_energies))

    def forward(self, noise: Tensor, incident_energies: Tensor) -> Tensor:
        """Turns normal noise (N, noise_dim) into layer energies (N, L) [MeV] at incident energies (N, 1) [MeV]."""
        logits = self.density.sample(noise, incident_energies.log10())
        energies = self.fractions.inverse(logits, incident_energies)
        return torch.where(energies < self.threshold, torch.zeros_like(energies), energies)

    def _coordinates(self, layer_energies: Tensor, incident_energies: Tensor) -> tuple[Tensor, Tensor]:
        if self.threshold > 0:
            filling = self.threshold * 10 ** -torch.rand_like(layer_energies)
            layer_energies = torch.where(layer_energies < self.threshold, filling, layer_energies)
        return self.fractions(layer_energies, incident_energies), incident_energies.log10()
