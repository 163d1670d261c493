"""Tests the further normal numbers of a FastCaloSim export: their distribution, and their independence of all others.

    python scripts/normals_report.py [--rows 20000] [--given 533] [--further 3878]

The defaults are the numbers of the pions of the package. Each line is a test at all rows. A p-value below .001 or a
correlation above the limit would be a flaw.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special, stats

from caloman.exporting.fastcalosim import _terms, more_normals

Draw = Callable[[tuple[int, int]], NDArray[np.float32]]
CELLS, DRAWS = 20, 10**7


def makers(seed: int) -> dict[str, Draw]:
    """Kinds of normal numbers that a client may hand in."""
    generator, torch_generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    return {
        "ziggurat, float32": lambda shape: generator.standard_normal(shape, np.float32),
        "ziggurat, float64": lambda shape: generator.standard_normal(shape).astype(np.float32),
        "Box-Muller, float64": lambda shape: np.float32(
            np.sqrt(-2 * np.log1p(-generator.random(shape))) * np.cos(2 * np.pi * generator.random(shape))
        ),
        "PyTorch, float32": lambda shape: torch.randn(shape, generator=torch_generator).numpy(),
    }


def independence(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The p-value of a chi-squared test of two columns (N,) in 20 by 20 cells of equal probability."""
    table, *_ = np.histogram2d(special.ndtr(first), special.ndtr(second), bins=CELLS, range=[[0, 1], [0, 1]])
    return float(stats.chisquare(table.ravel()).pvalue)


def largest_correlation(numbers: NDArray[np.float32]) -> tuple[float, float]:
    """Of all pairs of columns (N, D), in standard deviations, and what it may be by chance once in a thousand."""
    unit = (numbers - numbers.mean(0)) / numbers.std(0) / len(numbers) ** 0.5
    largest = max(float(np.abs(np.triu(unit[:, i : i + 500].T @ unit, i + 1)).max())
                  for i in range(0, unit.shape[1], 500))  # fmt: skip
    pairs = unit.shape[1] * (unit.shape[1] - 1) / 2
    return largest * len(numbers) ** 0.5, float(stats.norm.isf(5e-4 / pairs))


def few_columns(given: NDArray[np.float32]) -> NDArray[np.float32]:
    """A number made of 14 of 32 others, one of these, and another number made of 14, shape (N, 3)."""
    first, second = more_normals(torch.from_numpy(given), 20)[:, :2].T.numpy()
    return np.stack([first, given[:, _terms(16, 20)[0, 0]], second], axis=1)


def report(name: str, draw: Draw, rows: int, n_given: int, n: int) -> None:
    """Prints the tests of one kind of numbers."""
    given = draw((rows, n_given))
    more = more_normals(torch.from_numpy(given), n).numpy()
    both = np.concatenate([given, more], axis=1)
    values = more.ravel()[:DRAWS]
    mean, variance = values.mean(dtype=np.float64), values.var(dtype=np.float64)
    print(f"{name}, {rows} rows of {n_given}, {n} more in each")
    print(f"  {len(values)} further numbers: Kolmogorov-Smirnov p {stats.kstest(values, 'norm').pvalue:.3f}")
    print(f"  mean {mean:.5f}, variance {variance:.5f}, kurtosis {stats.kurtosis(values):.5f}")
    for what, numbers in {"values": both, "sizes": np.abs(both)}.items():
        largest, limit = largest_correlation(numbers)
        print(f"  correlation of {what}: largest {largest:.2f} of its deviations, limit {limit:.2f}")
    columns = np.concatenate([few_columns(draw((DRAWS // 20, 32))) for _ in range(20)]).T
    for what, other in zip(
        ("a number that gave it digits", "another with three of its words"), columns[1:], strict=True
    ):
        print(f"  {DRAWS} pairs with {what}: chi-squared p {independence(columns[0], other):.3f}")


def main() -> None:
    """Tests all kinds of numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--given", type=int, default=533, help="normal numbers that the client hands in")
    parser.add_argument("--further", type=int, default=3878, help="normal numbers made of them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, draw in makers(0).items():
        report(name, draw, options.rows, options.given, options.further)


if __name__ == "__main__":
    main()
