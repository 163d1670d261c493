"""``caloman prepare``: official shower files in, one file out that training reads at disk speed."""

import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from caloman.data.foreign import ForeignFile
from caloman.data.lemurs import LemursFile
from caloman.data.npz import NpzFile
from caloman.data.showerdata import ShowerDataFile
from caloman.errors import CalomanError
from caloman.files import sha256
from caloman.showers.conditions import check_equal_names
from caloman.showers.geometry import Geometry
from caloman.showers.rebinning import Rebinning
from caloman.showers.showers import ShowerFile, Showers, find_geometry
from caloman.showers.slices import ShowerFiles, ShowerSlice, parse_slices
from caloman.showers.spectra import check_seed
from caloman.showers.writer import ShowerWriter

Format = Literal["calochallenge", "lemurs", "npz", "showerdata"]
Source = ShowerFiles | ForeignFile
FOREIGN: dict[str, type[ForeignFile]] = {"lemurs": LemursFile, "npz": NpzFile, "showerdata": ShowerDataFile}


@dataclass(frozen=True)
class PreparedFile:
    """What was prepared.

    Args:
        path: the new file.
        dataset: the geometry of its showers.
        n_showers: number of showers.
        n_validation: how many of them are for validation.
        n_bytes: size of the file.
        sources: name, sha256 and number of showers of each source.
    """

    path: str
    dataset: str
    n_showers: int
    n_validation: int
    n_bytes: int
    sources: list[dict[str, str | int]]

    def __str__(self) -> str:
        sources = "\n".join(f"  {s['showers']:>9} from {s['name']} (SHA-256 {s['sha256']})" for s in self.sources)
        return (
            f"{self.path}: {self.n_showers} showers of dataset {self.dataset}, {self.n_bytes / 2**20:.0f} MiB, "
            f"{self.n_validation} for validation; read back and compared\n{sources}"
        )


def prepare(
    inputs: list[str],
    output: str,
    dataset: str | None = None,
    compress: bool = False,
    validation_fraction: float = 0.1,
    seed: int = 0,
    format: Format = "calochallenge",
    into: str | None = None,
) -> PreparedFile:
    """Joins shower files into one that training reads at disk speed.

    The showers are float32 and lie row after row, so that the file can be memory-mapped. The file appears only when it
    is complete, was read back and equals what was read from the sources.

    Args:
        inputs: HDF5 files, or some of their rows, such as file.hdf5[0:1000].
        output: the file to make; an older one is replaced when the new one is complete.
        dataset: dataset id (1-photons, 1-pions, 2, 3) or a binning .xml file; may be left out if the first file says.
        compress: gzip in chunks of whole rows: smaller, but slower to read, and it cannot be memory-mapped.
        validation_fraction: part of the showers that is set aside for validation, recorded as ``validation_rows``.
        seed: seed of the choice of these showers.
        format: layout of the files; all but those of the CaloChallenge need --dataset.
        into: binning .xml file of a coarser mesh, whose edges are all edges of the finer one, to sum the voxels into.

    Raises:
        CalomanError: if a source is unreadable or does not fit, or if the file cannot be written.
    """
    if not 0 <= validation_fraction < 1:
        raise CalomanError(f"--validation-fraction {validation_fraction:g} must be at least 0 and less than 1")
    check_seed(seed)
    target = Path(output)
    if not inputs:
        raise CalomanError(f"{target}: nothing to prepare it from; name at least one file with showers before it")
    parts = parse_slices(inputs)
    _check_distinct(parts, target)
    geometry = find_geometry(parts[0].path, dataset)
    rebinning = Rebinning(geometry, Geometry.load(into)) if into else None
    with ExitStack() as stack:
        sources = _open(parts, geometry, format, stack)
        n_showers = sum(map(len, sources))
        rows = choose_validation_rows(n_showers, validation_fraction, seed)
        mesh = rebinning.coarse if rebinning else geometry
        writer = _VerifiedWriter(
            target, mesh, {}, "gzip" if compress else "none", n_showers, sources[0].condition_names
        )
        stack.enter_context(writer)
        bar = stack.enter_context(tqdm(total=n_showers, unit="shower", desc="prepare", disable=None))
        origin = _copy(sources, rebinning, writer, bar)
        split = {"validation_fraction": validation_fraction, "split_seed": seed}
        writer.finish(rows, {**split, "sources": json.dumps(origin)})
    return PreparedFile(output, mesh.name, n_showers, len(rows), target.stat().st_size, origin)


