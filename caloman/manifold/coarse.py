"""A manifold of coordinates that are fixed by construction, and a decoder from layer to layer."""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caloman.errors import CalomanError
from caloman.flows.distribution import Distribution
from caloman.manifold.autoencoder import Manifold
from caloman.manifold.bins import LowHits
from caloman.manifold.coarse_density import CoarseDensity
from caloman.manifold.coordinates import Coarse, CoarseCoordinates
from caloman.manifold.draws import LayerDraws
from caloman.manifold.features import aligned, brightness, hits_feature, shares_feature
from caloman.manifold.heads import upper_tail
from caloman.manifold.past import Past
from caloman.manifold.sampling import log_odds
from caloman.manifold.zones import Zones
from caloman.nn.precision import at_least_float32
from caloman.preprocessing.scaling import Standardize
from caloman.preprocessing.showers import layer_energy
from caloman.showers.geometry import Geometry


class CoarseManifold(Manifold):
    """Hits and shares of energy in zones of each layer, and a decoder that is held to them.

    The coordinates of a shower cannot be ignored: they are functions of it, and the decoder gives a zone exactly its
    hits and its energy. It goes from layer to layer, with the layers before as input. All voxels of a layer are drawn
    at first, and those of one color of a checkerboard in alpha and r are kept. The others are drawn anew: that second
    draw sees the first color, and the hits and the energy that it left. With groups of rings, each has two draws that
    see the groups further in.

    Args:
        geometry: the mesh with V voxels in L layers. Those with more than one bin in alpha have equally many.
        context: size of the condition: the incident energy, the energies of L layers, then all else.
        zones: first ring of each zone but the innermost.
        hidden: channels of the decoder.
        blocks: residual blocks of the decoder.
        directions: whether the decoder knows alpha and first moments in alpha, for particles that come from one side.
        unit: energy that the decoder sees as a number of order one [MeV], about that of a bright voxel.
        bins: of the energies of hits below an energy. Their chances are numbers of the decoder, so that the spectrum
            may have steps. Shapes have to be parts of the energies of layers then, see `LayerwiseTransform`.
        below: that energy [MeV].
        groups: first ring of each group of rings but the innermost.
        cores: whether each draw of a layer chooses first the bin in alpha with most of its energy.

    References:
        SuperCalo (arXiv:2308.11700) for coarse energies and what is below them.

    Raises:
        CalomanError: if bins in alpha differ or are odd, or if the zones do not fit.
    """

    def __init__(
        self, geometry: Geometry, context: int, zones: Sequence[int] = (1,), hidden: int = 64, blocks: int = 2,
        directions: bool = False, unit: float = 1.0, bins: int = 0, below: float = 10.0,
        groups: Sequence[int] = (), cores: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.zones = Zones(geometry, zones)
        self.n_layers = geometry.n_layers
        self.coordinates = CoarseCoordinates(self.zones)
        self.latent_dim = self.coordinates.features
        self.context_scaling = Standardize(context)
        n_scalars = 3 * (1 + 2 * len(self.zones)) + context
        self.unit = unit
        further = n_scalars - context + 1  # place of the conditions beside the energy, see `_scalars`
        directed = slice(further, further + context - 1 - self.n_layers) if directions else None
        low = LowHits(bins, below, self.zones.grid[2]) if bins else None
        self.draws = LayerDraws(self.zones, n_scalars, hidden, blocks, directed, unit, low, groups, cores)
        self.n_voxel_noises = self.draws.n_colors * geometry.n_voxels
        self.noise_dim = self.n_voxel_noises + (self.draws.n_colors * self.n_layers if cores else 0)
        self.past = Past(geometry, self.zones.grid)

    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:
        self.context_scaling.fit(context for _, context in batches())
        self.draws.fit(self._relative(shapes) for shapes, _ in batches())
        if self.draws.low:
            self.draws.low.fit(self._energies(*batch) for batch in batches())

    def density(self, make: Callable[[int, int], Distribution], context: int) -> Distribution:
        density = super().density(make, context)
        if isinstance(density, CoarseDensity):
            density.hold_to(self.zones)
        return density

    def _relative(self, shapes: Tensor) -> Tensor:
        """Shapes (N, V) over the mean hit of their zones, (N, L, A, R)."""
        images, coarse = self._unit_sums(shapes), self.coordinates.measure(shapes)
        return images / self.zones.broadcast(coarse.shares / coarse.hits.clamp(min=1)).clamp(min=1e-30)

    def _energies(self, shapes: Tensor, context: Tensor) -> Tensor:
        """Energies (N, L, A, R) [MeV] of the voxels of shapes (N, V)."""
        return self._unit_sums(shapes) * self._layer_energies(context)[..., None, None]

    def encode(self, shapes: Tensor, context: Tensor, noise: Tensor | None = None) -> Tensor:
        noise = shapes.new_zeros(len(shapes), self.latent_dim) if noise is None else noise
        return self.coordinates(self.coordinates.measure(shapes), noise)

    def to_noise(self, latents: Tensor, context: Tensor, shapes: Tensor) -> Tensor:
        raise CalomanError("a CoarseManifold has no residual; take it out of the shape model")

    def loss(self, shapes: Tensor, context: Tensor) -> dict[str, Tensor]:
        n_colors, device = self.draws.n_colors, shapes.device
        if self.training:
            number = torch.randint(n_colors, (len(shapes), self.n_layers), device=device)
        else:  # epochs compare by the same draws
            number = torch.arange(len(shapes), device=device)[:, None] + torch.arange(self.n_layers, device=device)
            number = number % n_colors
        likelihood = n_colors * self._log_prob(shapes, context, number).mean()
        return {"loss": -likelihood, "log_likelihood": likelihood}

    def log_likelihood(self, latents: Tensor, context: Tensor, shapes: Tensor) -> Tensor:
        number = torch.zeros(len(shapes), self.n_layers, dtype=torch.long, device=shapes.device)
        draws = [self._log_prob(shapes, context, number + i, kept=True) for i in range(self.draws.n_colors)]
        return torch.stack(draws).sum(0)

    def _log_prob(self, shapes: Tensor, context: Tensor, number: Tensor, kept: bool = False) -> Tensor:
        """Log-likelihood (N,) of a draw of each layer, of the number in (N, L), with hits and shares given."""
        coarse, images = self.coordinates.measure(shapes), self._unit_sums(shapes)
        energies = self._layer_energies(context)
        row, layer = (coarse.hits.sum(-1) > 0).nonzero(as_tuple=True)
        before = brightness(self.past.of_all(images * energies[..., None, None])[row, layer] / self.unit)
        own = aligned(images[row, layer], layer)
        turn = self.draws.turn(
            aligned(before, layer), self._scalars(coarse, context)[row, layer], layer,
            Coarse(*(part[row, layer] for part in coarse)), number[row, layer], own, energies[row, layer],
        )  # fmt: skip
        return torch.zeros_like(energies[:, 0]).index_add(0, row, self.draws.log_prob(turn, own, kept))

    def decode(self, latents: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        energies = self._layer_energies(context)
        coarse = self.coordinates.inverse(latents, energies > 0)
        scalars = self._scalars(coarse, context)
        of_voxels, of_cores = noise.split([self.n_voxel_noises, self.noise_dim - self.n_voxel_noises], dim=1)
        noises = self.zones.draws(log_odds(at_least_float32(of_voxels)), self.draws.n_colors)
        cores = upper_tail(at_least_float32(of_cores))  # layer after layer; none without cores
        past = self.past.nothing(scalars)
        images = []
        for layer, odds in enumerate(noises):
            numbers = torch.full_like(latents[:, 0], layer, dtype=torch.long)
            before = brightness(aligned(past, numbers) / self.unit)
            drawn = torch.zeros_like(past[:, 0])
            own = Coarse(*(part[:, layer] for part in coarse))
            for draw in range(self.draws.n_colors):
                number = torch.full_like(numbers, draw)
                turn = self.draws.turn(before, scalars[:, layer], numbers, own, number, drawn, energies[:, layer])
                place = self.draws.n_colors * layer + draw
                new = self.draws.draw(turn, odds[:, draw], draw, cores[:, place : place + 1])
                drawn = torch.where(self.draws.color >= draw, new, drawn) if draw else new
            images.append(aligned(drawn, numbers, back=True))
            past = self.past(past, images[-1] * energies[:, layer, None, None], layer)
        return self.zones.voxels(torch.stack(images, dim=1))

    def _unit_sums(self, shapes: Tensor) -> Tensor:
        """Shapes (N, V) with a sum of one in each layer with hits, (N, L, A, R)."""
        images = self.zones.images(shapes)
        return images / images.sum((-2, -1), keepdim=True).clamp(min=1e-30)

    def _layer_energies(self, context: Tensor) -> Tensor:
        return layer_energy(context[:, 1 : 1 + self.n_layers])

    def _scalars(self, coarse: Coarse, context: Tensor) -> Tensor:
        """Numbers of each layer, of its neighbors and of the shower (N, L, S)."""
        energies = brightness(self._layer_energies(context) / self.unit).unsqueeze(-1)
        hits, shares = hits_feature(coarse.hits, self.zones.capacity), shares_feature(coarse.shares)
        layers = torch.cat([energies, hits, shares], dim=-1)
        padded = F.pad(layers, (0, 0, 1, 1))
        scaled = self.context_scaling(context)
        conditions = torch.cat([scaled[:, :1], scaled[:, 1 + self.n_layers :]], dim=1)
        conditions = conditions.unsqueeze(1).expand(-1, self.n_layers, -1)
        numbers = torch.eye(self.n_layers, dtype=layers.dtype, device=layers.device).expand(layers.shape[0], -1, -1)
        return torch.cat([padded[:, :-2], layers, padded[:, 2:], conditions, numbers], dim=-1)
