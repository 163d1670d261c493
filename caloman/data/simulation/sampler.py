"""Showers of any mesh from parametrizations: deposits thrown at profiles that fluctuate from shower to shower.

The literature behind the profiles is named in `caloman.data.simulation.profiles`.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from caloman.data.simulation.detector import Detector, find_detector
from caloman.data.simulation.profiles import (
    RadialProfile,
    backscatter,
    electromagnetic_depth,
    electromagnetic_radius,
    hadronic_depth,
    hadronic_radius,
)
from caloman.errors import CalomanError
from caloman.showers.geometry import Geometry

Array = NDArray[np.float64]

LOWEST, HIGHEST = 1.0, 1e9
"""Incident energies that can be asked for [MeV]; the literature covers 1 GeV to 1 TeV, beyond it is extrapolated."""
CONVERSION = 9 / 7  # mean free path of photons [X0]


class Rings:
    """The R rings of a mesh: voxels of one layer at one radius, which all expect the same energy."""

    def __init__(self, geometry: Geometry) -> None:
        layers, sizes = geometry.layers, [layer.n_r for layer in geometry.layers]
        edges = [pair for layer in layers for pair in pairwise(layer.r_edges)]
        rings = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
        self.layer = np.repeat(np.arange(geometry.n_layers), sizes)
        """Position of each ring's layer, shape (R,)."""
        self.edges_squared: Array = np.square(np.array(edges, dtype=np.float64).T)
        """Squared inner and outer radius of each ring [mm^2], shape (2, R)."""
        self.of_voxels = np.concatenate([np.tile(own, layer.n_alpha) for own, layer in zip(rings, layers, strict=True)])
        """Position of each voxel's ring, shape (V,)."""


