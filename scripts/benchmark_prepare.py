"""Times ``caloman prepare`` against gunzipping the chunks of the same file, on one core.

The file is made for the purpose: sparse showers in the official layout (gzip, float64, automatic chunks).

Usage: python scripts/benchmark_prepare.py [--dataset 2] [--showers 4000] [--repeats 3] [--compress] [--folder /tmp]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import h5py
import numpy as np

from caloman.geometry import Geometry
from caloman.showers import ShowerFile

CHUNKS = {"2": (391, 51), "3": (196, 159)}
PREPARE = """
import json, resource, sys, time
from caloman.data.prepare import prepare
source, target, dataset, compress = sys.argv[1:]
start = time.perf_counter()
prepare([source], target, dataset, compress=compress == "True")
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""
CHECK = """
import json, resource, sys, time
from caloman.data.check import check
start = time.perf_counter()
check(sys.argv[1], sys.argv[3])
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""


def make_official(path: Path, dataset: str, n_showers: int) -> None:
    """Writes showers in the official layout, a chunk row at a time.

    Three quarters of the voxels are empty and the others have all their digits, which gives the official files' 13.5 kB
    per shower of dataset 2.
    """
    n_voxels = Geometry.load(dataset).n_voxels
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        file.create_dataset("incident_energies", data=10 ** rng.uniform(3, 6, (n_showers, 1)), compression="gzip")
        showers = file.create_dataset(
            "showers", (n_showers, n_voxels), "<f8", chunks=CHUNKS[dataset], compression="gzip"
        )
        for start in range(0, n_showers, CHUNKS[dataset][0]):
            rows = min(CHUNKS[dataset][0], n_showers - start)
            deposits = rng.standard_exponential((rows, n_voxels)) * 10.0 + 0.01515
            deposits *= rng.random((rows, n_voxels)) < 0.25
            showers[start : start + rows] = deposits


def gunzip(path: Path) -> float:
    """Seconds to read and decompress every chunk, without HDF5's copy into rows."""
    start = time.perf_counter()
    with h5py.File(path) as file:
        chunks = file["showers"].id
        for index in range(chunks.get_num_chunks()):
            zlib.decompress(chunks.read_direct_chunk(chunks.get_chunk_info(index).chunk_offset)[1])
    return time.perf_counter() - start


def read_rows(path: Path, dataset: str) -> float:
    """Seconds to read the file in whole chunk rows with h5py, as it is stored."""
    start = time.perf_counter()
    with h5py.File(path) as file:
        rows = CHUNKS[dataset][0]
        for first in range(0, len(file["showers"]), rows):
            file["showers"][first : first + rows]
    return time.perf_counter() - start


def read_blocks(path: Path, dataset: str) -> float:
    """Seconds to read the file with `ShowerFile`: whole chunk rows, converted and checked."""
    start = time.perf_counter()
    with ShowerFile(path, Geometry.load(dataset)) as file:
        for _ in file.blocks():
            pass
    return time.perf_counter() - start


def in_process(code: str, *arguments: object) -> dict[str, float]:
    """Seconds and peak memory [KiB] of a command in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Prints seconds, ratios and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", choices=CHUNKS, default="2")
    parser.add_argument("--showers", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compress", action="store_true")
    parser.add_argument("--folder", default=tempfile.gettempdir())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, target = Path(folder, "official.hdf5"), Path(folder, "prepared.h5")
        make_official(source, options.dataset, options.showers)
        runs = [
            {
                "gunzip the chunks": gunzip(source),
                "h5py, chunk rows": read_rows(source, options.dataset),
                "ShowerFile.blocks": read_blocks(source, options.dataset),
                "prepare": in_process(PREPARE, source, target, options.dataset, options.compress),
                "check": in_process(CHECK, source, target, options.dataset),
            }
            for _ in range(options.repeats)
        ]
        sizes = [path.stat().st_size / 2**20 for path in (source, target)]
    print(f"dataset {options.dataset}, {options.showers} showers, {sizes[0]:.0f} MiB in, {sizes[1]:.0f} MiB out")
    print(f"{'':20} {'seconds':>8} {'speed of gunzip':>16} {'peak memory':>12}")
    base = min(run["gunzip the chunks"] for run in runs)
    for name in runs[0]:
        times = [run[name]["seconds"] if isinstance(run[name], dict) else run[name] for run in runs]
        rss = max((run[name]["rss"] for run in runs if isinstance(run[name], dict)), default=None)
        memory = f"{rss / 1024:.0f} MiB" if rss else ""
        print(f"{name:20} {min(times):8.2f} {100 * base / min(times):14.0f} % {memory:>12}")


if __name__ == "__main__":
    main()
