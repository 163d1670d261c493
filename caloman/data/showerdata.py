"""Point clouds in the layout of the library ShowerData, filled into a mesh.

A file has ``showers`` (N,), each a list of the numbers x [mm], y [mm], layer, energy [GeV], and sometimes a time, of
all its points, ``energies`` (N, 1) [GeV], ``directions`` (N, 3), which are unit vectors with the depth last, ``pdg``
(N,) and ``shape`` (3,), whose last entry is how many numbers a point has.

References:
    FLC-QU-hep/ShowerData on GitHub; AllShowers (arXiv:2601.11716).
"""

import logging

import numpy as np
from numpy.typing import NDArray

from caloman.data.foreign import ForeignFile
from caloman.errors import CalomanError
from caloman.showers.chunks import read_rows
from caloman.showers.conditions import ENERGY, Columns, Conditions, known
from caloman.showers.hdf5 import find_table, read_table, reading
from caloman.showers.lists import NumberLists

GEV = 1000.0
COLUMNS = {"energies": 2, "directions": 2, "pdg": 1}  # name -> number of axes
WORKSPACE = 8  # memory for the points of a shower, over their bytes
LOST = 1e-4  # share of the energy outside the mesh that is worth a word

logger = logging.getLogger(__name__)


class ShowerDataFile(ForeignFile):
    """Layer i of its points is the layer of the mesh with id i; r and alpha are those of (x, y)."""

    CONDITIONS = Conditions(map(known, (ENERGY.name, "theta", "phi", "pdg")))
    TABLES = ("showers", "shape", *COLUMNS)

    def _open(self) -> int:
        self._tables = {name: self._table(name, (axes,)) for name, axes in COLUMNS.items()}
        if self._tables["directions"].shape[1:] != (3,) or self._tables["energies"].shape[1:] != (1,):
            raise CalomanError(f"{self.path}: needs 'energies' (N, 1) and 'directions' (N, 3)")
        points = find_table(self._file, "showers", axes=(1,), lists=True)
        shape = read_table(self._table("shape", (1,))).tolist()
        if points is None or len(shape) != 3 or shape[2] not in (4, 5):
            raise CalomanError(f"{self.path}: needs lists of points 'showers' and their 'shape' (N, points, 4 or 5)")
        with reading(self.path):
            self._points = NumberLists(points)
        self._numbers = int(shape[2])
        self._total = self._lost = 0.0
        return self._n_rows({"showers": points, **self._tables})

    @property
    def _row_bytes(self) -> int:
        return 2 * super()._row_bytes + WORKSPACE * self._points.longest

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        if self._lost > LOST * self._total:
            logger.warning("%s: %.2g %% of the energy lies outside the mesh", self.path, 100 * self._lost / self._total)

    def _read(self, start: int, n: int) -> tuple[NDArray[np.float32], Columns]:
        arrays = {name: np.empty((n, *table.shape[1:]), np.float32) for name, table in self._tables.items()}
        for name, table in self._tables.items():
            read_rows(table, start, arrays[name])
        lists = self._points.read(start, n)
        if any(len(numbers) % self._numbers for numbers in lists):
            raise CalomanError(f"{self.path}: points of 'showers' do not have {self._numbers} numbers, as 'shape' says")
        points = np.concatenate(lists).reshape(-1, self._numbers).astype(np.float64)
        rows = np.repeat(np.arange(n), [len(numbers) // self._numbers for numbers in lists])
        voxels = self._filled(rows, points, n)
        x, y, z = arrays["directions"].T
        columns = {"theta": np.arctan2(np.hypot(x, y), z), "phi": np.arctan2(y, x), "pdg": arrays["pdg"]}
        return voxels, {ENERGY.name: GEV * arrays["energies"][:, 0], **columns}

    def _filled(self, rows: NDArray[np.int64], points: NDArray[np.float64], n: int) -> NDArray[np.float32]:
        """Energy of each voxel [MeV], shape (n, V), from points (P, 4 or more) of showers (P,)."""
        x, y, layers, energies = points[:, :4].T
        places = self.geometry.voxels_at(np.rint(layers), x, y)
        voxels = np.zeros((n, self.geometry.n_voxels))
        np.add.at(voxels, (rows[places >= 0], places[places >= 0]), GEV * energies[places >= 0])
        total = GEV * energies.sum()
        self._total += total
        self._lost += total - voxels.sum()
        return voxels.astype(np.float32)
