"""``caloman prepare``: official shower files in, one file out that training reads at disk speed."""

import errno
import json
import os
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from caloman.errors import CalomanError
from caloman.files import sha256
from caloman.showers.geometry import Geometry
from caloman.showers.hdf5 import SPARE_BYTES, check_space, open_hdf5, writing
from caloman.showers.showers import CHUNK_BYTES, ShowerFile, Showers, find_geometry

VERIFY_BYTES = 16 * 2**20
NAMES = ("incident_energies", "showers")


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
) -> PreparedFile:
    """Joins shower files into one that training reads at disk speed.

    The showers are float32 and lie row after row, so that the file can be memory-mapped. The file appears only when it
    is complete, was read back and equals what was read from the sources.

    Args:
        inputs: HDF5 files in the CaloChallenge format.
        output: the file to make; an older one is replaced when the new one is complete.
        dataset: dataset id (1-photons, 1-pions, 2, 3) or a binning .xml file; may be left out if the first file says.
        compress: gzip in chunks of whole rows: smaller, but slower to read, and it cannot be memory-mapped.
        validation_fraction: part of the showers that is set aside for validation, recorded as ``validation_rows``.
        seed: seed of the choice of these showers.

    Raises:
        CalomanError: if a source is unreadable or does not fit, or if the file cannot be written.
    """
    if not 0 <= validation_fraction < 1:
        raise CalomanError(f"--validation_fraction {validation_fraction:g} must be at least 0 and less than 1")
    if seed < 0:
        raise CalomanError(f"--seed {seed} must not be negative")
    target = Path(output)
    _check_distinct(inputs, target)
    geometry = find_geometry(inputs[0], dataset)
    with ExitStack() as stack:
        sources = [stack.enter_context(ShowerFile(path, geometry)) for path in inputs]
        n_showers = sum(map(len, sources))
        rows = choose_validation_rows(n_showers, validation_fraction, seed)
        writer = stack.enter_context(_Writer(target, geometry, n_showers, compress))
        bar = stack.enter_context(tqdm(total=n_showers, unit="shower", desc="prepare", disable=not sys.stderr.isatty()))
        origin = _copy(sources, writer, bar)
        attributes: dict[str, object] = {
            "validation_fraction": validation_fraction,
            "split_seed": seed,
            "sources": json.dumps(origin),
        }
        writer.finish(rows, attributes)
    return PreparedFile(output, geometry.name, n_showers, len(rows), target.stat().st_size, origin)


def choose_validation_rows(n_showers: int, fraction: float, seed: int) -> NDArray[np.int64]:
    """Rows of the showers that are set aside for validation, ascending; the same for the same arguments."""
    chosen = np.random.default_rng(seed).choice(n_showers, round(fraction * n_showers), replace=False)
    return np.sort(chosen).astype(np.int64)


def _check_distinct(inputs: Sequence[str], target: Path) -> None:
    if not inputs:
        raise CalomanError(f"{target}: nothing to prepare it from; name at least one file with showers before it")
    seen = [target.resolve()]
    for path in inputs:
        resolved = Path(path).resolve()
        if resolved == seen[0]:
            raise CalomanError(f"{path}: is both source and target; give the prepared file a name of its own")
        if resolved in seen:
            raise CalomanError(f"{path}: is given twice; name each file once")
        seen.append(resolved)


def _copy(sources: Sequence[ShowerFile], writer: "_Writer", bar: tqdm) -> list[dict[str, str | int]]:
    """Copies all sources and returns where the showers came from."""
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as hashing:
        digests = [hashing.submit(sha256, source.path) for source in sources]
        try:
            for source in sources:
                for block in _ahead(source.blocks(), reading):
                    writer.append(block)
                    bar.update(len(block))
        except BaseException:
            hashing.shutdown(wait=False, cancel_futures=True)
            raise
        hashes = [digest.result() for digest in digests]
    for position, (source, digest) in enumerate(zip(sources, hashes, strict=True)):
        if digest in hashes[:position]:
            other = sources[hashes.index(digest)].path
            raise CalomanError(f"{source.path}: has the same content as {other}; name each file once")
    return [
        {"name": source.path.name, "sha256": digest, "showers": len(source)}
        for source, digest in zip(sources, hashes, strict=True)
    ]


def _ahead(blocks: Iterator[Showers], pool: Executor) -> Iterator[Showers]:
    """Reads the next block while the last one is in use; unzipping is what takes the time."""
    following = pool.submit(next, blocks, None)
    while (block := following.result()) is not None:
        following = pool.submit(next, blocks, None)
        yield block


