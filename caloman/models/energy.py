"""The energy that each layer receives, p(u | E)."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.flows import BernoulliMask, Distribution
from caloman.models.density import Density
from caloman.preprocessing.dequantization import LogUniformFilling
from caloman.preprocessing.layers import LayerCoordinates, LayerFractions
from caloman.preprocessing.scaling import Standardize
from caloman.showers.geometry import Geometry


class LayerEnergyModel(nn.Module):
    """A flow on coordinates of the layer energies, by default the logits of fractions (CaloFlow's flow I, CaloMan).

    Where there are many layers, take `LayerLogarithms` with a `CopulaFlow`: a fraction moves with all layers behind it,
    and so do the edges of small energies.

    An empty layer would be a spike in the density. With a threshold it is filled, in training, with an energy drawn
    log-uniformly from the decade below the threshold, and a layer that comes out below the threshold is empty. With a
    mask, too, it is decided first which layers have energy, and the flow is conditioned on that (dropout surjection),

        log p(E) >= log p(m) + E_q[log p(v | m) - log q(v)] with the energies v, filled where m = 0.

    Args:
        geometry: the voxel mesh with L layers.
        flow: density of the standardized coordinates under the incident energy, and under the mask if there is one.
        mask: probability that layers have energy, under the incident energy.
        threshold: layers with less energy are empty [MeV]; 0 leaves every layer as the flow gives it.
        max_deposit_ratio: upper bound of E_tot / E_inc.
        alpha: margin of the logit.
        coordinates: of the layer energies, from `max_deposit_ratio` and `alpha`.

    References:
        CaloFlow (arXiv:2106.05285); Cresswell et al., CaloMan (arXiv:2211.15380); Verheyen (arXiv:2205.01697).

    Raises:
        CalomanError: if there is a mask, or the coordinates have no place for empty layers, but no threshold.
    """

    def __init__(
        self,
        geometry: Geometry,
        flow: Callable[[int, int], Distribution],
        threshold: float = 0.0,
        max_deposit_ratio: float = 3.1,
        alpha: float = 1e-6,
        mask: Callable[[int, int], BernoulliMask] | None = None,
        coordinates: Callable[[float, float], LayerCoordinates] = LayerFractions,
    ) -> None:
        super().__init__()
        self.coordinates = coordinates(max_deposit_ratio, alpha)
        if (mask or not self.coordinates.takes_zeros) and not threshold > 0:
            part = "mask" if mask else type(self.coordinates).__name__
            raise CalomanError(f"the {part} of an energy model needs a threshold above 0, below which layers are empty")
        self.threshold = threshold
        self.filling = LogUniformFilling(threshold) if threshold > 0 else None
        self.mask = mask(geometry.n_layers, 1) if mask else None
        n_coordinates = geometry.n_layers + self.coordinates.extra
        self.density = Density(n_coordinates, 1 + (geometry.n_layers if mask else 0), flow, Standardize)
        self.noise_dim = self.density.noise_dim + (self.mask.noise_dim if self.mask else 0)

    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        """Fits the scalings on batches of layer energies (n, L) and incident energies (n, 1) [MeV].

        Raises:
            CalomanError: if a shower deposits more than `max_deposit_ratio` allows.
        """
        self.coordinates.check(batches())
        self.density.fit(lambda: (self._prepare(*batch)[:2] for batch in batches()))

    def log_prob(self, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        """Log-density of the logarithms of layer energies (N, L) at incident energies (N, 1), shape (N,).

        A lower bound where layers are empty; they count with their probability.
        """
        coordinates, context, minus_log_q = self._prepare(layer_energies, incident_energies)
        log_prob = self.density.log_prob(coordinates, context) - self.density.scaling.std.log().sum()  # type: ignore[operator]
        return log_prob + self._log_mask(context) + minus_log_q

    def loss(self, layer_energies: Tensor, incident_energies: Tensor) -> Tensor:
        """What training minimizes: `log_prob` without the terms that no parameter changes."""
        coordinates, context, _ = self._prepare(layer_energies, incident_energies)
        return self.density.loss(coordinates, context) - self._log_mask(context).mean()

    def forward(self, noise: Tensor, incident_energies: Tensor) -> Tensor:
        """Turns normal noise (N, noise_dim) into layer energies (N, L) [MeV] at incident energies (N, 1) [MeV]."""
        context = incident_energies.log10()
        if self.mask:
            noise, mask_noise = noise.split([self.density.noise_dim, self.mask.noise_dim], dim=1)
            context = torch.cat([context, self.mask.sample(mask_noise, context)], dim=1)
        energies = self.coordinates.inverse(self.density.sample(noise, context), incident_energies)
        empty = energies < self.threshold
        if self.mask:
            empty |= context[:, 1:] == 0
        return torch.where(empty, torch.zeros_like(energies), energies)

    def _log_mask(self, context: Tensor) -> Tensor:
        """Logarithm of the probability of the mask in contexts (N, C), shape (N,); 0 without one."""
        return self.mask.log_prob(context[:, 1:], context[:, :1]) if self.mask else context.new_zeros(len(context))

    def _prepare(self, layer_energies: Tensor, incident_energies: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates, their condition (N, C), and what the log-density of log energies has in addition (N,)."""
        context, minus_log_q = incident_energies.log10(), 0.0
        if self.filling:
            has_energy = layer_energies >= self.threshold
            context = torch.cat([context, has_energy.to(context.dtype)], dim=1) if self.mask else context
            layer_energies, minus_log_q = self.filling(torch.where(has_energy, layer_energies, 0.0))
        coordinates = self.coordinates(layer_energies, incident_energies)
        log_det = self.coordinates.log_det(coordinates, layer_energies, incident_energies)
        return coordinates, context, minus_log_q + log_det
