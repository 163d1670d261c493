"""Voxel meshes of a calorimeter: layers of concentric rings, each ring cut into equal angular bins.

The flat voxel index of the CaloChallenge runs over layers slowest, then the angle alpha, then the radius fastest.
"""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.files import read_text, shipped, write

SAMPLING_FRACTION = 0.033  # datasets 2 and 3 hold the deposits of Geant4's example Par04 divided by this
PDG_CODES = {"photon": 22, "pion": 211, "electron": 11}
LARGEST_ID = 9999
MOST_VOXELS = 10**7
LONGEST_NAME = 100


@dataclass(frozen=True)
class Layer:
    """One layer of voxels.

    Args:
        id: number of the layer in the detector (ATLAS sampling number for dataset 1).
        r_edges: edges of the radial bins [mm], ascending.
        n_alpha: number of equal angular bins on [-pi, pi].
    """

    id: int
    r_edges: tuple[float, ...]
    n_alpha: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.id <= LARGEST_ID:
            raise CalomanError(f"layer {self.id}: ids run from 0 to {LARGEST_ID}")
        ascending = all(low < high for low, high in pairwise(self.r_edges))
        if len(self.r_edges) < 2 or not ascending or self.r_edges[0] < 0 or not np.isfinite(self.r_edges[-1]):
            raise CalomanError(
                f"layer {self.id}: r_edges must be at least two finite, ascending edges from 0 on, "
                f"got {', '.join(map(str, self.r_edges[:10]))}"
            )
        if not 1 <= self.n_alpha <= MOST_VOXELS:
            raise CalomanError(f"layer {self.id}: n_alpha must be 1 to {MOST_VOXELS}, got {self.n_alpha}")

    @property
    def n_r(self) -> int:
        """Number of radial bins."""
        return len(self.r_edges) - 1

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return self.n_r * self.n_alpha

    @property
    def r(self) -> NDArray[np.float64]:
        """Radius of each voxel's center [mm], shape (n_voxels,)."""
        edges = np.asarray(self.r_edges, dtype=np.float64)
        return np.tile((edges[:-1] + edges[1:]) / 2, self.n_alpha)

    @property
    def alpha(self) -> NDArray[np.float64]:
        """Angle of each voxel's center [rad], shape (n_voxels,)."""
        centers = -np.pi + (np.arange(self.n_alpha) + 0.5) * 2 * np.pi / self.n_alpha
        return np.repeat(centers, self.n_r)


