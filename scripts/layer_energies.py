"""Layer energies of photons, and a flow of them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloman.flows import CouplingFlow
from caloman.preprocessing import LogNormalDequantization
from caloman.showers.geometry import BUILT_IN
from caloman.showers.showers import Showers

Array = NDArray[np.float64]
THRESHOLD = 0.01
"""Layers with less are empty [MeV]."""
TOTAL = "E_tot / E_inc"


def flow(layers: int) -> CouplingFlow:
    """A spline flow of scaled energies of some layers under the scaled incident energy."""
    return CouplingFlow(layers, 1, transforms=4, bins=10, hidden=48, mixing="permutation")


class Energies(NamedTuple):
    """Incident energies (N,) and layer energies (N, 5) [MeV]."""

    incident: Array
    layers: Array

    @classmethod
    def load(cls, path: Path) -> "Energies":
        """Those of a file of photons."""
        showers = Showers.load(path, BUILT_IN["1-photons"])
        return cls(showers.incident_energies.astype(float), showers.geometry.layer_energies(showers.voxels))

    def observables(self) -> dict[str, Array]:
        """Fractions of the incident energy, each (N,)."""
        fractions = self.layers / self.incident[:, None]
        return {TOTAL: fractions.sum(axis=1), **{f"layer {i}": column for i, column in enumerate(fractions.T)}}


class LayerFlow(torch.nn.Module):
    """A flow of the standardized logarithms of E_layer / E_inc under log E_inc; empty layers are dequantized.

    Args:
        train: energies that set means and widths.
    """

    def __init__(self, train: Energies) -> None:
        super().__init__()
        self.dequantization = LogNormalDequantization(-3.5, 0.2)
        self.flow = flow(train.layers.shape[1])
        rows = self._logarithms(*self.tensors(train))
        self.mean, self.width = rows.mean(dim=0), rows.std(dim=0)

    @staticmethod
    def tensors(energies: Energies) -> tuple[Tensor, Tensor]:
        """Layer energies (N, 5) and incident energies (N, 1) [MeV], the former 0 where a layer is empty."""
        layers = np.where(energies.layers < THRESHOLD, 0.0, energies.layers)
        return torch.as_tensor(layers).float(), torch.as_tensor(energies.incident).float()[:, None]

    def _logarithms(self, layers: Tensor, incident: Tensor) -> Tensor:
        return torch.cat([(self.dequantization(layers)[0] / incident).log(), incident.log()], dim=1)

    def log_prob(self, rows: Tensor) -> Tensor:
        """Log-density, up to a constant, of layer energies joined to incident energies (N, 6), shape (N,)."""
        scaled = (self._logarithms(rows[:, :-1], rows[:, -1:]) - self.mean) / self.width
        return self.flow.log_prob(scaled[:, :-1], scaled[:, -1:])

    @torch.no_grad()
    def sample(self, incident: Array, seed: int) -> Energies:
        """Layer energies under incident energies (N,)."""
        condition = torch.as_tensor(incident).float()[:, None]
        noise = torch.randn(len(incident), self.flow.noise_dim, generator=torch.Generator().manual_seed(seed))
        scaled = self.flow.sample(noise, (condition.log() - self.mean[-1]) / self.width[-1])
        layers = (scaled * self.width[:-1] + self.mean[:-1]).exp() * condition
        return Energies(incident, torch.where(layers < THRESHOLD, 0.0, layers).double().numpy())
