"""The density of the coordinates of a `CoarseManifold`, with conditioners that see what the coordinates mean."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from caloman.errors import CalomanError
from caloman.flows.sequence import SequenceFlow
from caloman.manifold.coordinates import beyond, counted
from caloman.manifold.features import hits_feature
from caloman.manifold.zones import Zones
from caloman.preprocessing.scaling import Standardize
from caloman.preprocessing.showers import layer_energy

FAINTEST = 1e-5
"""Mean hit that conditioners see, and less than any energy of a layer [MeV]."""


class CoarseDensity(SequenceFlow):
    """A `SequenceFlow` of coarse coordinates, from layer to layer: first the hits of the zones, then their energies.

    Coordinates have noise in them where there is nothing to say, and where hits are dequantized. Conditioners see none
    of it. They see hits, mean energies of hits, and the energy that is left for the zones beyond. Energies become
    those of a mean hit: what is modeled is the ratio of a zone's mean hit to that of the zones beyond.

    Args:
        features: number of coordinates, (2 Z - 1) L in L layers of Z zones.
        context: size of the condition: the incident energy, the energies of L layers, then all else.
        steps: L.
        window: number of layers on each side that are seen.
        hidden: width of the conditioners.
        blocks: residual blocks of each conditioner.
        bins: pieces of the splines.
        bound: half the side of the box of the splines, in standard deviations.
    """

    capacity: Tensor

    def __init__(
        self, features: int, context: int, steps: int, window: int = 3, hidden: int = 64, blocks: int = 1,
        bins: int = 8, bound: float = 5.0,
    ) -> None:  # fmt: skip
        super().__init__(features, context, steps, window, hidden, blocks, bins, bound)
        self.scaling, self.context_scaling = Standardize(features), Standardize(context)
        self.register_buffer("capacity", torch.zeros(steps, self.n_zones), persistent=False)

    @property
    def n_zones(self) -> int:
        """Zones Z of a layer."""
        return (self.channels + 1) // 2

    def hold_to(self, zones: Zones) -> None:
        """Says how many voxels the zones have.

        Raises:
            CalomanError: if there are other layers or other zones.
        """
        if (self.steps, self.channels) != (zones.grid[0], 2 * len(zones) - 1):
            raise CalomanError(f"steps = {self.steps} of a CoarseDensity, but the mesh has {zones.grid[0]} layers")
        self.capacity.copy_(zones.capacity)

    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:  # type: ignore[override]
        if not self.capacity.any():
            raise CalomanError("a CoarseDensity needs the coordinates of a CoarseManifold; take a Density for others")
        self.scaling.fit(self._per_hit(*batch) for batch in batches())
        self.context_scaling.fit(context for _, context in batches())

    def log_prob(self, inputs: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        values = self._per_hit(inputs, context)
        return super().log_prob(self.scaling(values), self.context_scaling(context)) + self.scaling.log_det(values)

    def sample(self, noise: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        values = self.scaling.inverse(super().sample(noise, self.context_scaling(context)))
        return self._per_hit(values, context, back=True)

    def view_sizes(self) -> list[int]:
        return [2] * (self.n_zones - 1) + [3] + [4] * (self.n_zones - 1)

    def beside(self, context: Tensor) -> Tensor:  # type: ignore[override]
        return self._energies(self.context_scaling.inverse(context))

    def view(self, values: Tensor, step: int | slice, beside: Tensor) -> Tensor:  # type: ignore[override]
        energies, known, n_zones = beside[:, step], values.shape[-1], self.n_zones
        coordinates = values * self._by_layer(self.scaling.std)[step, :known]
        coordinates = coordinates + self._by_layer(self.scaling.mean)[step, :known]
        capacity = self.capacity[step]
        if known > n_zones:
            hits = _hits(coordinates[..., :n_zones], capacity, energies)
            return self._energy_view(values[..., -1], hits, coordinates[..., n_zones:], energies)
        first = 0 if known == n_zones else known - 1  # the last zone shows the mean of all hits, too
        hits, capacity = _hits(coordinates[..., first:], capacity[..., first:known], energies), capacity[..., known - 1]
        odds = hits_feature(hits[..., -1], capacity) * (capacity > 0)
        means = [_mean_hit(energies, hits.sum(-1))] if known == n_zones else []
        return torch.stack([odds, (hits[..., -1] > 0).to(odds), *means], dim=-1)

    def _energy_view(self, value: Tensor, hits: Tensor, ratios: Tensor, energies: Tensor) -> Tensor:
        """Of the last of the first c zones (..., 4), from its value, hits (..., Z) and ratios of mean hits (..., c)."""
        own, others = hits[..., : ratios.shape[-1]], beyond(hits)[..., : ratios.shape[-1]]
        parts = torch.where(others > 0, (ratios + _relative(own, others)).sigmoid(), 1.0) * (own > 0)
        left = energies * (1 - F.pad(parts[..., :-1], (1, 0))).prod(-1)  # ONNX has no product of nothing
        own, others, part = own[..., -1], others[..., -1], parts[..., -1]
        is_real = ((own > 0) & (others > 0)).to(value)
        means = _mean_hit(left * part, own), _mean_hit(left * (1 - part), others)
        return torch.stack([value * is_real, is_real, *means], dim=-1)

    def _energies(self, context: Tensor) -> Tensor:
        return layer_energy(context[:, 1 : 1 + self.steps])

    def _by_layer(self, statistic: Tensor) -> Tensor:
        return statistic.unflatten(0, (self.channels, self.steps)).T

    def _per_hit(self, coordinates: Tensor, context: Tensor, back: bool = False) -> Tensor:
        """Coordinates (N, features) with ratios of energies over those of hits, where a zone and others have any."""
        numbers = coordinates.unflatten(1, (self.channels, self.steps)).transpose(1, 2)
        logits, ratios = numbers.split([self.n_zones, self.n_zones - 1], dim=-1)
        hits = _hits(logits, self.capacity, self._energies(context))
        shift = _relative(hits[..., :-1], beyond(hits))
        return torch.cat([logits, ratios + shift if back else ratios - shift], dim=-1).transpose(1, 2).flatten(1)


def _hits(logits: Tensor, capacity: Tensor, energies: Tensor) -> Tensor:
    """Hits (..., Z) from their coordinates; none in layers without energy (...)."""
    return counted(logits, capacity) * (energies > FAINTEST).unsqueeze(-1)


def _relative(hits: Tensor, others: Tensor) -> Tensor:
    """Logarithm of the ratio of hits to others, and 0 where one of them is 0."""
    return torch.where((hits > 0) & (others > 0), hits.clamp(min=1).log() - others.clamp(min=1).log(), 0.0)


def _mean_hit(energies: Tensor, hits: Tensor) -> Tensor:
    """A number of order one for the mean energy of hits [MeV], and 0 if there is none."""
    return torch.where(hits > 0, (energies / hits.clamp(min=1)).clamp(min=FAINTEST).log() / 2, 0.0)