@dataclass(frozen=True)
class Geometry:
    """A voxel mesh.

    Args:
        name: identifier, such as ``"2"``.
        particle: incident particle (``photon``, ``pion``, ``electron``).
        layers: the layers with voxels, in the order of the flat index.
        threshold: readout threshold [MeV]; smaller deposits count as zero in the evaluation.
    """

    name: str
    particle: str
    layers: tuple[Layer, ...]
    threshold: float = 0.0

    def __post_init__(self) -> None:
        ids = [layer.id for layer in self.layers]
        if not ids or ids != sorted(set(ids)):
            raise CalomanError(f"geometry {self.name!r}: layer ids must be ascending and distinct, got {ids[:10]}")
        if not 0 <= self.threshold < np.inf:
            raise CalomanError(f"geometry {self.name!r}: the threshold must be finite and not negative [MeV]")
        if self.n_voxels > MOST_VOXELS:
            raise CalomanError(f"geometry {self.name!r}: {self.n_voxels} voxels, {MOST_VOXELS} are the most")
        for text in (self.name, self.particle):
            if not text.isprintable() or len(text) > LONGEST_NAME:
                raise CalomanError(f"geometry {text[:LONGEST_NAME]!r}: names are short and printable")

    @property
    def n_layers(self) -> int:
        """Number of layers with voxels."""
        return len(self.layers)

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return sum(self.layer_sizes)

    @property
    def layer_sizes(self) -> list[int]:
        """Number of voxels of each layer."""
        return [layer.n_voxels for layer in self.layers]

    @cached_property
    def layer_slices(self) -> list[slice]:
        """Slice of the flat voxel index that belongs to each layer."""
        offsets = np.cumsum([0, *self.layer_sizes]).tolist()
        return [slice(start, stop) for start, stop in pairwise(offsets)]

    @cached_property
    def voxel_layer(self) -> NDArray[np.int64]:
        """Position (not id) of each voxel's layer, shape (n_voxels,)."""
        return np.repeat(np.arange(self.n_layers), self.layer_sizes)

    @cached_property
    def grid(self) -> tuple[int, int, int] | None:
        """Numbers of layers, angular bins and radial bins, if all layers have as many bins."""
        bins = {(layer.n_alpha, layer.n_r) for layer in self.layers}
        return (self.n_layers, *bins.pop()) if len(bins) == 1 else None

    @cached_property
    def is_regular(self) -> bool:
        """Whether all layers are alike, with rings of equal width."""
        first, width = self.layers[0], self.layers[0].r_edges[-1]
        alike = all((layer.r_edges, layer.n_alpha) == (first.r_edges, first.n_alpha) for layer in self.layers)
        return alike and np.allclose(first.r_edges, np.linspace(0, width, first.n_r + 1), rtol=0, atol=1e-6 * width)

    @property
    def deposit(self) -> float:
        """Energy in the sensitive material over that of a voxel: below 1 where voxels are calibrated."""
        return SAMPLING_FRACTION if self.name in ("2", "3") else 1.0

    def layer_energies(self, voxels: NDArray, dtype: type[np.floating] = np.float64) -> NDArray:
        """Sums over the voxels (N, V) of each layer, shape (N, L)."""
        return np.add.reduceat(voxels, [columns.start for columns in self.layer_slices], axis=1, dtype=dtype)

    def voxels_at(self, layers: NDArray, x: NDArray, y: NDArray) -> NDArray[np.int64]:
        """Index of the voxel of each hit, -1 outside the mesh, shape (P,).

        Args:
            layers: ids of the layers, shape (P,).
            x: along alpha = 0 from the axis [mm], shape (P,).
            y: along alpha = pi / 2 from the axis [mm], shape (P,).
        """
        radius, alpha = np.hypot(x, y), np.arctan2(y, x)
        index = np.full(len(radius), -1)
        for layer, columns in zip(self.layers, self.layer_slices, strict=True):
            inside = (layers == layer.id) & (radius >= layer.r_edges[0]) & (radius < layer.r_edges[-1])
            sectors = ((alpha[inside] + np.pi) / (2 * np.pi) * layer.n_alpha).astype(int)
            rings = np.searchsorted(layer.r_edges, radius[inside], side="right") - 1
            index[inside] = columns.start + np.minimum(sectors, layer.n_alpha - 1) * layer.n_r + rings
        return index

    @classmethod
    def load(cls, spec: str | Path) -> "Geometry":
        """Returns a built-in geometry by its dataset id, or reads a binning XML file, which may be one of the package.

        Raises:
            CalomanError: if `spec` is neither a dataset id nor a readable binning file.
        """
        if str(spec) in BUILT_IN:
            return BUILT_IN[str(spec)]
        if Path(spec).suffix == ".xml":
            return cls.from_xml(shipped(Path(spec)))
        raise CalomanError(f"unknown dataset {str(spec)!r}: use one of {', '.join(BUILT_IN)} or a binning .xml file")

    @classmethod
    def from_xml(cls, path: str | Path, particle: str | None = None) -> "Geometry":
        """Reads a CaloChallenge binning file.

        Args:
            path: file with one ``Bin`` element per particle and one ``Layer`` element per layer; a layer with a
                single edge has no voxels.
            particle: which ``Bin`` to read; may be left out if there is only one.

        Raises:
            CalomanError: if the file is missing, is not a binning file, or does not list the particle.
        """
        return cls.from_text(read_text(Path(path)), str(path), particle)

    @classmethod
    def from_text(cls, text: str, path: str, particle: str | None = None) -> "Geometry":
        """Reads the text of a CaloChallenge binning file, which comes from `path`; see `from_xml`."""
        if "<!" in text.replace("<!--", ""):
            raise CalomanError(f"{path}: a binning XML file needs no <!DOCTYPE and no entities; remove them")
        try:
            bins = ET.fromstring(text).findall("Bin")
        except (ValueError, ET.ParseError) as error:
            raise CalomanError(f"{path}: not a readable binning XML file ({error})") from None
        found = {element.get("name", "")[:LONGEST_NAME]: element for element in bins}
        particle = particle or (next(iter(found)) if len(found) == 1 else "")
        if particle not in found:
            listed = ", ".join(map(repr, sorted(found)[:LONGEST_NAME]))
            raise CalomanError(f"{path}: no binning for particle {particle!r}; the file lists {listed or 'none'}")
        element = found[particle]
        try:
            layers = tuple(layer for layer in map(_layer_from_xml, element.findall("Layer")) if layer)
            threshold = float(element.get("threshold", 0.0))
            geometry = cls(element.get("dataset", Path(path).stem), particle, layers, threshold)
        except (KeyError, ValueError, OverflowError, CalomanError) as error:
            reason = str(error)[: 2 * LONGEST_NAME]
            raise CalomanError(f"{path}: unreadable layer in the binning of {particle!r} ({reason})") from None
        official = BUILT_IN.get(geometry.name)
        if official and (official if "threshold" in element.attrib else replace(official, threshold=0.0)) != geometry:
            raise CalomanError(f"{path}: is called {geometry.name!r} but is not that mesh; give it a name of its own")
        return geometry

    def to_xml(self, path: str | Path) -> None:
        """Writes the mesh as a CaloChallenge binning file; see `to_text`."""
        write(Path(path), self.to_text())

    def to_text(self) -> str:
        """The mesh as the text of a CaloChallenge binning file.

        Layer ids equal positions in that format, so missing ids are written as layers without voxels. The attributes
        ``threshold`` and ``dataset`` are additions that the official reader ignores.
        """
        root = ET.Element("Bins")
        attributes = {"name": self.particle, "threshold": repr(self.threshold), "dataset": self.name}
        if self.particle in PDG_CODES:
            attributes = {"pid": str(PDG_CODES[self.particle]), **attributes}
        element = ET.SubElement(root, "Bin", attributes)
        by_id = {layer.id: layer for layer in self.layers}
        for layer_id in range(max(by_id) + 1):
            layer = by_id.get(layer_id)
            edges = ",".join(f"{edge:.17g}" for edge in layer.r_edges) if layer else "0"
            n_alpha = layer.n_alpha if layer else 1
            ET.SubElement(element, "Layer", id=str(layer_id), r_edges=edges, n_bin_alpha=str(n_alpha))
        ET.indent(root)
        return ET.tostring(root, encoding="unicode")


