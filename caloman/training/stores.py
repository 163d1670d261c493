"""Where the training showers are while they are trained on: in memory, or on disk."""

import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloman.errors import CalomanError
from caloman.showers.conditions import Conditions
from caloman.showers.showers import ShowerFile
from caloman.showers.slices import ShowerFiles

BUFFER_BYTES = 256 * 2**20
BLOCK_BYTES = 2**20

Rows = NDArray[np.int64]


@dataclass(eq=False)
class LoadedShowers:
    """Showers in memory: voxels [MeV], shape (N, V), and conditions, shape (N, C)."""

    voxels: NDArray[np.float32]
    conditions: NDArray[np.float32]
    group: int = 1
    """Number of blocks at hand at the same time, so that their rows may be taken in any order."""

    def block_of(self, rows: Rows) -> Rows:
        """Number of the block of each row, shape (n,)."""
        return np.zeros_like(rows)

    def take(self, rows: Rows) -> NDArray[np.float32]:
        """Voxels of some rows [MeV], shape (n, V)."""
        return self.voxels[rows]


class StreamedShowers:
    """Checked showers that stay on disk, with the interface of `LoadedShowers`.

    Contiguous float32 files are mapped. Others are decoded in blocks of whole chunk rows, of which the last `group`
    are kept. Each read opens its file anew: no handle can cross a fork to a worker, and pages of a closed map do not
    count as memory of the process.
    """

    def __init__(self, files: ShowerFiles, conditions: NDArray[np.float32]) -> None:
        self.conditions = conditions
        self.geometry = files.geometry
        self._row_bytes = 4 * files.geometry.n_voxels
        self._paths = [part.path for part in files.slices]
        self._offsets = [file.offset for file in files.files]
        self._starts = files.starts
        # row of a file minus row among all slices
        self._shifts = np.array([rows.start for rows in files.rows]) - files.starts[:-1]
        chunks = [file.chunk_rows for file in files.files]
        block_rows = [rows * max(1, BLOCK_BYTES // (rows * self._row_bytes)) for rows in chunks]
        edges = []
        for first, end, shift, rows in zip(self._starts, self._starts[1:], self._shifts, block_rows, strict=False):
            aligned = np.arange((first + shift) // rows * rows, end + shift, rows) - shift
            edges.append(np.maximum(aligned, first))
        self._edges = np.append(np.concatenate(edges), self._starts[-1])
        self.group = max(2, BUFFER_BYTES // (max(block_rows) * self._row_bytes))
        self._recent: OrderedDict[int, NDArray[np.float32] | None] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_recent": OrderedDict()}

    def block_of(self, rows: Rows) -> Rows:
        return np.searchsorted(self._edges, rows, side="right") - 1

    def take(self, rows: Rows) -> NDArray[np.float32]:
        voxels = np.empty((len(rows), self.geometry.n_voxels), np.float32)
        blocks = self.block_of(rows)
        for block in dict.fromkeys(blocks.tolist()):  # in the order of use, so that the oldest are forgotten first
            decoded = self._visit(block)
            if decoded is not None:
                at = np.flatnonzero(blocks == block)
                voxels[at] = decoded[rows[at] - self._edges[block]]
        slices = self._slice_of(rows)
        for index in np.unique(slices).tolist():
            if self._offsets[index] is not None:
                self._take_mapped(index, rows, np.flatnonzero(slices == index), voxels)
        return voxels

    def _slice_of(self, rows: Any) -> Any:  # noqa: ANN401 - one row or an array
        return np.searchsorted(self._starts, rows, side="right") - 1

    def _take_mapped(self, index: int, rows: Rows, at: NDArray[np.intp], voxels: NDArray[np.float32]) -> None:
        path, stop = self._paths[index], int(self._starts[index + 1] + self._shifts[index])
        try:
            mapped = np.memmap(path, np.float32, "r", self._offsets[index] or 0, (stop, voxels.shape[1]))
        except (OSError, ValueError):
            raise CalomanError(f"{path}: changed during training; restore it and run the same command again") from None
        file_rows = rows[at] + self._shifts[index]
        if len(at) == len(rows):
            np.take(mapped, file_rows, axis=0, out=voxels, mode="clip")  # any other mode would go through a copy
        else:
            voxels[at] = mapped[file_rows]

    def _visit(self, block: int) -> NDArray[np.float32] | None:
        """Voxels of a block, read if it is not at hand; None if it is mapped."""
        if block not in self._recent:
            while len(self._recent) >= self.group:
                self._recent.popitem(last=False)
            self._recent[block] = self._read_block(block)
        self._recent.move_to_end(block)
        return self._recent[block]

    def _read_block(self, block: int) -> NDArray[np.float32] | None:
        start, stop = self._edges[block : block + 2]
        index = int(self._slice_of(start))
        path, offset = self._paths[index], self._offsets[index]
        first, last = int(start + self._shifts[index]), int(stop + self._shifts[index])
        if offset is None:
            with ShowerFile(path, self.geometry) as file:
                return file.read(first, last).voxels
        if hasattr(os, "posix_fadvise"):  # a hint to read ahead, which not every system takes
            with path.open("rb") as mapped:
                begin, length = offset + first * self._row_bytes, (last - first) * self._row_bytes
                os.posix_fadvise(mapped.fileno(), begin, length, os.POSIX_FADV_WILLNEED)
        return None


ShowerStore = LoadedShowers | StreamedShowers


def open_store(files: ShowerFiles, conditions: Conditions, count: int, memory_bytes: float) -> ShowerStore:
    """Reads and checks the first `count` showers once, and keeps them in memory if their voxels fit."""
    n_voxels = files.geometry.n_voxels
    voxels = np.empty((count, n_voxels), np.float32) if 4 * count * n_voxels <= memory_bytes else None
    matrix = np.empty((count, len(conditions)), np.float32)
    start = 0
    for block in files.blocks():
        rows = block[: count - start]
        values = conditions.matrix(rows.incident_energies, rows.conditions, files.slices[0].path)
        matrix[start : start + len(rows)] = values
        if voxels is not None:
            voxels[start : start + len(rows)] = rows.voxels
        start += len(rows)
        if start == count:
            break
    return StreamedShowers(files, matrix) if voxels is None else LoadedShowers(voxels, matrix)
