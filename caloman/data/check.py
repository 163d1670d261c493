"""``caloman check``: is this a readable shower file of that dataset, and could it be submitted?"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from caloman.data.official import OFFICIAL, energy_deviations
from caloman.data.voxel_order import order_fault
from caloman.errors import CalomanError, first_of
from caloman.showers.conditions import known, table_names
from caloman.showers.geometry import LONGEST_NAME, Geometry
from caloman.showers.hdf5 import find_table, open_hdf5, reading
from caloman.showers.showers import Showers, find_geometry
from caloman.showers.slices import ShowerFiles, parse_slices

OWN_DATASETS = ("incident_energies", "showers", "validation_rows")
ROUNDING = 1e-3  # by how much a file that was stored with few digits may fall below the threshold
PLAUSIBLE_MEAN = (0.2, 2.0)
LARGEST_RESPONSE = 10.0
UNITS = 10.0  # a mean E_tot / E_inc within this factor of 1000 or 1/1000 is a matter of units
NAMED = 5  # most extra datasets that are named


@dataclass(frozen=True)
class FileReport:
    """What a shower file holds.

    Args:
        path: the file.
        dataset: the geometry that it fits.
        rows: name, what was seen, what is official (or nothing).
        faults: what makes the file unusable for that dataset.
        deviations: differences from a file that can be submitted.
        submission: whether deviations count as faults.
    """

    path: str
    dataset: str
    rows: list[tuple[str, str, str]]
    faults: list[str]
    deviations: list[str]
    submission: bool = False

    @property
    def exit_status(self) -> int:
        """0 if the file is what was asked for."""
        return int(bool(self.faults or (self.submission and self.deviations)))

    def __str__(self) -> str:
        widths = [max(len(row[column]) for row in self.rows) for column in (0, 1)]
        table = [f"  {name:{widths[0]}}  {seen:{widths[1]}}  {wanted}".rstrip() for name, seen, wanted in self.rows]
        notes = [f"  fault: {fault}" for fault in self.faults]
        notes += [f"  {'fault' if self.submission else 'warning'}: {text}" for text in self.deviations]
        return "\n".join([f"{self.path}: {self._verdict()}", *table, *notes])

    def _verdict(self) -> str:
        if self.faults:
            return f"not valid for dataset {self.dataset}"
        if self.dataset not in OFFICIAL:
            return f"valid for dataset {self.dataset}"
        return f"valid for dataset {self.dataset}, {'not ' if self.deviations else ''}a submission"


def check(file: str, dataset: str | None = None, submission: bool = False) -> FileReport:
    """Checks that a shower file is readable, fits the dataset and holds plausible values.

    The exit status is 1 if it is not. What differs from the official file is a warning, or a fault of a submission.

    Args:
        file: HDF5 file with incident_energies (N, 1) and showers (N, V); some of its rows, such as file.hdf5[0:1000];
            or several joined by commas.
        dataset: dataset id (1-photons, 1-pions, 2, 3) or a binning .xml file; may be left out if the file names it.
        submission: whether the file has to be as official ones are, in counts, spectrum and threshold.

    Raises:
        CalomanError: with the first fault that stops reading: unreadable, wrong shape, NaN, negative voxel, energy that
            is not positive.
    """
    first = parse_slices(file)[0].path
    geometry = find_geometry(first, dataset)
    if submission and geometry.name not in OFFICIAL:
        raise CalomanError(
            f"--submission: {geometry.name} is not an official dataset; use one of {', '.join(OFFICIAL)}"
        )
    layout = _Layout(first)
    with (
        ShowerFiles(file, geometry) as showers,
        closing(tqdm(total=len(showers), unit="shower", desc="check", disable=None)) as bar,
    ):
        statistics = _Statistics(_counted(showers.blocks(), bar), geometry.n_voxels)
    return FileReport(
        path=file,
        dataset=geometry.name,
        rows=layout.rows() + _rows(statistics, geometry),
        faults=layout.faults() + _faults(statistics, geometry),
        deviations=layout.deviations() + _deviations(statistics, geometry),
        submission=submission,
    )


def _counted(blocks: Iterator[Showers], bar: tqdm) -> Iterator[Showers]:
    for block in blocks:
        yield block
        bar.update(len(block))


class _Layout:
    """How a file is stored: the tables that are expected, by name, as text and type; and the names of all else."""

    def __init__(self, path: Path) -> None:
        with open_hdf5(path) as file, reading(path):
            tables = {name: table for name in OWN_DATASETS[:2] if (table := find_table(file, name)) is not None}
            self.types = {name: table.dtype for name, table in tables.items()}
            own = (*OWN_DATASETS, *(known(name).table for name in table_names(file)))
            self.extra = [name for name in file if name not in own]
            self.storage = ""
            if showers := tables.get("showers"):
                chunks = f"chunks {showers.chunks}" if showers.chunks else "contiguous"
                self.storage = f"{chunks}, {showers.compression}" if showers.compression else chunks

    def rows(self) -> list[tuple[str, str, str]]:
        types = ", ".join(f"{name} {dtype}" for name, dtype in self.types.items())
        return [("numbers", types, "float64 or float32"), ("showers stored", self.storage, "")]

    def faults(self) -> list[str]:
        if self.types["showers"].kind == "f":
            return []
        return [f"'showers' are {self.types['showers']}, which cuts deposits to whole MeV; store them as float32"]

    def deviations(self) -> list[str]:
        found = []
        narrow = [f"{name!r} is {dtype}" for name, dtype in self.types.items() if dtype not in (np.float32, np.float64)]
        if narrow:
            found.append(f"{' and '.join(narrow)} instead of float32 or float64")
        if self.extra:
            listed = first_of([repr(name[:LONGEST_NAME]) for name in self.extra], NAMED)
            found.append(f"extra datasets {listed}, which readers ignore")
        return found


class _Statistics:
    """What one pass over the blocks of a file finds."""

    def __init__(self, blocks: Iterable[Showers], n_voxels: int) -> None:
        total, squares = np.zeros((2, n_voxels))
        energies, responses, hashes = [], [], []
        self.ends: dict[str, tuple[float, float]] = {}
        n_hits, self.smallest = 0, np.inf
        for block in blocks:
            deposits = block.voxels.sum(axis=1, dtype=np.float64)
            energies.append(block.incident_energies)
            responses.append(deposits / block.incident_energies)
            for name, values in block.conditions.items():
                low, high = self.ends.get(name, (np.inf, -np.inf))
                self.ends[name] = (min(low, float(values.min())), max(high, float(values.max())))
            # an empty shower is no copy of another
            hashes.append(np.array([hash(row.tobytes()) for row in block.voxels[deposits > 0]], np.int64))
            relative = block.voxels / block.incident_energies[:, None]
            total += relative.sum(axis=0, dtype=np.float64)
            squares += np.square(relative, out=relative).sum(axis=0, dtype=np.float64)
            hits = block.voxels > 0
            n_hits += int(np.count_nonzero(hits))
            self.smallest = min(self.smallest, float(block.voxels.min(where=hits, initial=np.inf)))
        self.energies, self.responses = np.concatenate(energies), np.concatenate(responses)
        n_showers, distinct = len(self.energies), np.concatenate(hashes)
        self.duplicates = len(distinct) - len(np.unique(distinct))
        self.empty = n_showers - len(distinct)
        self.zero_fraction = 1 - n_hits / (n_showers * n_voxels)
        self.smallest = self.smallest if n_hits else 0.0
        self.mean = total / n_showers
        self.variance = np.maximum(squares / n_showers - self.mean**2, 0) / n_showers


def _rows(seen: _Statistics, geometry: Geometry) -> list[tuple[str, str, str]]:
    official = OFFICIAL.get(geometry.name)
    counts = spectrum = threshold = ""
    if official:
        low, high = official.energy_range
        counts = " or ".join(map(str, official.n_showers))
        shape = f"{len(official.counts)} values" if official.counts else "log-uniform"
        spectrum = f"{low:.7g} to {high:.7g} MeV, {shape}"
        threshold = f"{official.threshold:.4g} MeV" if official.threshold else "any"
    n_values = len(np.unique(seen.energies))
    energies = f"{seen.energies.min():.7g} to {seen.energies.max():.7g} MeV, {n_values} values"
    response = seen.responses
    conditions = [(known(name).table, f"{low:.5g} to {high:.5g} {known(name).unit}".rstrip(), "")
                  for name, (low, high) in seen.ends.items()]  # fmt: skip
    return [
        ("showers", str(len(seen.energies)), counts),
        ("voxels", str(geometry.n_voxels), str(geometry.n_voxels)),
        ("incident energies", energies, spectrum),
        *conditions,
        ("E_tot / E_inc", f"{response.min():.3f} to {response.max():.3f}, mean {response.mean():.3f}", ""),
        ("smallest deposit", f"{seen.smallest:.4g} MeV", threshold),
        ("zero voxels", f"{100 * seen.zero_fraction:.1f} %", ""),
        ("empty showers", str(seen.empty), ""),
        ("duplicates", str(seen.duplicates), "0"),
    ]


def _faults(seen: _Statistics, geometry: Geometry) -> list[str]:
    faults = []
    mean = float(seen.responses.mean())
    for factor, what in ((1000.0, "'incident_energies'"), (0.001, "'showers'")):
        if factor / UNITS < mean < factor * UNITS:
            faults.append(f"E_tot / E_inc is {mean:.3g} on average: {what} seem to be in GeV; store MeV")
    order = order_fault(seen.mean, seen.variance, geometry)
    return [*faults, order] if order else faults


def _deviations(seen: _Statistics, geometry: Geometry) -> list[str]:
    official = OFFICIAL.get(geometry.name)
    found = energy_deviations(seen.energies, official) if official else []
    if official and 0 < seen.smallest < official.threshold * (1 - ROUNDING):
        found.append(
            f"deposits down to {seen.smallest:.3g} MeV are below the threshold of {official.threshold:.4g} MeV"
        )
    mean, largest = float(seen.responses.mean()), float(seen.responses.max())
    if not PLAUSIBLE_MEAN[0] < mean < PLAUSIBLE_MEAN[1]:
        found.append(f"E_tot / E_inc is {mean:.3g} on average, where about 1 is expected")
    if largest > LARGEST_RESPONSE:
        found.append(f"{int((seen.responses > LARGEST_RESPONSE).sum())} showers have E_tot / E_inc up to {largest:.3g}")
    if seen.duplicates:
        found.append(f"{seen.duplicates} showers are copies of another one")
    return found
