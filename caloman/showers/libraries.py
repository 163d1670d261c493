"""Libraries of showers: files that programs of experiments read instead of simulating.

Their layouts are in the manual, under Formats. Each file also has the conditions as ``incident_NAME``, and the
attributes of a shower file, which those programs do not read.
"""

from pathlib import Path
from typing import Literal, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.showers.conditions import known
from caloman.showers.geometry import PDG_CODES, Geometry
from caloman.showers.hdf5 import NewFile
from caloman.showers.showers import CHUNK, ShowerFile, Showers
from caloman.showers.writer import Layout, ShowerWriter, Tables

FLOAT, INT = np.dtype(np.float32), np.dtype(np.int32)
MEV_PER_GEV = 1000.0
SHOWERDATA = "0.6.1"  # version of ShowerData with this layout


class Library(ShowerWriter):
    """A writer of another format than the CaloChallenge's."""

    def _layout(self) -> Layout:
        return {known(name).table: ((1,), FLOAT) for name in self._conditions}

    def _to_rows(self, showers: Showers) -> Tables:
        return {known(name).table: values[:, None] for name, values in showers.conditions.items()}

    def copy(self, path: Path) -> None:
        """Adds the showers of a CaloChallenge file.

        Raises:
            CalomanError: if it is damaged or has other conditions.
            OSError: if they cannot be written.
        """
        with ShowerFile(path, self.geometry) as source:
            for start in range(0, len(source), CHUNK):
                self.append(source.read(start, start + CHUNK))


class FastCaloSimLibrary(Library):
    """The event library of ATLAS's FastCaloSim: fractions of the incident energy layer by layer, and the mesh.

    References:
        FastCaloSim (fcs-proj/FastCaloSim), TFCSBinnedShower.
    """

    def _layout(self) -> Layout:
        energies = {f"energy_layer_{layer.id}": ((layer.n_voxels,), FLOAT) for layer in self.geometry.layers}
        return {**energies, **dict.fromkeys(("incident_energy", "center_eta", "phi_mod"), ((), FLOAT)),
                **super()._layout()}  # fmt: skip

    def _to_rows(self, showers: Showers) -> Tables:
        fractions = showers.voxels / showers.incident_energies[:, None]
        layers = zip(self.geometry.layers, self.geometry.layer_slices, strict=True)
        nothing = np.zeros(len(showers), np.float32)
        theta = showers.conditions.get("theta")
        return {
            **{f"energy_layer_{layer.id}": fractions[:, columns] for layer, columns in layers},
            "incident_energy": showers.incident_energies,
            "center_eta": nothing if theta is None else -np.log(np.tan(theta / 2)),
            "phi_mod": nothing,
            **super()._to_rows(showers),
        }

    def _further(self) -> Tables:
        return binning(self.geometry)


class DDMLLibrary(Library):
    """Showers that DDML loads one after another: deposits [MeV] as one table of four axes.

    References:
        DDML (key4hep/DDML), LoadHdf5.
    """

    def _layout(self) -> Layout:
        shape = self.geometry.grid or (1, 1, self.geometry.n_voxels)
        return {"layers": (shape, FLOAT), "incident_energies": ((1,), FLOAT), **super()._layout()}

    def _to_rows(self, showers: Showers) -> Tables:
        shape = self._layout()["layers"][0]
        return {
            "layers": (self.geometry.deposit * showers.voxels).reshape(-1, *shape),
            "incident_energies": showers.incident_energies[:, None],
            **super()._to_rows(showers),
        }


