"""Draws of a layer's voxels under the layers before it, held to hits and energies."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.manifold.bins import BinnedSizes, LowHits
from caloman.manifold.coordinates import LEAST_SHARE, Coarse
from caloman.manifold.cores import CoreNet
from caloman.manifold.features import (
    POWERS,
    aligned,
    along,
    brightness,
    first_moments,
    hits_feature,
    shares_feature,
)
from caloman.manifold.heads import HitSizes
from caloman.manifold.sampling import choose_hits, score_hits, share_energy
from caloman.manifold.turns import NEVER, PAIR, Outputs, Places, Turn
from caloman.manifold.zones import Zones, ring_bounds
from caloman.nn.cylinder import CircleNet
from caloman.nn.mlp import zero_linear
from caloman.nn.precision import at_least_float32, is_traced

BEFORE = 3
"""Images of what lies before a layer, see `Past`."""
PARAMETERS = 6
"""Numbers for each voxel: the logit of a hit and the distribution of its size."""


class LayerDraws(nn.Module):
    """The likelihood of the voxels of a layer, and samples of them.

    Voxels are independent hurdles, with sinh-arcsinh-normal logarithms of the sizes of hits (see `HurdleHead`), under
    the number of hits and the energy of each zone. A layer is drawn once for each color. A draw sees the colors before
    it, and draws all others. The colors of a group of rings are those of a checkerboard, and groups follow one another
    from the inside out.

    Args:
        zones: of the layers.
        n_scalars: numbers that the network sees besides those of a turn.
        hidden: channels of the network.
        blocks: its residual blocks.
        directed: those of the numbers that act by the direction in alpha; None for a network that does not know alpha,
            so that turned layers are equally likely.
        unit: energy that the network sees as a number of order one [MeV].
        low: bins of the energies of small hits, whose spectrum may have steps.
        groups: first ring of each group but the innermost.
        cores: whether a draw chooses first where most of its energy lies, see `CoreNet`.

    Raises:
        CalomanError: if the number of bins in alpha is odd, or the groups do not fit.
    """

    hit_logit: Tensor
    log_mean: Tensor
    log_std: Tensor
    cell_alpha: Tensor
    color: Tensor
    is_voxel: Tensor
    places: Tensor
    voxel_zone: Tensor

    def __init__(
        self, zones: Zones, n_scalars: int, hidden: int, blocks: int, directed: slice | None = None, unit: float = 1.0,
        low: LowHits | None = None, groups: Sequence[int] = (), cores: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        n_layers, n_alpha, n_r = zones.grid
        if n_alpha % PAIR:
            raise CalomanError(f"a CoarseManifold needs an even number of bins in alpha, not {n_alpha}")
        self.zones = zones
        bounds = ring_bounds("groups", groups, n_r)
        self.n_colors = PAIR * len(bounds)
        self.group_zones = [  # which have rings in each group
            [zone for zone, (inner, outer) in enumerate(zones.bounds) if inner < end and outer > start]
            for start, end in bounds
        ]
        cell = PAIR * n_r
        n_scalars += 2 * len(zones) + self.n_colors - 1
        self.directed, self.unit, self.low = directed, unit, low
        planes = BEFORE + 2
        n_tilts = 2 * POWERS * (1 + directed.stop - directed.start) + planes * n_r if directed else 0
        self.splits = [PARAMETERS * cell, low.bins if low else 0]
        self.tilt = zero_linear(n_tilts, sum(self.splits)) if n_tilts else None
        n_inputs = planes * cell + n_tilts
        self.net = CircleNet(n_inputs + PAIR * cores, n_scalars, sum(self.splits), hidden, blocks)
        middle = PAIR * torch.arange(n_alpha // PAIR) + PAIR / 2 - torch.arange(2)[:, None]
        # middles of cells in even and odd layers, see `aligned`
        self.register_buffer("cell_alpha", 2 * torch.pi / n_alpha * middle - torch.pi, persistent=False)
        # the origin of the network's outputs, for each ring
        self.register_buffer("hit_logit", torch.zeros(n_layers, n_r))  # over that of the zone
        self.register_buffer("log_mean", torch.zeros(n_layers, n_r))
        self.register_buffer("log_std", torch.ones(n_layers, n_r))
        ring = torch.arange(n_r, device="cpu")
        color = (torch.arange(n_alpha, device="cpu")[:, None] + ring) % PAIR
        color = color + PAIR * torch.searchsorted(torch.tensor(groups, device="cpu"), ring, right=True)
        is_voxel = aligned(zones.is_voxel, torch.arange(n_layers, device="cpu"))
        self.core = CoreNet(n_inputs, n_scalars, hidden, color, is_voxel.any(2)) if cores else None
        self.register_buffer("color", color, persistent=False)
        self.register_buffer("is_voxel", is_voxel, persistent=False)
        self.register_buffer("voxel_zone", zones.ring_zone.repeat(n_alpha), persistent=False)
        layers, alphas, rings = is_voxel.nonzero(as_tuple=True)
        counts = torch.zeros(self.n_colors, n_layers, len(zones), dtype=torch.long, device="cpu")
        where = color[alphas, rings], layers, zones.ring_zone[rings]
        counts.index_put_(where, torch.ones_like(layers), accumulate=True)
        # voxels of each draw in each zone, (D, L, Z)
        self.register_buffer("places", counts.flip(0).cumsum(0).flip(0), persistent=False)

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fits rates of hits and moments of their sizes to sizes (n, L, A, R) over the mean hit of their zone.

        Raises:
            CalomanError: if there are no hits.
        """
        count = 0
        hits, total, squares = (torch.zeros_like(self.log_mean, dtype=torch.float64) for _ in range(3))
        for batch in batches:
            logs = torch.where(batch > 0, batch.double().log(), 0.0)
            count += len(batch)
            hits += (batch > 0).double().sum((0, 2))
            total += logs.sum((0, 2))
            squares += logs.square().sum((0, 2))
        if not hits.any():
            raise CalomanError("all training showers are empty; check their unit, MeV, and the threshold of the model")
        # a hundred pseudo-counts of the average ring steady rings with few hits
        mean_all, square_all = total.sum() / hits.sum(), squares.sum() / hits.sum()
        mean = (total + 100 * mean_all) / (hits + 100)
        self.log_mean.copy_(mean)
        self.log_std.copy_(((squares + 100 * square_all) / (hits + 100) - mean**2).clamp(min=0.01).sqrt())
        voxels = self.zones.is_voxel.sum(1)
        chances = (hits + 1) / (count * voxels + 2)
        rings = zip(self.zones.rings(chances * voxels), self.zones.rings(voxels), strict=True)
        of_zones = [(a.sum(1, keepdim=True) / b.sum(1, keepdim=True)).expand_as(a) for a, b in rings]
        self.hit_logit.copy_((chances.logit() - torch.cat(of_zones, dim=1).logit()).nan_to_num(0))

    def turn(
        self, before: Tensor, scalars: Tensor, layer: Tensor, coarse: Coarse, number: Tensor, own: Tensor,
        energies: Tensor,
    ) -> Turn:  # fmt: skip
        """A draw of layers.

        Args:
            before: images of the energies before them over the unit, shape (M, 3, A, R), see `brightness`.
            scalars: numbers for the network (M, S).
            layer: numbers of the layers (M,).
            coarse: hits and shares of their zones, both (M, Z).
            number: of the draw, shape (M,).
            own: the shapes of the layers (M, A, R), of which a draw sees the colors before it.
            energies: of the layers (M,) [MeV].
        """
        known = own * (self.color < number[:, None, None])
        is_hit = known > 0
        shares = (coarse.shares - self.zones.sum(known)).clamp(min=LEAST_SHARE) * (coarse.shares > 0)
        left = Coarse(coarse.hits - self.zones.sum(is_hit.to(known.dtype)), shares)
        own_images = torch.stack(
            [brightness(known * energies[:, None, None] / self.unit), is_hit.to(known.dtype)], dim=1
        )
        planes = torch.cat([before, own_images], dim=1)
        rest = [hits_feature(left.hits, self.places[number, layer]), shares_feature(left.shares)]
        passed = number[:, None] > torch.arange(self.n_colors - 1, device=number.device)
        scalars = torch.cat([scalars, *rest, passed.to(scalars.dtype)], dim=1)
        return Turn(planes, scalars, layer, left, number, energies)

    def log_prob(self, turn: Turn, own: Tensor, kept: bool = False) -> Tensor:
        """Log-likelihood of the drawn voxels of layers with shapes (M, A, R), shape (M,).

        Args:
            turn: what is known.
            own: the shapes.
            kept: without the voxels that a later draw replaces.
        """
        inputs, core, chance = self._inputs(turn), None, torch.zeros_like(turn.energies)
        if self.core:
            core = self.core.of(own, turn.number)
            chance = self.core.log_prob(core, inputs, turn)
        outputs = self.outputs(turn, inputs, core)
        is_hit, number = own > 0, turn.number[:, None, None]
        drawn = self.color == number if kept else self.color >= number
        # what the numbers of hits decide is no choice, and a single hit has all the energy
        free_places = self.places[turn.number, turn.layer] - turn.left.hits
        is_open = drawn & self.zones.broadcast((free_places > 0) & (turn.left.hits > 0))
        choice = -F.softplus(torch.where(is_hit, -outputs.logits, outputs.logits)) * is_open
        at = self._at(is_hit & drawn & self.zones.broadcast(turn.left.hits > 1))
        relative = own.flatten()[at.voxel] / turn.mean.flatten()[at.zone].clamp(min=1e-30)
        sizes = self._sizes(turn, outputs, at).log_prob(relative.log())
        return choice.sum((-2, -1)).index_add(0, at.row, sizes) + chance

    def draw(self, turn: Turn, odds: Tensor, number: int, core: Tensor) -> Tensor:
        """Shapes (N, A, R) of the voxels of a draw, and zeros in the colors before it.

        Args:
            turn: what is known.
            odds: log-odds of uniform numbers (N, A, R).
            number: of the draw.
            core: uniform numbers (N, 1) for the choice of the core, if there is one.
        """
        if is_traced():  # a graph has fixed shapes
            return self._draw(turn, odds, number, core)
        rows = turn.left.hits[:, self.group_zones[number // PAIR]].sum(1).nonzero().squeeze(1)
        return torch.zeros_like(odds).index_copy(0, rows, self._draw(turn.at(rows), odds[rows], number, core[rows]))

    def _draw(self, turn: Turn, odds: Tensor, number: int, core: Tensor) -> Tensor:
        """The same, with the network for all layers and not only for those with hits to draw."""
        inputs = self._inputs(turn)
        outputs = self.outputs(turn, inputs, self.core.draw(core, inputs, turn) if self.core else None)
        if number:
            outputs = outputs._replace(logits=torch.where(self.color >= number, outputs.logits, NEVER))
        is_hit, limit = self._choose_hits(outputs.logits, odds, turn.left.hits, self.group_zones[number // PAIR])
        if not is_traced():
            return self._draw_sizes(turn, outputs, odds, is_hit, limit)
        sizes = share_energy(
            self._all_sizes(turn, outputs), score_hits(outputs.logits, odds, self.zones.broadcast(limit)), is_hit,
            lambda values: self.zones.broadcast(self.zones.sum(values)).expand_as(values),
        )  # fmt: skip
        return sizes * self.zones.broadcast(turn.mean)

    def _choose_hits(self, logits: Tensor, odds: Tensor, hits: Tensor, zones: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Hits (M, A, R) in some zones, and ranks (M, Z) of the first voxels left out, see `choose_hits`."""
        parts, limits = self.zones.split(torch.zeros_like(odds, dtype=torch.bool)), [*torch.zeros_like(hits).unbind(1)]
        logits_of, odds_of = self.zones.split(logits), self.zones.split(odds)
        for zone in zones:
            parts[zone], limits[zone] = choose_hits(logits_of[zone], odds_of[zone], hits[:, zone])
        return self.zones.join(parts), torch.stack(limits, dim=1)

    def _draw_sizes(self, turn: Turn, outputs: Outputs, odds: Tensor, is_hit: Tensor, limit: Tensor) -> Tensor:
        """Sizes of the hits only, a tenth of all voxels."""
        at = self._at(is_hit)
        logit, odd = (values.flatten().index_select(0, at.voxel) for values in (outputs.logits, odds))

        def add(values: Tensor) -> Tensor:
            return torch.zeros_like(limit).flatten().index_add(0, at.zone, values).index_select(0, at.zone)

        scores = score_hits(logit, odd, limit.flatten().index_select(0, at.zone))
        sizes = share_energy(self._sizes(turn, outputs, at), scores, torch.ones_like(scores, dtype=torch.bool), add)
        sizes = sizes * turn.mean.flatten().index_select(0, at.zone)
        return torch.zeros_like(odds).flatten().index_copy(0, at.voxel, sizes).view_as(odds)

    def _at(self, chosen: Tensor) -> Places:
        """The voxels that are chosen in (M, A, R)."""
        place = chosen.flatten().nonzero().squeeze(1)
        row, voxel = place // self.color.numel(), place % self.color.numel()
        zone = row * len(self.zones) + self.voxel_zone[voxel]
        return Places(place, row, zone, row * self.zones.grid[2] + voxel % self.zones.grid[2])

    def _sizes(self, turn: Turn, outputs: Outputs, at: Places) -> HitSizes | BinnedSizes:
        """Distributions of the sizes of some hits over the mean hit of their zones."""
        alpha, ring = at.voxel // self.zones.grid[2] % self.zones.grid[1], at.voxel % self.zones.grid[2]
        numbers = outputs.sizes[at.row, alpha // PAIR, :, alpha % PAIR, ring].T.contiguous()
        moments = (values.flatten().index_select(0, at.ring) for values in self._moments(turn))
        sizes = HitSizes.of(numbers.unbind(0), *moments)
        if self.low is None:
            return sizes
        bins = outputs.bins[at.row, alpha // PAIR].T + self.low(ring)
        return self.low.sizes(bins, sizes, turn.log_unit.flatten().index_select(0, at.zone))

    def _all_sizes(self, turn: Turn, outputs: Outputs) -> HitSizes | BinnedSizes:
        """Those of all voxels (M, A, R)."""
        numbers = outputs.sizes.permute(2, 0, 1, 3, 4).flatten(2, 3)
        sizes = HitSizes.of(numbers.unbind(0), *self._moments(turn))
        if self.low is None:
            return sizes
        bins = outputs.bins.repeat_interleave(PAIR, 1).movedim(2, 0).unsqueeze(3) + self.low.rings[:, None, None]
        return self.low.sizes(bins, sizes, self.zones.broadcast(turn.log_unit).expand_as(numbers[0]))

    def _inputs(self, turn: Turn) -> Tensor:
        """What networks see of each cell (M, cells, inputs); directions and first moments last."""
        cells = turn.planes.unflatten(2, (-1, PAIR)).permute(0, 2, 1, 3, 4).flatten(2)
        if self.tilt is None:
            return cells
        depth = turn.layer / max(self.zones.grid[0] - 1, 1)
        directions = along(self.cell_alpha[turn.layer % 2], depth, turn.scalars[:, self.directed])
        return torch.cat([cells, directions, first_moments(turn.planes)], dim=2)

    def outputs(self, turn: Turn, inputs: Tensor, core: Tensor | None) -> Outputs:
        """What the network says of inputs (M, cells, inputs), under a core (M, A) if there are cores."""
        seen = inputs if core is None else torch.cat([inputs, core.unflatten(1, (-1, PAIR))], dim=2)
        outputs = self.net(seen, turn.scalars)
        if self.tilt is not None:  # directly as well: weak effects, which a deep network takes long to find
            outputs = outputs + self.tilt(inputs[:, :, -self.tilt.in_features :])
        numbers, bins = at_least_float32(outputs).split(self.splits, dim=2)
        numbers = numbers.unflatten(2, (PARAMETERS, PAIR, -1))
        prior = hits_feature(turn.left.hits, self.places[turn.number, turn.layer])
        logits = numbers[:, :, 0].flatten(1, 2) + self.hit_logit[turn.layer].unsqueeze(1) + self.zones.broadcast(prior)
        if not self.zones.is_regular:
            logits = torch.where(self.is_voxel[turn.layer], logits, NEVER)
        return Outputs(logits, numbers[:, :, 1:], bins)

    def _moments(self, turn: Turn) -> list[Tensor]:
        return [values[turn.layer].unsqueeze(1) for values in (self.log_mean, self.log_std)]