def _open(parts: Sequence[ShowerSlice], geometry: Geometry, format: Format, stack: ExitStack) -> list[Source]:
    """Opens the sources, which need the same conditions, until the stack closes them."""
    sources: list[Source] = []
    for part in parts:
        source: Source = FOREIGN[format](part, geometry) if format in FOREIGN else ShowerFiles([str(part)], geometry)
        stack.enter_context(source)
        sources.append(source)
        check_equal_names(source.condition_names, sources[0].condition_names, part.path)
    return sources


def choose_validation_rows(n_showers: int, fraction: float, seed: int) -> NDArray[np.int64]:
    """Rows of the showers that are set aside for validation, ascending; the same for the same arguments."""
    chosen = np.random.default_rng(seed).choice(n_showers, round(fraction * n_showers), replace=False)
    return np.sort(chosen).astype(np.int64)


def _check_distinct(parts: Sequence[ShowerSlice], target: Path) -> None:
    """Makes sure that no source is the target, and that no shower comes twice."""
    seen: dict[str, list[ShowerSlice]] = {}
    for part in parts:
        path = os.path.realpath(part.path)  # Path.resolve fails on links in a circle
        if path == os.path.realpath(target):
            raise CalomanError(f"{part.path}: is both source and target; give the prepared file a name of its own")
        if any(part.start < other.end and other.start < part.end for other in seen.get(path, [])):
            raise CalomanError(f"{part}: is given twice; name each file, or each of its rows, once")
        seen.setdefault(path, []).append(part)


def _copy(
    sources: Sequence[Source],
    rebinning: Callable[[Showers], Showers] | None,
    writer: "_VerifiedWriter",
    bar: tqdm,
) -> list[dict[str, str | int]]:
    """Copies all sources and returns where the showers came from."""
    parts = [part for source in sources for part in source.slices]
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as hashing:
        digests = {path: hashing.submit(sha256, path) for path in dict.fromkeys(part.path for part in parts)}
        try:
            for source in sources:
                for block in _ahead(source.blocks(), reading):
                    writer.append(rebinning(block) if rebinning else block)
                    bar.update(len(block))
        except BaseException:
            hashing.shutdown(wait=False, cancel_futures=True)
            raise
        hashes = {path: digest.result() for path, digest in digests.items()}
    first: dict[str, Path] = {}
    for path, digest in hashes.items():
        other = first.setdefault(digest, path)
        if not path.samefile(other):
            raise CalomanError(f"{path}: has the same content as {other}; name each file once")
    return [
        {"name": f"{part.path.name}{part.rows}", "sha256": hashes[part.path], "showers": len(source)}
        for part, source in zip(parts, sources, strict=True)
    ]


def _ahead(blocks: Iterator[Showers], pool: Executor) -> Iterator[Showers]:
    """Reads the next block while the last one is in use; unzipping is what takes the time."""
    following = pool.submit(next, blocks, None)
    while (block := following.result()) is not None:
        following = pool.submit(next, blocks, None)
        yield block


class _VerifiedWriter(ShowerWriter):
    """Writes a file that is read back before it takes its name."""

    def __enter__(self) -> Self:
        self._checksums: dict[str, int] = {}
        return super().__enter__()

    def append(self, showers: Showers) -> None:
        super().append(showers)
        _add_checksums(self._checksums, showers)

    def finish(self, validation_rows: NDArray[np.int64], attributes: Mapping[str, object]) -> None:
        """Records where the showers come from, and which of them are for validation."""
        self._file["validation_rows"] = validation_rows
        self._file.attrs.update(attributes)

    def _complete(self, partial: Path) -> None:
        if checksums(partial, self.geometry) != self._checksums:
            raise CalomanError(
                f"{self.path}: does not read back as it was written; check the disk and prepare it again"
            )


def checksums(path: Path, geometry: Geometry) -> dict[str, int]:
    """CRC-32 of conditions and voxels of a file, row after row as float32, whatever its layout."""
    found: dict[str, int] = {}
    with ShowerFile(path, geometry) as file:
        for block in file.blocks():
            _add_checksums(found, block)
    return found


def _add_checksums(sums: dict[str, int], showers: Showers) -> None:
    columns = {"incident_energies": showers.incident_energies, **showers.conditions, "showers": showers.voxels}
    for name, values in columns.items():
        sums[name] = zlib.crc32(np.ascontiguousarray(values).data, sums.get(name, 0))