class _Writer:
    """The prepared file while it is made: hidden under a temporary name until it is complete and verified.

    Args:
        path: its final name.
        geometry: the mesh of the showers.
        n_showers: how many showers it will hold.
        compress: gzip instead of plain rows.
    """

    def __init__(self, path: Path, geometry: Geometry, n_showers: int, compress: bool) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._checksums = dict.fromkeys(NAMES, 0)
        self._stop = 0
        n_bytes = 0 if compress else 4 * n_showers * (geometry.n_voxels + 1)
        check_space(path, n_bytes)
        with writing(path):
            # since HDF5 1.8 attributes may be longer than 64 KiB, as the geometry's can be
            self._file = h5py.File(self._partial, "w", libver=("v108", "v108"))
            self._datasets = [self._create("incident_energies", n_showers, 1, compress)]
            self._datasets.append(self._create("showers", n_showers, geometry.n_voxels, compress))
            self._file.attrs.update({"dataset": geometry.name, "geometry": geometry.to_text()})
        self._reserve(n_bytes)

    def _create(self, name: str, rows: int, columns: int, compress: bool) -> h5py.Dataset:
        if not compress:
            return self._file.create_dataset(name, (rows, columns), np.float32)
        chunks = (min(rows, max(1, CHUNK_BYTES // (4 * columns))), columns)
        return self._file.create_dataset(
            name, (rows, columns), np.float32, chunks=chunks, compression="gzip", compression_opts=1, shuffle=True
        )

    def _reserve(self, n_bytes: int) -> None:
        """Takes the space that is needed next: a disk that fills up while HDF5 writes would crash the process."""
        if not hasattr(os, "posix_fallocate"):
            return check_space(self.path, n_bytes)
        with self._partial.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), self._file.id.get_filesize(), n_bytes + SPARE_BYTES)
            except OSError as error:
                check_space(self.path, n_bytes)  # says how much is missing
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # such as a quota
                    with writing(self.path):
                        raise
        return None

    def append(self, showers: Showers) -> None:
        """Writes the next showers.

        Raises:
            CalomanError: if it cannot be written or there is not enough space.
        """
        if self._datasets[1].chunks:
            self._reserve(showers.voxels.nbytes)
        start, self._stop = self._stop, self._stop + len(showers)
        for dataset, values in zip(self._datasets, (showers.incident_energies[:, None], showers.voxels), strict=True):
            name = dataset.name.removeprefix("/")
            self._checksums[name] = zlib.crc32(np.ascontiguousarray(values).data, self._checksums[name])
            with writing(self.path):
                dataset[start : self._stop] = values

    def finish(self, validation_rows: NDArray[np.int64], attributes: Mapping[str, object]) -> None:
        """Completes the file, reads it back, and gives it its final name.

        Raises:
            CalomanError: if what is read differs from what was written.
        """
        with writing(self.path):
            self._file["validation_rows"] = validation_rows
            self._file.attrs.update(attributes)
            self._file.flush()
            n_bytes = self._file.id.get_filesize()
            self._file.close()
            with self._partial.open("r+b") as file:
                file.truncate(n_bytes)  # gives back what was reserved in excess
                os.fsync(file.fileno())
        if checksums(self._partial) != self._checksums:
            raise CalomanError(
                f"{self.path}: does not read back as it was written; check the disk and prepare it again"
            )
        with writing(self.path):
            self._partial.replace(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            with suppress(RuntimeError):  # what could not be flushed is deleted in any case
                self._file.close()
        finally:
            self._partial.unlink(missing_ok=True)


def checksums(path: Path) -> dict[str, int]:
    """CRC-32 of the values of each dataset of a shower file, row after row, whatever its layout."""
    with open_hdf5(path) as file:
        return {name: _crc32(_rows(file[name])) for name in NAMES}


def _crc32(blocks: Iterator[NDArray[np.generic]]) -> int:
    value = 0
    for block in blocks:
        value = zlib.crc32(block.data, value)
    return value


def _rows(dataset: h5py.Dataset) -> Iterator[NDArray[np.generic]]:
    chunk = dataset.chunks[0] if dataset.chunks else 1
    step = max(1, VERIFY_BYTES // (dataset.dtype.itemsize * dataset.shape[1] * chunk)) * chunk
    buffer = np.empty((min(step, len(dataset)), dataset.shape[1]), dataset.dtype)
    for start in range(0, len(dataset), step):
        rows = min(step, len(dataset) - start)
        dataset.read_direct(buffer, np.s_[start : start + rows], np.s_[:rows])
        yield buffer[:rows]
