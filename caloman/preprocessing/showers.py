"""From voxels to the coordinates of the shape models, and back.

Two variants exist in CaloMan (arXiv:2211.15380): three steps with the layer energies as a model of their own, and two
steps with the incident energy alone.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from caloman.errors import CalomanError
from caloman.preprocessing.conditions import ConditionEncoding
from caloman.preprocessing.dequantization import Dequantization
from caloman.preprocessing.layers import LayerMap, reciprocal
from caloman.preprocessing.spectrum import SmoothSpectrum
from caloman.showers.conditions import Conditions
from caloman.showers.geometry import Geometry

NEWTON_STEPS = 3  # steps until the energies of a layer add up within 1e-5; a scale removes the rest


class Prepared(NamedTuple):
    """Showers in the coordinates of the models.

    Args:
        shapes: variables of a shape model, shape (N, V).
        context: its condition, shape (N, C).
        layer_energies: energy per layer [MeV], shape (N, L).
    """

    shapes: Tensor
    context: Tensor
    layer_energies: Tensor


class ShowerTransform(nn.Module, ABC):
    """Splits showers into shapes and a condition, and joins them again.

    Args:
        geometry: the voxel mesh with V voxels in L layers.
        conditions: of the generator, in the order of their columns, K of them.
        threshold: voxels below it are cut before training and after generation [MeV].
    """

    def __init__(self, geometry: Geometry, conditions: Conditions, threshold: float = 0.0) -> None:
        super().__init__()
        self.layers = LayerMap(geometry)
        self.encoding = ConditionEncoding(conditions)
        self.threshold = threshold
        self.context_dim = 1 + geometry.n_layers + self.encoding.size

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fits statistics on batches of training voxels (n, V) [MeV], before any part of the model is trained."""

    def forward(self, voxels: Tensor, conditions: Tensor) -> Prepared:
        """Prepares voxels (N, V) [MeV] under conditions (N, K), incident energy [MeV] first."""
        voxels = _cut(voxels, self.threshold)
        layer_energies = self.layers.sum(voxels)
        shapes = self._shapes(voxels, conditions[:, :1], layer_energies)
        return Prepared(shapes, self.context(conditions, layer_energies), layer_energies)

    def context(self, conditions: Tensor, layer_energies: Tensor | None) -> Tensor:
        """The condition (N, C) of the shape model: energies first, then the other conditions (N, K)."""
        return self.encoding.extend(self._energies(conditions[:, :1], layer_energies), conditions)

    def _energies(self, incident_energies: Tensor, layer_energies: Tensor | None) -> Tensor:
        """[log10 E_inc, log10(E_l / 100 GeV) - 1 for each layer], energies in MeV with an offset of 1 keV."""
        layers = ((_given(layer_energies) + 1e-3) / 1e5).log10() - 1
        return torch.cat([(incident_energies + 1e-3).log10(), layers], dim=1)

    @abstractmethod
    def _shapes(self, voxels: Tensor, incident_energies: Tensor, layer_energies: Tensor) -> Tensor: ...

    @abstractmethod
    def inverse(self, shapes: Tensor, conditions: Tensor, layer_energies: Tensor | None) -> Tensor:
        """Turns shapes (N, V) into voxels (N, V) [MeV] with the threshold applied."""