def _layer_from_xml(element: ET.Element) -> Layer | None:
    edges = tuple(float(edge) for edge in element.attrib["r_edges"].split(","))
    if len(edges) < 2:
        return None
    return Layer(int(element.attrib["id"]), edges, int(element.attrib["n_bin_alpha"]))


def _regular(name: str, n_alpha: int, n_r: int) -> Geometry:
    """The meshes of datasets 2 and 3: 45 equal layers out to 41.85 mm, 0.5 keV readout over a sampling of 0.033."""
    edges = tuple(41.85 * i / n_r for i in range(n_r + 1))
    return Geometry(name, "electron", tuple(Layer(i, edges, n_alpha) for i in range(45)), 0.5e-3 / SAMPLING_FRACTION)


_PRESAMPLER = (0, 5, 10, 30, 50, 100, 200, 400, 600)
_BACK = (0, 50, 100, 200, 400, 600)
_TILE = (0, 10, 20, 30, 50, 80, 100, 130, 160, 200, 250, 300, 350, 400)

BUILT_IN = {
    "1-photons": Geometry(
        "1-photons",
        "photon",
        (
            Layer(0, _PRESAMPLER),
            Layer(1, (0, 2, 4, 6, 8, 10, 12, 15, 20, 30, 40, 50, 70, 90, 120, 150, 200), 10),
            Layer(2, (0, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 130, 160, 200, 250, 300, 350, 400), 10),
            Layer(3, _BACK),
            Layer(12, (0, 100, 200, 400, 1000, 2000)),
        ),
        threshold=1.0,
    ),
    "1-pions": Geometry(
        "1-pions",
        "pion",
        (
            Layer(0, _PRESAMPLER),
            Layer(1, (0, 1, 4, 7, 10, 15, 30, 50, 90, 150, 200), 10),
            Layer(2, (0, 5, 10, 20, 30, 50, 80, 130, 200, 300, 400), 10),
            Layer(3, _BACK),
            Layer(12, (*_TILE, 1000, 2000), 10),
            Layer(13, (*_TILE, 600, 1000, 2000), 10),
            Layer(14, (0, 50, 100, 150, 200, 250, 300, 400, 600, 1000, 2000)),
        ),
        threshold=1.0,
    ),
    "2": _regular("2", n_alpha=16, n_r=9),
    "3": _regular("3", n_alpha=50, n_r=18),
}
"""The four CaloChallenge meshes by dataset id (layers 12 to 14 of dataset 1 are the ATLAS tile calorimeter)."""
