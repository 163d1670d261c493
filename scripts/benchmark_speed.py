"""Times reading and judging against the plain ways to do both, and measures memory where a file does not fit in it.

    python scripts/benchmark_speed.py [--showers 4000] [--large 0] [--points 0] [--folder FOLDER]

Showers come from the parametric sampler, in files like the official ones (float64, gzip, chunks of 391 x 51) and in
prepared ones. Files are read repeatedly and so from the system's page cache, where reading in sequence is as fast as it
can be. With --showers 100000 or --large 50000 it writes several GB and takes long; --points 100000 adds FPD, KPD and
the tests of 362 features. Everything is deleted afterwards. Each memory is that of a process of its own.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from caloman.data.simulation.sampler import ShowerSampler
from caloman.data.simulation.simulate import simulate_blocks
from caloman.evaluation.binnings import challenge_binnings
from caloman.evaluation.command import evaluate
from caloman.evaluation.distances import fpd, frechet_distance, kpd
from caloman.evaluation.histograms import fill_histograms
from caloman.evaluation.samples import Sample
from caloman.evaluation.summary import summarize
from caloman.evaluation.two_sample import anderson_darling, correlation_distance, kolmogorov_smirnov, sliced_wasserstein
from caloman.showers.geometry import Geometry
from caloman.showers.observables import compute_observables
from caloman.showers.showers import ShowerFile, Showers
from caloman.showers.spectra import read_request
from caloman.training.data import DataConfig, ShowerDataModule

CHUNKS = (391, 51)
ENERGIES = "log-uniform:1GeV:1TeV"
REPEATS = 3
SINGLE_ROWS = 40
FEATURES = 362
TRAINING_TARGET, JUDGE_TARGET = 1.5, 4.0
MODES = ("hist", "fpd", "kpd", "prdc", "cls-high", "cls-low", "cls-trees", "equivalent", "power")
TESTS = (
    fpd, kpd, frechet_distance, kolmogorov_smirnov, anderson_darling, sliced_wasserstein, correlation_distance
)  # fmt: skip


def write(path: Path, dataset: str, n: int, seed: int, official: bool = True) -> None:
    """Writes parametric showers like an official file or a prepared one."""
    geometry = Geometry.load(dataset)
    spectrum, total = read_request(ENERGIES, n)
    layout = {"chunks": (min(n, CHUNKS[0]), CHUNKS[1]), "compression": "gzip", "rdcc_nbytes": 2**28}
    kind, start = np.float64 if official else np.float32, 0
    with h5py.File(path, "w") as file:
        energies = file.create_dataset("incident_energies", (n, 1), kind)
        showers = file.create_dataset("showers", (n, geometry.n_voxels), kind, **(layout if official else {}))
        for block in simulate_blocks(ShowerSampler(geometry), spectrum, total, seed):
            energies[start : start + len(block), 0] = block.incident_energies
            showers[start : start + len(block)] = block.voxels
            start += len(block)


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


def read(path: Path, dataset: str) -> None:
    """Reads a file block by block and forgets it."""
    with ShowerFile(path, Geometry.load(dataset)) as file:
        for _ in file.blocks():
            pass


def epoch(path: Path, dataset: str, batch_size: int) -> Callable[[], None]:
    """One pass over all batches of a file that is not allowed in memory, in a new order each time."""
    data = ShowerDataModule(Geometry.load(dataset), DataConfig([str(path)], memory_limit=0.0), seed=0)
    data.batch_size = batch_size
    loaders = data.train_dataloader(), data.val_dataloader()

    def run() -> None:
        loaders[0].sampler.set_epoch(loaders[0].sampler.epoch + 1)
        for loader in loaders:
            for _ in loader:
                pass

    return run


def train(path: Path, dataset: str) -> None:
    """Opens and checks a file, and reads an epoch from it."""
    epoch(path, dataset, batch_size=128)()


def straightforward(showers: Showers) -> None:
    """Observables in double precision, layer by layer, with one product (N, V_layer) for each moment."""
    geometry = showers.geometry
    voxels = np.where(showers.voxels < geometry.threshold, 0, showers.voxels).astype(np.float64)
    for layer, columns in zip(geometry.layers, geometry.layer_slices, strict=True):
        energies = voxels[:, columns]
        (energies > 0).mean(axis=1)
        for position in (layer.r, layer.r * np.cos(layer.alpha), layer.r * np.sin(layer.alpha)):
            mean = moment(position, energies)
            np.sqrt(np.maximum(moment(position**2, energies) - mean**2, 0))


def moment(position: NDArray[np.float64], energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energy-weighted mean of a position."""
    return (position * energies).sum(axis=1) / (energies.sum(axis=1) + 1e-16)