class LayerwiseTransform(ShowerTransform):
    """Three-step variant: shapes have unit sum in each layer; an empty layer is all zero unless it is dequantized.

    The inverse scales each layer to its energy and cuts voxels below the threshold, twice. The largest voxel of a layer
    always stays, and a layer below the threshold is empty.

    Args:
        geometry: the voxel mesh with V voxels in L layers.
        conditions: of the generator.
        threshold: voxels below it are cut before training and after generation [MeV].
        renormalize: make the voxels of each layer add up to its energy; the published CaloMan did not.
        dequantization: replaces zeros by noise before a layer is scaled to unit sum, for a flow on the voxels. Its
            -log q does not depend on trained parameters, and is left out here.
        unit_sum: otherwise shapes are the dequantized energies themselves [MeV], and only the inverse scales layers:
            the noise then looks alike in every layer, which helps a flow for several layers.

    Raises:
        CalomanError: if shapes have no unit sum and are not renormalized, or if the threshold does not cut the noise.
    """

    def __init__(
        self,
        geometry: Geometry,
        conditions: Conditions,
        threshold: float = 0.0,
        renormalize: bool = True,
        dequantization: Dequantization | None = None,
        unit_sum: bool = True,
    ) -> None:
        super().__init__(geometry, conditions, threshold)
        if not (renormalize or unit_sum):
            raise CalomanError("energies as shapes have to be scaled to those of the layers; set renormalize: true")
        self.renormalize = renormalize
        self.unit_sum = unit_sum
        self.dequantization = dequantization
        if dequantization:
            dequantization.check(threshold)

    def _shapes(self, voxels: Tensor, incident_energies: Tensor, layer_energies: Tensor) -> Tensor:
        if self.dequantization:
            voxels, _ = self.dequantization(voxels)
            layer_energies = self.layers.sum(voxels)
        if not self.unit_sum:
            return voxels
        return voxels * self.layers.broadcast(reciprocal(layer_energies))

    def inverse(self, shapes: Tensor, conditions: Tensor, layer_energies: Tensor | None) -> Tensor:
        layer_energies = _cut(_given(layer_energies), self.threshold)
        if not self.renormalize:
            return _cut(shapes.clamp(0, 1) * self.layers.broadcast(layer_energies), self.threshold)
        # noise is cut before energies are scaled, or it could rise above the threshold
        voxels = self.layers.scaled(shapes.clamp(0, 1), layer_energies) if self.unit_sum else shapes.clamp(min=0)
        for _ in range(2):
            # a layer of many small deposits must not lose its energy: its largest voxel stays
            stays = (voxels >= self.threshold * (1 - 1e-6)) | self.layers.is_largest(voxels)
            voxels = self.layers.scaled(torch.where(stays, voxels, 0.0), layer_energies)
        return voxels


