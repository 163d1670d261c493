"""Times generation against the bare matrix products of the same networks, on one core, and how much writing adds.

Usage: python scripts/benchmark_generation.py RUN [--batch 1000] [--repeats 20] [--showers 20000 200000] [--dataset 2]

With --dataset the model of the run is made for that mesh, untrained: its cost is right, its showers are not.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

import caloman
from caloman import bundle
from caloman.flows import LULinear
from caloman.generation.generate import Generation, Job
from caloman.showers.geometry import Geometry


def fastest(function: Callable[[], object], repeats: int) -> float:
    """Shortest of several wall times [s], after one call to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def matrix_products(model: nn.Module, noise: Tensor, energies: Tensor) -> Callable[[], None]:
    """The products of inputs and weights that one call of the model contains, and nothing else."""
    operands: list[tuple[Tensor, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda m, args, _: operands.append((args[0].clone(), m.weight.T.contiguous())))
        for module in model.modules()
        if isinstance(module, nn.Linear)
    ]
    model(noise, energies)
    for handle in handles:
        handle.remove()
    mixing = [module for module in model.modules() if isinstance(module, LULinear)]
    operands += [(torch.randn(len(noise), len(module.bias)), module.lower.detach()) for module in mixing]

    def run() -> None:
        for inputs, weight in operands:
            inputs @ weight

    return run


def untrained(run: str, dataset: str, folder: Path) -> str:
    """A bundle of the run's model for another mesh, with random weights; returns its folder."""
    spec = yaml.safe_load((bundle.find(run) / "config.yaml").read_text())["model"]
    model = bundle.build_model(spec, Geometry.load(dataset), folder)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.02)
    model.energy_range.copy_(torch.tensor([1e3, 1e6]))
    bundle.save(model, spec, {"files": [], "showers": 0}, folder / "bundle")
    return str(folder)


def writing_share(run: str, energies: str, n: int, compression: str, folder: Path) -> tuple[float, float, float]:
    """CPU milliseconds per shower of generation alone and of generation into a file, and bytes per shower.

    CPU time, so that other work on the machine does not count; with a second core the wall time is shorter, as chunks
    are written while the next ones are generated.
    """
    output = folder / "showers.hdf5"
    job = Job(run, str(output), energies, n, 0, "cpu", "32", False, compression, "0/1", False, None)
    generation = Generation(job)
    generation.sample(0)
    start = time.process_time()
    for chunk in generation.chunks:
        generation.sample(chunk)
    alone = time.process_time() - start
    with generation.parts.locked():
        start = time.process_time()
        list(generation.fill(generation.chunks))
        generation.parts.join(generation.chunks)
        written = time.process_time() - start
    return 1e3 * alone / n, 1e3 * written / n, output.stat().st_size / n


def peak_memory(run: str, energies: str, n: int, folder: Path) -> float:
    """Largest resident memory of `caloman generate` [MB]."""
    command = ["generate", run, str(folder / "showers.hdf5"), "--energies", energies, "--n", str(n)]
    process = subprocess.Popen([sys.executable, "-m", "caloman.cli", *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"caloman {' '.join(command)} failed")
    return usage.ru_maxrss / 1e3


def main() -> None:
    """Prints milliseconds per shower, the ratio to the matrix products, what writing adds, and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="run folder or bundle")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--showers", type=int, nargs="*", default=[], help="numbers to measure peak memory at")
    parser.add_argument("--dataset", help="make the model for this mesh, untrained")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.dataset:
            options.run = untrained(options.run, options.dataset, Path(folder))
        report_speed(options)
        report_files(options, Path(folder))


def report_files(options: argparse.Namespace, folder: Path) -> None:
    """Prints what writing adds, and peak memory."""
    low, high = caloman.load(options.run).energy_range.tolist()
    energies = f"log-uniform:{low}:{high}"
    for compression in ("gzip", "none"):
        alone, written, n_bytes = writing_share(options.run, energies, 5 * options.batch, compression, folder)
        print(f"  into a file      {written:.3f} ms of CPU per shower, {alone:.3f} without writing: share of writing "
              f"{max(0, 1 - alone / written):.1%}, {n_bytes:.0f} bytes per shower ({compression})")  # fmt: skip
    for n in options.showers:
        print(f"  peak memory      {peak_memory(options.run, energies, n, folder):.0f} MB for {n} showers")


def report_speed(options: argparse.Namespace) -> None:
    """Prints milliseconds per shower and the ratio to the matrix products."""
    model = caloman.load(options.run)
    low, high = model.energy_range.tolist()
    energies = torch.logspace(0, 1, options.batch, base=high / low).unsqueeze(1) * low
    noise = torch.randn(options.batch, model.noise_dim, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        products = fastest(matrix_products(model, noise, energies), options.repeats)
        generation = fastest(lambda: model(noise, energies), options.repeats)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    per_shower = 1e3 / options.batch
    print(f"{options.run}: {n_parameters:,} parameters, batch {options.batch}, one core")
    print(f"  generation       {generation * per_shower:.3f} ms per shower")
    print(f"  matrix products  {products * per_shower:.3f} ms per shower")
    print(f"  ratio            {generation / products:.2f}")


if __name__ == "__main__":
    main()