def histograms(generated: Path, reference: Path, dataset: str) -> None:
    """All histograms and separation powers, from the files."""
    geometry = Geometry.load(dataset)
    truth = summarize(Sample.open(reference, geometry))
    other = summarize(Sample.open(generated, geometry), truth.spectrum_edges)
    for histogram in fill_histograms(challenge_binnings(truth, geometry), truth, other):
        _ = histogram.separation


def judge(mode: str, generated: Path, reference: Path, dataset: str) -> None:
    """One mode of an evaluation, with one training of each classifier."""
    evaluate(generated, reference, dataset, generated.parent / "report", modes=[mode], repeats=1)


def time_of(function: Callable[[], object]) -> float:
    """Wall time [s] of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def fastest(*functions: Callable[[], object]) -> list[float]:
    """Shortest wall time [s] of each function, called in turns so that all meet the same machine."""
    times = [[time_of(function) for function in functions] for _ in range(REPEATS)]
    return np.min(times, axis=0).tolist()


def peak_of(function: Callable, *arguments: object) -> float:
    """Peak resident memory [GB] of a function in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (function, arguments))


def _peak(function: Callable, arguments: tuple) -> float:
    function(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def measure_speed(folder: Path, n: int) -> None:
    """Prints times of dataset 2, and their ratios."""
    files, prepared = [folder / "reference.hdf5", folder / "generated.hdf5"], folder / "prepared.hdf5"
    for seed, path in enumerate(files):
        write(path, "2", n, seed)
    write(prepared, "2", n, 0, official=False)
    single = SINGLE_ROWS / time_of(lambda: read_single_rows(files[0]))
    decoded = n / time_of(epoch(files[0], "2", 512))
    raw, mapped = (n / seconds for seconds in fastest(lambda: read_raw(prepared), epoch(prepared, "2", 512)))
    with ShowerFile(files[0], Geometry.load("2")) as file:
        block = file.read(0, min(n, 2000))
    times = fastest(lambda: straightforward(block), lambda: compute_observables([block]))
    slow, fast = (1e6 * seconds / len(block) for seconds in times)
    reading, judging = fastest(lambda: [read(path, "2") for path in files], lambda: histograms(files[1], files[0], "2"))
    print(f"{n} showers of dataset 2, official files unless said otherwise")
    print(f"  random single rows                {single:10.0f} showers/s")
    print(f"  shuffled epoch                    {decoded:10.0f} showers/s")
    print(f"  shuffled epoch, prepared file     {mapped:10.0f} showers/s  ({mapped / single:.0f} x, target 100)")
    print(f"  raw sequential read of that       {raw:10.0f} showers/s  (epoch {mapped / raw:.2f} x, target 0.5)")
    print(f"  observables, layer by layer       {slow:10.1f} us/shower")
    print(f"  observables, caloman              {fast:10.1f} us/shower  (ratio {slow / fast:.1f}, target 10)")
    print(f"  reading both files                {reading:10.2f} s")
    print(f"  reading both, all histograms      {judging:10.2f} s  (ratio {judging / reading:.2f}, target 2)")


def measure_memory(folder: Path, n: int) -> None:
    """Prints the peak memory of a training epoch and of the modes of the judge for dataset 3."""
    files, prepared = (folder / "generated.hdf5", folder / "reference.hdf5"), folder / "prepared.hdf5"
    for seed, path in enumerate(files):
        write(path, "3", n, seed)
    write(prepared, "3", n, 0, official=False)
    print(f"{n} showers of dataset 3 in each file ({n * 40500 * 4 / 1e9:.1f} GB as float32)")
    print(f"  training epoch {peak_of(train, prepared, '3'):5.2f} GB  (target {TRAINING_TARGET})")
    for mode in MODES:
        start = time.perf_counter()
        peak = peak_of(judge, mode, *files, "3")
        print(f"  {mode:12} {time.perf_counter() - start:8.0f} s, peak memory {peak:5.2f} GB  (target {JUDGE_TARGET})")


def measure_tests(n: int) -> None:
    """Prints the times of distances and tests of features without a file."""
    x, y = np.random.default_rng(0).standard_normal((2, n, FEATURES), dtype=np.float32)
    print(f"{n} points with {FEATURES} features in each of two samples")
    for test in TESTS:
        print(f"  {test.__name__:33} {time_of(lambda test=test: test(x, y)):10.1f} s")


def main() -> None:
    """Measures speed, and memory and further tests if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--showers", type=int, default=4000, help="of dataset 2; 0 leaves the speed out")
    parser.add_argument("--large", type=int, default=0, help="showers of dataset 3; 0 leaves the memory out")
    parser.add_argument("--points", type=int, default=0, help="feature vectors; 0 leaves FPD, KPD and the tests out")
    parser.add_argument("--folder", help="where to put the files for a while; by default a temporary folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.showers:
            measure_speed(Path(folder), options.showers)
        if options.large:
            measure_memory(Path(folder), options.large)
        if options.points:
            measure_tests(options.points)


if __name__ == "__main__":
    main()
