"""Times generation against the bare matrix products of the same networks, on one core.

Usage: python scripts/benchmark_generation.py RUN [--batch 1000] [--repeats 20]
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import caloman
from caloman.flows import LULinear


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


def main() -> None:
    """Prints milliseconds per shower and the ratio to the matrix products."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", help="run folder or bundle")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
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