class PointClouds(Library):
    """Points x, y [mm], number of the layer and energy [GeV] of all voxels that are hit, at their centers.

    References:
        ShowerData (FLC-QU-hep/ShowerData).
    """

    def _layout(self) -> Layout:
        return {
            "showers": ((), h5py.vlen_dtype(FLOAT)),
            "energies": ((1,), FLOAT),
            "directions": ((3,), FLOAT),
            **dict.fromkeys(("pdg", "shower_ids", "num_points"), ((), INT)),
            **super()._layout(),
        }

    def _to_rows(self, showers: Showers) -> Tables:
        points = np.empty(len(showers), object)
        centers = _centers(self.geometry)
        hits = showers.voxels > 0
        for i, (voxels, hit) in enumerate(zip(showers.voxels, hits, strict=True)):
            points[i] = np.column_stack([centers[hit], voxels[hit] / MEV_PER_GEV]).astype(np.float32).ravel()
        code = np.full(len(showers), PDG_CODES.get(self.geometry.particle, 0))
        return {
            "showers": points,
            "energies": showers.incident_energies[:, None] / MEV_PER_GEV,
            "directions": _directions(showers),
            "pdg": showers.conditions.get("pdg", code),
            "shower_ids": np.arange(self._end - len(showers), self._end),
            "num_points": hits.sum(axis=1),
            **super()._to_rows(showers),
        }

    def _further(self) -> Tables:
        self._file.attrs["showerdata_version"] = SHOWERDATA
        most = self._tables["num_points"][...].max(initial=0)
        return {"shape": np.array([self._end, most, 4], INT)}


Format = Literal["calochallenge", "fastcalosim", "ddml", "showerdata"]
WRITERS: dict[str, type[ShowerWriter]] = dict(
    zip(get_args(Format), (ShowerWriter, FastCaloSimLibrary, DDMLLibrary, PointClouds), strict=True)
)


def find_writer(form: str) -> type[ShowerWriter]:
    """The class that writes files of a format.

    Raises:
        CalomanError: if there is none.
    """
    if form not in WRITERS:
        raise CalomanError(f"unknown format {form!r}: use one of {', '.join(WRITERS)}")
    return WRITERS[form]


def binning(geometry: Geometry) -> Tables:
    """Start and size of each voxel in r [mm] and alpha [rad], layer by layer, radius fastest.

    References:
        FastCaloSim (fcs-proj/FastCaloSim), TFCSBinnedShower and TFCSBinnedShowerONNX.
    """
    tables: dict[str, NDArray] = {}
    for layer in geometry.layers:
        r, alpha = _bins(np.asarray(layer.r_edges)), _bins(np.linspace(-np.pi, np.pi, layer.n_alpha + 1))
        voxels = {"radius": np.tile(r, layer.n_alpha), "alpha": np.repeat(alpha, layer.n_r, axis=1)}
        for name, (start, size) in voxels.items():
            tables |= {f"binstart_{name}_layer_{layer.id}": start, f"binsize_{name}_layer_{layer.id}": size}
    return tables


def write_binning(geometry: Geometry, path: Path) -> None:
    """Writes `binning` into an empty file."""
    with NewFile(path) as file:
        for name, values in binning(geometry).items():
            file[name] = values
    file.check()


def _bins(edges: NDArray[np.float64]) -> NDArray[np.float32]:
    """Start and size of each bin, shape (2, bins)."""
    return np.stack([edges[:-1], np.diff(edges)]).astype(np.float32)


def _centers(geometry: Geometry) -> NDArray[np.float64]:
    """x, y [mm] and number of the layer of each voxel, shape (V, 3)."""
    r, alpha = (np.concatenate([getattr(layer, name) for layer in geometry.layers]) for name in ("r", "alpha"))
    numbers = np.array([layer.id for layer in geometry.layers])[geometry.voxel_layer]
    return np.column_stack([r * np.cos(alpha), r * np.sin(alpha), numbers])


def _directions(showers: Showers) -> NDArray[np.float64]:
    """Unit vectors (N, 3) along the particles with the beam as z; (0, 0, 1) where nothing is known of the angle."""
    nothing = np.zeros(len(showers))
    theta, phi = (showers.conditions.get(name, nothing) for name in ("theta", "phi"))
    return np.column_stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