class ShowerSampler:
    """Samples showers of a mesh.

    Args:
        geometry: the mesh; its particle decides between electron, photon and pion showers.
        detector: material and calibration behind the mesh; by default those of `find_detector`.
    """

    def __init__(self, geometry: Geometry, detector: Detector | None = None) -> None:
        self.geometry = geometry
        self.detector = detector or find_detector(geometry)
        self._rings = Rings(geometry)
        self._spots = self.detector.spots[self._rings.layer]

    def sample(self, energies: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
        """Samples one shower for each incident energy.

        Args:
            energies: [MeV], shape (N,).
            generator: source of random numbers.

        Returns:
            Voxels [MeV], shape (N, V).

        Raises:
            CalomanError: if an energy lies outside 1 MeV to 1 PeV.
        """
        incident = np.asarray(energies, dtype=np.float64)
        if not ((incident >= LOWEST) & (incident <= HIGHEST)).all():
            raise CalomanError(
                f"incident energies from {incident.min():g} to {incident.max():g} MeV: the parametrization serves "
                f"{LOWEST:g} to {HIGHEST:g} MeV, choose --energies within"
            )
        expected = self._expected(incident, generator) * self._calibration(incident, generator)[:, None]
        voxels = self._deposit(expected, generator)
        # the resolution is measured, so it is drawn for the shower; deposits only share the energy out
        total = voxels.sum(axis=1, dtype=np.float64)
        voxels *= np.divide(expected.sum(axis=1), total, out=np.zeros_like(total), where=total > 0)[:, None]
        voxels[voxels < self.detector.threshold] = 0
        return voxels.astype(np.float32)

    def _expected(self, energies: Array, generator: np.random.Generator) -> Array:
        """Energy that each ring of each shower expects [MeV], shape (N, R)."""
        if self.geometry.particle == "pion":
            return self._pion(energies, generator)
        start = np.zeros_like(energies)
        if self.geometry.particle == "photon":
            start = CONVERSION * generator.standard_exponential(len(energies))
        return self._electromagnetic(energies, start, generator)

    def _calibration(self, energies: Array, generator: np.random.Generator) -> Array:
        """Visible energy per deposited energy: mean response and resolution, shape (N,)."""
        gev = energies / 1e3
        (a, b, c), (stochastic, noise, constant) = self.detector.response, self.detector.resolution
        variance = np.minimum(stochastic**2 / gev + (noise / gev) ** 2 + constant**2, 1.0)
        mean: Array = np.maximum(a - b * gev**-c, 0.1)
        return mean * generator.standard_gamma(1 / variance) * variance

    def _electromagnetic(self, energies: Array, start: Array, generator: np.random.Generator) -> Array:
        """Energy of each ring in electromagnetic showers that start at given depths [X0], shape (N, R) [MeV]."""
        detector = self.detector
        log_y = np.log(energies / detector.critical_energy)
        normal = generator.standard_normal((len(energies), 2))
        profile, scale = electromagnetic_depth(log_y, detector, start, normal)
        share, depth = profile.layers(detector.depths)
        albedo, albedo_radius = backscatter(energies, profile, detector)
        radius = electromagnetic_radius(depth * scale[:, None], np.log(energies / 1e3), detector)
        # gains and backscatter move energy between layers, they do not add any
        seen = (energies[:, None] * share + albedo) * detector.gains
        factor = energies * share.sum(axis=1) / np.maximum(seen.sum(axis=1), 1e-9)
        main = self._rings_of((factor * energies)[:, None] * share * detector.gains, radius)
        return main + self._rings_of(factor[:, None] * albedo * detector.gains, albedo_radius)

    def _pion(self, energies: Array, generator: np.random.Generator) -> Array:
        """Energy of each ring [MeV], shape (N, R): a track until the first interaction, then two kinds of showers.

        The electromagnetic fraction has the mean 1 - (E / GeV)^(-0.18) of Gabriel et al., Nucl. Instrum. Meth. A 338
        (1994) 336, and fluctuates as a beta distribution of about their width.
        """
        detector = self.detector
        interaction = generator.standard_exponential(len(energies))
        start = np.interp(interaction, detector.interaction_depths, detector.depths)
        passed = np.clip(start[:, None] - detector.depths[:-1], 0, np.diff(detector.depths))
        # by its definition the critical energy is about what a charged particle loses in one radiation length
        track = np.minimum(detector.critical_energy * passed, energies[:, None] / self.geometry.n_layers)
        left = energies - track.sum(axis=1)
        mean = np.clip(1 - (energies / 1e3) ** -0.18, 0.05, 0.95)
        fraction = generator.beta(5 * mean, 5 * (1 - mean))
        neutral = np.maximum(left * fraction, 1e-3)
        # punch-through: who has not interacted within the layers leaves only a track
        inside = interaction < detector.interaction_depths[-1]
        charged = left * (1 - fraction) * detector.hadron_response * inside
        depth, position = hadronic_depth(np.log(energies / 1e3), interaction).layers(detector.interaction_depths)
        narrow = np.full_like(track, 0.2 * detector.moliere)
        expected = self._rings_of(track, RadialProfile(narrow, narrow, np.ones_like(track), detector.moliere))
        expected += inside[:, None] * self._electromagnetic(neutral, start, generator)
        expected += charged[:, None] * self._rings_of(depth, hadronic_radius(position, detector))
        return expected

    def _rings_of(self, layers: Array, radius: RadialProfile) -> Array:
        """Shares the energy of each layer (N, L) out to its rings (N, R)."""
        return layers[:, self._rings.layer] * radius.rings(self._rings.layer, self._rings.edges_squared)

    def _deposit(self, expected: Array, generator: np.random.Generator) -> Array:
        """Throws deposits at the rings (N, R), evenly in alpha; returns the energy of each voxel [MeV], shape (N, V).

        Their number is Poissonian and their energy exponential, so that n of them sum to a gamma distribution.
        """
        voxels_of_ring = np.bincount(self._rings.of_voxels)
        hits = generator.poisson((expected / self._spots / voxels_of_ring)[:, self._rings.of_voxels])
        voxels = np.zeros(hits.shape)
        row, voxel = np.nonzero(hits)
        voxels[row, voxel] = generator.standard_gamma(hits[row, voxel]) * self._spots[self._rings.of_voxels[voxel]]
        return voxels
