"""Chunks of HDF5 tables, unzipped by several threads and never beyond their declared size.

HDF5 itself unzips with one thread, h5py holds Python's lock meanwhile, and a few kilobytes can unzip to gigabytes.
"""

import math
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

FILTERS = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32)
THREADS = min(8, os.cpu_count() or 1)
CHECKSUM = 4  # bytes that Fletcher's checksum adds to a chunk; gzip has its own, so it is not compared

Decoder = Callable[[bytes, int], NDArray[np.generic]]


def filters(table: h5py.Dataset) -> list[int]:
    """Codes of what each chunk went through when it was stored, in this order."""
    properties = table.id.get_create_plist()
    return [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]


def stored_chunks(table: h5py.Dataset) -> tuple[int, int]:
    """Bytes of the largest chunk as it is stored, and how many chunks are missing."""
    stored: list[int] = []
    table.id.chunk_iter(lambda chunk: stored.append(chunk.size))
    needed = math.prod(-(-size // chunk) for size, chunk in zip(table.shape, table.chunks, strict=True))
    return max(stored, default=0), needed - len(stored)


def read_rows(table: h5py.Dataset, start: int, out: NDArray[np.generic]) -> None:
    """Reads rows of a table into `out`, shape (n, ...), from row `start` on.

    Raises:
        OSError: if the file is damaged.
    """
    stop = start + len(out)
    codes, chunk = filters(table), table.chunks
    if not codes:
        if len(out):
            table.read_direct(out, np.s_[start:stop])
        return
    decode = partial(_decode, codes=codes, chunk=chunk, dtype=table.dtype)
    corners = list(product(*(range(0, size, step) for size, step in zip(table.shape[1:], chunk[1:], strict=True))))
    with ThreadPoolExecutor(THREADS) as pool:
        for first in range(start - start % chunk[0], stop, chunk[0]):
            low, high = max(first, start), min(first + chunk[0], stop)
            pieces = []
            for corner in corners:
                inside = tuple(np.s_[low : low + step] for low, step in zip(corner, chunk[1:], strict=True))
                target = out[(np.s_[low - start : high - start], *inside)]
                mask, content = table.id.read_direct_chunk((first, *corner))
                pieces.append(pool.submit(_fill, target, decode, content, mask, low - first))
            for piece in pieces:
                piece.result()


def read_stored(table: h5py.Dataset, dtype: np.dtype) -> NDArray[np.void]:
    """All entries of a table (N,) as their bytes are stored, taken for those of another type of the same size.

    Raises:
        OSError: if the file is damaged.
    """
    if table.chunks is None:
        with Path(table.file.filename).open("rb") as raw:
            raw.seek(table.id.get_offset() or 0)
            return np.frombuffer(raw.read(len(table) * dtype.itemsize), dtype, len(table))
    decode = partial(_decode, codes=filters(table), chunk=table.chunks, dtype=dtype)
    out = np.empty(len(table), dtype)
    for first in range(0, len(table), table.chunks[0]):
        mask, content = table.id.read_direct_chunk((first,))
        _fill(out[first : first + table.chunks[0]], decode, content, mask, 0)
    return out


def _fill(target: NDArray[np.generic], decode: Decoder, content: bytes, mask: int, skip: int) -> None:
    """Fills `target` with rows of a chunk, from its row `skip` on."""
    try:
        values = decode(content, mask)[skip : skip + len(target)]
    except (zlib.error, ValueError) as error:
        raise OSError(f"a chunk cannot be unzipped: {error}") from None
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which the readers report
        target[...] = values[tuple(np.s_[:size] for size in target.shape)]


def _decode(
    content: bytes, mask: int, codes: list[int], chunk: tuple[int, ...], dtype: np.dtype
) -> NDArray[np.generic]:
    """Undoes the filters of a chunk, but for those that the bits of `mask` say it skipped."""
    n_bytes = math.prod(chunk) * dtype.itemsize
    for index, code in reversed(list(enumerate(codes))):
        if mask >> index & 1:
            continue
        if code == h5py.h5z.FILTER_FLETCHER32:
            content = content[:-CHECKSUM]
        elif code == h5py.h5z.FILTER_DEFLATE:
            content = zlib.decompressobj().decompress(content, n_bytes + CHECKSUM)
        else:
            content = np.frombuffer(content, np.uint8).reshape(dtype.itemsize, -1).T.tobytes()
    return np.frombuffer(content, dtype).reshape(chunk)
