"""What a shower sampler has to know beyond a mesh: depths and material of the layers, calibration, resolution.

Depths, atomic numbers and critical energies follow from the materials. Adjusted to the Geant4 training samples are
``spots``, ``gains``, ``spread``, ``moliere`` (13 mm where tungsten and silicon give 11), ``response``, ``resolution``,
the albedo, the adjustments and the depth of the presampler (1.6 X0). The hadronic numbers are not compared with Geant4.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.showers.geometry import BUILT_IN, Geometry

Array = NDArray[np.float64]

HADRONIC_RESOLUTION = (0.5, 0.0, 0.03)
"""Of pions: 50 % / sqrt(E / GeV) and 3 %, typical of non-compensating sampling calorimeters."""


@dataclass(frozen=True)
class Detector:
    """Material and calibration of a calorimeter, as effective constants.

    Args:
        depths: borders of the layers [X0], dead material in front of a layer included, shape (L + 1,).
        interaction_depths: the same borders in nuclear interaction lengths, shape (L + 1,).
        spots: mean visible energy that one deposit leaves in each layer [MeV], shape (L,).
        moliere: Moliere radius [mm].
        z: effective atomic number.
        critical_energy: [MeV].
        sampling_frequency: thickness of one absorber and gap in radiation lengths (1 / F_S of hep-ex/0001020).
        migration: 1 - e/mip of hep-ex/0001020 with e/mip = 1 / (1 + 0.007 (Z_absorber - Z_gap)).
        resolution: relative, a / sqrt(E) + b / E + c in quadrature, with E in GeV: (a, b, c).
        threshold: readout threshold that is already applied to the files [MeV].
        response: visible over incident energy is a - b E^-c, with E in GeV: (a, b, c).
        gains: calibration relative to that of the other layers, shape (L,) or a single number.
        spread: what the material in front adds to the radius [mm], shape (L,) or a single number.
        hadron_response: visible energy of the hadronic part of a shower relative to the electromagnetic part (h/e).
        albedo: backscattered energy at 1 GeV in each radiation length before the maximum [MeV].
        albedo_radius: its radius [mm].
        depth_shift: adjustment of the mean depth of the maximum [X0].
        core_scale: adjustment of the radius of the core.
        core_weight: adjustment of the energy in the core.
    """

    depths: Array
    interaction_depths: Array
    spots: Array
    moliere: float
    z: float
    critical_energy: float
    sampling_frequency: float
    migration: float
    resolution: tuple[float, float, float]
    threshold: float
    response: tuple[float, float, float] = (1.0, 0.0, 0.0)
    gains: Array | float = 1.0
    spread: Array | float = 0.0
    hadron_response: float = 0.7
    albedo: float = 4.0
    albedo_radius: float = 30.0
    depth_shift: float = 0.0
    core_scale: float = 1.0
    core_weight: float = 1.0


def find_detector(geometry: Geometry, depth: float | None = None) -> Detector:
    """The calorimeter behind a mesh.

    Datasets 2 and 3 are 45 layers of 0.8 X0 of tungsten and silicon. Dataset 1 is the simplified ATLAS barrel of the
    Geant4 sample: presampler behind aluminium, lead and liquid argon, iron and scintillator. Any other mesh is taken as
    equal layers of iron and scintillator, 25 X0 deep for electrons and photons, 80 X0 (8 interaction lengths) for
    pions.

    Args:
        geometry: the mesh.
        depth: depth of all layers together [X0]; makes the layers equally deep.

    Raises:
        CalomanError: if the depth is not positive.
    """
    if depth is not None and not 0 < depth < float("inf"):
        raise CalomanError(f"depth {depth:g}: the layers need a positive depth in radiation lengths, such as 25")
    if depth is not None or (known := _built_in(geometry)) is None:
        return _iron_scintillator(geometry, depth or (80.0 if geometry.particle == "pion" else 25.0))
    return _tungsten_silicon(known) if known.particle == "electron" else _lead_argon(known)


def _built_in(geometry: Geometry) -> Geometry | None:
    """The built-in mesh with the same layers, also if this one was read from a file under another name."""
    for known in BUILT_IN.values():
        pairs = list(zip(known.layers, geometry.layers, strict=False))
        if known.n_layers == geometry.n_layers and all(
            (a.id, a.n_alpha, a.n_r) == (b.id, b.n_alpha, b.n_r) and np.allclose(a.r_edges, b.r_edges) for a, b in pairs
        ):
            return known
    return None


def _tungsten_silicon(geometry: Geometry) -> Detector:
    """Geant4's Par04: 90 x (1.4 mm W + 0.3 mm Si), two per layer."""
    n = geometry.n_layers
    depths: Array = 0.8 * np.arange(n + 1, dtype=np.float64)
    return Detector(
        depths=depths,
        interaction_depths=depths / 28.4,  # tungsten: 99.5 mm over 3.504 mm
        spots=np.full(n, 9.2 if geometry.name == "2" else 7.5),  # a particle crosses several of the finer cells
        moliere=13.0,
        z=74.0,
        critical_energy=8.2,
        sampling_frequency=0.40,
        migration=0.296,
        response=(0.981, 0.0, 0.0),
        resolution=(0.132, 0.0, 0.0),
        threshold=geometry.threshold,
        albedo=5.0,
        depth_shift=0.5,
        core_scale=1.2,
    )


def _lead_argon(geometry: Geometry) -> Detector:
    """ATLAS-like barrel: presampler after 1.5 X0, 0.5 X0, then 9, 34 and 4 cells of 0.46 X0 of lead and argon; tile.

    The tile layers of pions have the 1.5, 4.1 and 1.8 interaction lengths of the ATLAS tile calorimeter.
    """
    pion = geometry.particle == "pion"
    tiles = np.cumsum([1.5, 4.1, 1.8] if pion else [7.4])
    electromagnetic = 2.0 + 0.46 * np.array([9, 43, 47])
    return Detector(
        depths=np.concatenate([[0.0, 1.6], electromagnetic, electromagnetic[-1] + 9.3 * tiles]),
        interaction_depths=np.concatenate([[0.0, 0.35, 0.64, 1.35, 1.43], 1.43 + tiles]),
        spots=np.array([18.0, 3.5, 4.0, 4.0] + [15.0] * len(tiles)),
        gains=np.array([6.5, 1.0, 1.0, 1.0] + [0.6] * len(tiles)),
        spread=np.array([6.0] + [0.0] * (geometry.n_layers - 1)),
        moliere=50.0,
        z=72.0,
        critical_energy=8.8,
        sampling_frequency=0.46,
        migration=0.31,
        response=(1.0, 0.0, 0.0) if pion else (1.062, 0.0925, 0.33),
        resolution=HADRONIC_RESOLUTION if pion else (0.097, 0.056, 0.011),
        threshold=0.0,
        albedo=2.5,
        albedo_radius=40.0,
        core_scale=0.7,
        core_weight=0.85,
    )


def _iron_scintillator(geometry: Geometry, depth: float) -> Detector:
    """A generic sampling calorimeter in equal layers."""
    n = geometry.n_layers
    depths: Array = np.linspace(0, depth, n + 1)
    return Detector(
        depths=depths,
        interaction_depths=depths / 9.5,  # iron: 168 mm over 17.6 mm
        spots=np.full(n, 10.0),
        moliere=20.0,
        z=26.0,
        critical_energy=22.0,
        sampling_frequency=0.6,
        migration=0.15,
        resolution=HADRONIC_RESOLUTION if geometry.particle == "pion" else (0.15, 0.0, 0.01),
        threshold=geometry.threshold,
    )
