"""The shape of a shower layer by layer, p(shape_l | shapes before, layer energies, E).

References:
    iCaloFlow (arXiv:2305.11934); L2LFlows (arXiv:2302.11594, arXiv:2405.20407).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.flows import Distribution
from caloman.models.density import Density
from caloman.preprocessing.scaling import Logit, MaxAbs, Scaling
from caloman.preprocessing.showers import layer_energy
from caloman.rivals.direct import FlowShape
from caloman.rivals.planes import PlaneEmbedding
from caloman.showers.geometry import Geometry


class LayerwiseFlow(Distribution):
    """A density of all voxels, as the product of those of the layers given the layers before.

    Layer l is conditioned on the incident energy and the other conditions, on its own energy, and on energies and
    voxels of up to `previous` layers before it; a flow for several layers also on the number of the layer.

    Args:
        geometry: the voxel mesh with V voxels in L layers.
        context: size of the condition: the incident energy, the L layer energies on the same scale, and what follows.
        flow: density of the voxels of one layer.
        rescale: scales voxels (N, D) of a layer to its energy in the condition (N, 1), as input of later layers.
        previous: as all that follow, see `LayerwiseShape`.

    Raises:
        CalomanError: if the layers differ where they must be alike, or the condition lacks the layer energies.
    """

    def __init__(
        self,
        geometry: Geometry,
        context: int,
        flow: Callable[[int, int], Distribution],
        rescale: Callable[[Tensor, Tensor], Tensor],
        previous: int = 1,
        share_weights: bool = True,
        embedding: int = 0,
        subsample: float = 1.0,
    ) -> None:
        plane = (geometry.layers[0].n_alpha, geometry.layers[0].n_r)
        if (share_weights or embedding) and geometry.grid is None:
            raise CalomanError(
                f"the layers of geometry {geometry.name!r} differ in their bins; give each its flow and leave their "
                "voxels as they are, with share_weights: false and embedding: 0"
            )
        n_further = context - 1 - geometry.n_layers
        if n_further < 0:
            raise CalomanError("a layer-wise flow is conditioned on layer energies; use it with a LayerwiseTransform")
        n_layers, sizes = geometry.n_layers, geometry.layer_sizes
        n_flows = min(1 + previous, n_layers) if share_weights else n_layers
        self.sizes, self.previous, self.subsample, self.rescale = sizes, previous, subsample, rescale
        self.groups = [[layer] for layer in range(n_flows - 1)] + [list(range(n_flows - 1, n_layers))]
        flows: list[Distribution] = []
        embeddings: list[nn.Module] = []
        for group in self.groups:
            before = sizes[max(0, group[0] - previous) : group[0]]
            numbers = 2 + len(before) + n_further + (len(group) if len(group) > 1 else 0)
            if embedding:
                embeddings.append(PlaneEmbedding(numbers, len(before), plane, embedding))
                flows.append(flow(sizes[group[0]], embedding * sizes[group[0]]))
            else:
                embeddings.append(nn.Identity())
                flows.append(flow(sizes[group[0]], numbers + sum(before)))
        self.noise_sizes = [flow.noise_dim for flow, group in zip(flows, self.groups, strict=True) for _ in group]
        super().__init__(geometry.n_voxels, sum(self.noise_sizes))
        self.flows, self.embeddings = nn.ModuleList(flows), nn.ModuleList(embeddings)

    def log_prob(self, inputs: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        total = inputs.new_zeros(len(inputs))
        for index, flow in enumerate(self.flows):
            log_prob = flow.log_prob(*self._pairs(index, inputs, context))  # type: ignore[operator]
            total = total + log_prob.unflatten(0, (-1, len(inputs))).sum(dim=0)
        return total

    def loss(self, inputs: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        subsample = self.subsample if self.training else 1.0
        losses = [
            len(group) * flow.loss(*self._pairs(index, inputs, context, subsample))  # type: ignore[operator]
            for index, (group, flow) in enumerate(zip(self.groups, self.flows, strict=True))
        ]
        return torch.stack(losses).sum()

    def sample(self, noise: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        layers: list[Tensor] = []
        parts = iter(noise.split(self.noise_sizes, dim=1))
        for group, flow, embedding in zip(self.groups, self.flows, self.embeddings, strict=True):
            for layer in group:
                condition = embedding(self._condition(group, layer, layers, context))
                layers.append(flow.sample(next(parts), condition))  # type: ignore[operator]
        return torch.cat(layers, dim=1)

    def fit(self, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> None:  # type: ignore[override]
        for index, flow in enumerate(self.flows):
            # one batch after the other: all pairs of a large file would not fit into memory
            flow.fit(lambda index=index: (self._pairs(index, x, c, self.subsample) for x, c in batches()))  # type: ignore[operator]

    def _pairs(self, index: int, inputs: Tensor, context: Tensor, subsample: float = 1.0) -> tuple[Tensor, Tensor]:
        """Voxels and conditions of all layers of a flow, one layer after the other."""
        voxels, conditions = [], []
        for layer in self.groups[index]:
            rows = torch.randperm(len(inputs), device=inputs.device)[: max(1, round(subsample * len(inputs)))]
            x, c = (inputs, context) if subsample == 1.0 else (inputs[rows], context[rows])
            layers = x.split(self.sizes, dim=1)
            voxels.append(layers[layer])
            conditions.append(self._condition(self.groups[index], layer, layers, c))
        return torch.cat(voxels), self.embeddings[index](torch.cat(conditions))

    def _condition(self, group: Sequence[int], layer: int, layers: Sequence[Tensor], context: Tensor) -> Tensor:
        """Condition of a layer: energies, number and voxels, the nearest layer first, shape (N, C)."""
        first = max(0, layer - self.previous)
        further = range(1 + len(self.sizes), context.shape[1])
        numbers = [context[:, [0, *range(1 + layer, first, -1), *further]]]
        if len(group) > 1:  # one-hot: which layer of the group
            position = layer - group[0]
            numbers.append(F.pad(context.new_ones(len(context), 1), (position, len(group) - 1 - position)))
        before = [self.rescale(layers[k], context[:, 1 + k, None]) for k in range(layer - 1, first - 1, -1)]
        return torch.cat([*numbers, *before], dim=1)


class LayerwiseShape(FlowShape):
    """A layer-wise density of the voxels.

    With ``previous: 1`` and one shared autoregressive flow this is iCaloFlow; with ``previous: 5``, an embedding, and a
    convolutional flow for each layer, convolutional L2LFlows.

    Args:
        geometry: the voxel mesh.
        context: size of the condition.
        flow: density of the voxels of one layer.
        previous: number of layers before as condition.
        share_weights: one flow for all layers that have `previous` layers before them; otherwise each has its own.
        embedding: number of planes into which convolutions turn the condition, for a convolutional flow; 0 leaves the
            condition as it is.
        subsample: part of the showers for each layer in a training step; it bounds memory.
        scaling: of the voxels, the same for all of them.
        threshold: for energies as shapes, the smallest energy of a hit [MeV]; 0 for shapes of unit sum.
    """

    def __init__(
        self,
        geometry: Geometry,
        context: int,
        flow: Callable[[int, int], Distribution],
        previous: int = 1,
        share_weights: bool = True,
        embedding: int = 0,
        subsample: float = 1.0,
        scaling: Callable[[int], Scaling] = Logit,
        threshold: float = 0.0,
    ) -> None:
        def layerwise(features: int, context: int) -> LayerwiseFlow:
            return LayerwiseFlow(geometry, context, flow, self._rescale, previous, share_weights, embedding, subsample)

        # one scale for all energies, because layers share a flow
        super().__init__(geometry, context, partial(Density, flow=layerwise, scaling=scaling, context_scaling=MaxAbs))
        self.threshold = threshold

    def _rescale(self, voxels: Tensor, energy: Tensor) -> Tensor:
        """Gives the voxels of a layer (N, D) its energy (N, 1), both scaled, as every true layer has it.

        Without this, one layer with too little energy leads to a next one with too little, and so on.
        """
        shapes = self.density.scaling.inverse(voxels)
        hits = shapes >= self.threshold
        target = layer_energy(self.density.context_scaling.inverse(energy)) if self.threshold > 0 else 1.0
        factor = target / torch.where(hits, shapes, 0.0).sum(dim=1, keepdim=True).clamp(min=1e-12)
        rescaled = torch.where(hits, (factor * shapes).clamp(min=self.threshold), shapes)
        return self.density.scaling(rescaled)
