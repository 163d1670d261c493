"""Times ``caloman prepare`` against gunzipping the chunks of the same file.

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
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from caloman.showers.geometry import Geometry
from caloman.showers.showers import ShowerFile

CHUNKS = {"2": (391, 51), "3": (196, 159)}
ALONE = """
import json, resource, sys, time
from caloman.data.check import check
from caloman.data.prepare import prepare
command, source, target, dataset, compress = sys.argv[1:]
wall, cpu = time.perf_counter(), time.process_time()
check(source, dataset) if command == "check" else prepare([source], target, dataset, compress=compress == "True")
result = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
print(json.dumps(result | {"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
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


def gunzip(path: Path) -> None:
    """Reads and decompresses every chunk, without HDF5's copy into rows."""
    with h5py.File(path) as file:
        showers = file["showers"]
        rows, columns = showers.chunks
        for row in range(0, len(showers), rows):
            for column in range(0, showers.shape[1], columns):
                zlib.decompress(showers.id.read_direct_chunk((row, column))[1], bufsize=rows * columns * 8)


def read_rows(path: Path, dataset: str) -> None:
    """Reads the file in whole chunk rows with h5py, as it is stored."""
    with h5py.File(path) as file:
        rows = CHUNKS[dataset][0]
        for first in range(0, len(file["showers"]), rows):
            file["showers"][first : first + rows]


def read_blocks(path: Path, dataset: str) -> None:
    """Reads the file with `ShowerFile`: whole chunk rows, converted and checked."""
    with ShowerFile(path, Geometry.load(dataset)) as file:
        for _ in file.blocks():
            pass


def timed(function: Callable[[], object]) -> dict[str, float]:
    """Wall time and processor time [s] of a function."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def in_process(command: str, *arguments: object) -> dict[str, float]:
    """Wall time and processor time [s] and peak memory [KiB] of a command in a process of its own."""
    run = [sys.executable, "-c", ALONE, command, *map(str, arguments)]
    return json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)


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
        arguments = (source, target, options.dataset, options.compress)
        runs = [
            {
                "gunzip the chunks": timed(lambda: gunzip(source)),
                "h5py, chunk rows": timed(lambda: read_rows(source, options.dataset)),
                "ShowerFile.blocks": timed(lambda: read_blocks(source, options.dataset)),
                "prepare": in_process("prepare", *arguments),
                "check": in_process("check", *arguments),
            }
            for _ in range(options.repeats)
        ]
        sizes = [path.stat().st_size / 2**20 for path in (source, target)]
    print(f"dataset {options.dataset}, {options.showers} showers, {sizes[0]:.0f} MiB in, {sizes[1]:.0f} MiB out")
    print(f"{'':20} {'wall s':>8} {'CPU s':>8} {'speed of gunzip':>16} {'the same in CPU':>16} {'peak memory':>12}")
    best = {name: {key: min(run[name][key] for run in runs) for key in runs[0][name]} for name in runs[0]}
    base = best["gunzip the chunks"]
    for name, found in best.items():
        ratios = [100 * base[key] / found[key] for key in ("seconds", "cpu")]
        memory = f"{max(run[name]['rss'] for run in runs) / 1024:.0f} MiB" if "rss" in found else ""
        times = f"{found['seconds']:8.2f} {found['cpu']:8.2f}"
        print(f"{name:20} {times} {ratios[0]:14.0f} % {ratios[1]:14.0f} % {memory:>12}")


if __name__ == "__main__":
    main()
