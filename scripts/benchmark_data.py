"""Times the data module against the files it replaces, and measures the memory of an epoch that does not fit in it.

Usage: python scripts/benchmark_data.py [--showers 4000] [--workers 0] [--large 0] [--folder FOLDER]

Files are read repeatedly and so from the system's page cache, where reading in sequence is as fast as it can be. With
--large 20000 it also writes 3.2 GB in the shape of dataset 3, and deletes them afterwards.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from caloman.showers.geometry import Geometry
from caloman.training.data import DataConfig, ShowerDataModule

OFFICIAL_CHUNKS = (391, 51)
SINGLE_ROWS = 40
REPEATS = 5
MEMORY_TARGET = 1.5


def blocks(n: int, n_voxels: int, zeros: float = 0.75) -> Iterator[NDArray[np.float32]]:
    """Sparse voxels of random energies [MeV] in blocks, with as many zeros as showers have."""
    rng = np.random.default_rng(0)
    rows = max(1, 2**24 // n_voxels)
    for start in range(0, n, rows):
        shape = (min(rows, n - start), n_voxels)
        voxels = rng.random(shape, dtype=np.float32)
        yield np.where(voxels < zeros, np.float32(0), voxels)


def write(path: Path, n: int, n_voxels: int, **layout: object) -> None:
    """Writes a shower file in a given layout."""
    start = 0
    with h5py.File(path, "w") as file:
        file["incident_energies"] = np.full((n, 1), 1e5)
        showers = file.create_dataset("showers", (n, n_voxels), **layout)
        for block in blocks(n, n_voxels):
            showers[start : start + len(block)] = block
            start += len(block)


def fastest(*functions: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Shortest wall time [s] of each function, called in turns so that all meet the same machine."""
    times = [[time_of(function) for function in functions] for _ in range(repeats + 1)]
    return np.min(times[1:], axis=0).tolist()


def time_of(function: Callable[[], object]) -> float:
    """Wall time [s] of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def read_single_rows(path: Path) -> None:
    """Reads random showers one by one, as a map-style data set on the official file does."""
    with h5py.File(path) as file:
        for row in np.random.default_rng(1).integers(len(file["showers"]), size=SINGLE_ROWS):
            file["showers"][row]


def read_raw(path: Path) -> None:
    """Reads all bytes of a file in sequence, into the same buffer."""
    buffer = bytearray(2**24)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def epoch(data: ShowerDataModule) -> Callable[[], None]:
    """One pass over all batches of the training and validation showers, in a new order each time."""
    loaders = data.train_dataloader(), data.val_dataloader()

    def run() -> None:
        loaders[0].sampler.set_epoch(loaders[0].sampler.epoch + 1)
        for loader in loaders:
            for _ in loader:
                pass

    return run


def streamed(path: Path, dataset: str, workers: int, batch_size: int) -> ShowerDataModule:
    """The data module on a file that is not allowed in memory."""
    data = ShowerDataModule(Geometry.load(dataset), DataConfig([str(path)], memory_limit=0.0, workers=workers), seed=0)
    data.batch_size = batch_size
    return data


def measure_speed(folder: Path, n: int, workers: int) -> None:
    """Prints showers per second of the three ways to read, and their ratios."""
    n_voxels = Geometry.load("2").n_voxels
    official, prepared = folder / "official.hdf5", folder / "prepared.hdf5"
    chunks = (min(n, OFFICIAL_CHUNKS[0]), OFFICIAL_CHUNKS[1])
    write(official, n, n_voxels, dtype=np.float64, chunks=chunks, compression="gzip")
    write(prepared, n, n_voxels, dtype=np.float32)
    decoded = n / time_of(epoch(streamed(official, "2", workers, batch_size=512)))
    single = SINGLE_ROWS / fastest(lambda: read_single_rows(official), repeats=1)[0]
    data = streamed(prepared, "2", workers, batch_size=512)
    raw, mapped = (n / seconds for seconds in fastest(lambda: read_raw(prepared), epoch(data)))
    print(f"{n} showers of dataset 2 ({n * n_voxels * 4 / 1e6:.0f} MB as float32), batches of 512, {workers} workers")
    print(f"  official file, random single rows   {single:10.0f} showers/s")
    print(f"  official file, shuffled epoch       {decoded:10.0f} showers/s")
    print(f"  prepared file, shuffled epoch       {mapped:10.0f} showers/s")
    print(f"  prepared file, raw sequential read  {raw:10.0f} showers/s  ({raw * n_voxels * 4 / 1e9:.1f} GB/s)")
    print(f"  epoch / single rows                 {mapped / single:10.0f}  (target 100)")
    print(f"  epoch / raw read                    {mapped / raw:10.2f}  (target 0.5)")


def measure_memory(folder: Path, n: int, workers: int) -> None:
    """Prints the peak resident memory of reading, checking and training on a file in the shape of dataset 3."""
    n_voxels = Geometry.load("3").n_voxels
    path = folder / "large.hdf5"
    before = peak_gigabytes()
    write(path, n, n_voxels, dtype=np.float32)
    written = peak_gigabytes()
    start = time.perf_counter()
    data = streamed(path, "3", workers, batch_size=128)
    opened = time.perf_counter() - start
    for _ in data.statistics_batches():
        pass
    seconds = time_of(epoch(data))
    size = n * n_voxels * 4 / 1e9
    print(f"{n} showers of dataset 3 ({size:.1f} GB as float32), batches of 128, {workers} workers")
    print(
        f"  opened and checked {size / opened:.2f} GB/s, epoch {size / seconds:.2f} GB/s, {n / seconds:.0f} showers/s"
    )
    print(f"  peak memory before {before:.2f} GB, with the file written {written:.2f} GB")
    print(f"  peak memory of a training epoch     {peak_gigabytes():10.2f} GB  (target {MEMORY_TARGET})")


def peak_gigabytes() -> float:
    """Peak resident memory of this process [GB]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> None:
    """Measures speed, and memory if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--showers", type=int, default=4000, help="of dataset 2; 0 leaves the speed out")
    parser.add_argument("--large", type=int, default=0, help="showers of dataset 3; 0 leaves the memory out")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--folder", help="where to put the files for a while; by default a temporary folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.large:  # first, for the peak is that of the whole process
            measure_memory(Path(folder), options.large, options.workers)
        if options.showers:
            measure_speed(Path(folder), options.showers, options.workers)


if __name__ == "__main__":
    main()