class ExcessTransform(ShowerTransform):
    """Three-step variant for decoders with zeros: shapes are fractions of the energy above the threshold.

    Of a layer with energy E_l and n hits, each hit has the threshold t and a fraction of E_l - n t, its excess.
    Energies of hits end with an edge at t, excesses do not. The inverse gives each layer its energy, with all hits
    above t. If the energy is too small for the hits of a layer, the smallest ones are dropped, and the largest one
    stays.

    Shapes are excesses on an axis with a smooth spectrum (`SmoothSpectrum`). The inverse finds, for each layer, the
    scale with which they add up to its energy on the true axis.

    Only ratios within a layer matter. Shapes of unit sum would lie on a surface, where a density has no bound, and the
    single hit of a layer on a point. Training therefore scales each layer of n hits at random, by the exponential of a
    normal number over n. In evaluation mode shapes have unit sums and are a function of the shower.

    Args:
        geometry: the voxel mesh with V voxels in L layers.
        conditions: of the generator.
        threshold: voxels below it are cut before training [MeV].
        zones: first ring of each zone but the innermost, see `SmoothSpectrum`.
    """

    def __init__(self, geometry: Geometry, conditions: Conditions, threshold: float, zones: Sequence[int] = ()) -> None:
        super().__init__(geometry, conditions, threshold)
        self.spectrum = SmoothSpectrum(geometry, zones)

    def fit(self, batches: Iterable[Tensor]) -> None:
        self.spectrum.fit(self._excess(_cut(voxels, self.threshold)) for voxels in batches)

    def _shapes(self, voxels: Tensor, incident_energies: Tensor, layer_energies: Tensor) -> Tensor:
        hits = voxels > 0
        excess = self._excess(voxels)
        ironed = torch.where(hits, self.spectrum(_log(excess)).exp(), excess)
        scale = reciprocal(self.layers.sum(ironed))
        if self.training:
            scale = scale * (torch.randn_like(scale) / self.layers.sum(hits).clamp(min=1)).exp()
        return ironed * self.layers.broadcast(scale)

    def inverse(self, shapes: Tensor, conditions: Tensor, layer_energies: Tensor | None) -> Tensor:
        layer_energies = _cut(_given(layer_energies), self.threshold)
        hits = (shapes > 0) & self.layers.broadcast(layer_energies > 0)
        energies = self.layers.scaled(shapes, layer_energies)
        crowded = self.layers.sum(hits) * self.threshold > layer_energies * (1 + 1e-6)
        hits &= ~self.layers.broadcast(crowded) | (energies >= self.threshold) | self.layers.is_largest(shapes)
        excess = (layer_energies - self.threshold * self.layers.sum(hits)).clamp(min=0)
        return self.threshold * hits + self._distribute(excess, shapes * hits)

    def _excess(self, voxels: Tensor) -> Tensor:
        return torch.where(voxels > 0, (voxels - self.threshold).clamp(min=1e-3 * self.threshold), 0.0)

    def _distribute(self, layer_energies: Tensor, shapes: Tensor) -> Tensor:
        """Energies (N, V) that have the shapes (N, V) on the smooth axis and add up to layers (N, L)."""
        log_shapes, log_energies = torch.where(shapes > 0, _log(shapes), -math.inf), _log(layer_energies)
        log_scale = log_energies - _log(self.layers.sum(shapes))
        for _ in range(NEWTON_STEPS):
            logs, slopes = self.spectrum.inverse(log_shapes + self.layers.broadcast(log_scale))
            energies = logs.exp()
            total, change = self.layers.sum(energies), self.layers.sum(energies * slopes)
            log_scale = log_scale + (log_energies - _log(total)) * (total / change.clamp(min=1e-30))
        logs, _ = self.spectrum.inverse(log_shapes + self.layers.broadcast(log_scale))
        return self.layers.scaled(logs.exp(), layer_energies)


class GlobalTransform(ShowerTransform):
    """Two-step variant: voxels over 3.1 E_inc, as in the paper, under the conditions alone.

    Args:
        geometry: the voxel mesh.
        conditions: of the generator.
        threshold: voxels below it are cut before training and after generation [MeV].
    """

    unit = 3.1
    """Of the voxels, in units of E_inc."""

    def __init__(self, geometry: Geometry, conditions: Conditions, threshold: float = 0.0) -> None:
        super().__init__(geometry, conditions, threshold)
        self.context_dim = 1 + self.encoding.size

    def _energies(self, incident_energies: Tensor, layer_energies: Tensor | None) -> Tensor:
        """log10 of the incident energy in GeV."""
        return (incident_energies / 1e3).log10()

    def _shapes(self, voxels: Tensor, incident_energies: Tensor, layer_energies: Tensor) -> Tensor:
        return voxels / (self.unit * incident_energies)

    def inverse(self, shapes: Tensor, conditions: Tensor, layer_energies: Tensor | None) -> Tensor:
        return _cut(shapes.clamp(min=0) * (self.unit * conditions[:, :1]), self.threshold)


def _given(layer_energies: Tensor | None) -> Tensor:
    if layer_energies is None:
        raise ValueError("a layerwise transform needs layer energies")
    return layer_energies


def layer_energy(context: Tensor) -> Tensor:
    """Energies of layers [MeV] from their columns of the condition of a three-step variant, shape (*)."""
    return (10 ** (context + 1) * 1e5 - 1e-3).clamp(min=0)


def _log(values: Tensor) -> Tensor:
    """Logarithms of values that may be zero, where the result has no meaning but is finite."""
    return values.clamp(min=1e-30).log()


def _cut(voxels: Tensor, threshold: float) -> Tensor:
    return torch.where(voxels < threshold, 0.0, voxels)
