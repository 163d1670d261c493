"""Trains a flow on energies with exact zeros, once for each dequantization, and compares its likelihood with the truth.

    python scripts/benchmark_dequantization.py      # the page docs/talks/dequantization.md: minutes on one core

The toy is two layers, each of which may be empty: see `TwoLayers`. What the dequantization fills in bounds log p from
below, and whatever a sample has below the threshold is zero again. `gap` is the mean of log p_truth - log p_bound on
points that no flow has seen [nats], an upper bound of the KL divergence. `patterns` is the total variation distance
between the frequencies of the four patterns of empty layers, generated and true, and `SWD` the sliced Wasserstein
distance of log(1 + E). `truth` is a second sample in the place of a flow: the floor.

Each result is written as it comes, and the same command goes on after an interruption. The table of the page of the
same name is written anew.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from caloman.demonstrations.results import ResultFile, Row, defaults, markdown, spread
from caloman.demonstrations.training import epochs
from caloman.errors import CalomanError
from caloman.evaluation.two_sample import sliced_wasserstein
from caloman.flows import AutoregressiveFlow
from caloman.preprocessing import (
    Dequantization,
    LogNormalDequantization,
    LogUniformDequantization,
    UniformDequantization,
)

Array = NDArray[np.float64]
TRUTH = "truth"
TEST_SEED = 2**32 - 1
COLUMNS = ("gap", "patterns", "SWD")
DEQUANTIZATIONS: dict[str, Callable[[], Dequantization]] = {
    "uniform": lambda: UniformDequantization(0.01),
    "log-uniform": lambda: LogUniformDequantization(1.0),
    "log-normal": lambda: LogNormalDequantization(-1.5, 0.2),
}


class TwoLayers:
    """Energies of two layers [MeV], both zero, one, or none; those above 1 MeV exceed it by a log-normal energy.

    The mean of the logarithm depends on the pattern, so that empty layers and energies are correlated.
    """

    threshold = 1.0
    patterns = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=bool)
    weights = np.array([0.15, 0.25, 0.1, 0.5])
    means = np.array([[0, 0], [0.5, 0], [0, 1.0], [2.0, 1.5]])
    width = 0.5

    def sample(self, n: int, seed: int) -> Array:
        """Energies (n, 2) [MeV]."""
        rng = np.random.default_rng(seed)
        pattern = rng.choice(len(self.weights), n, p=self.weights)
        excess = np.exp(self.means[pattern] + self.width * rng.standard_normal((n, 2)))
        return np.where(self.patterns[pattern], self.threshold + excess, 0.0)

    def log_prob(self, x: Array) -> Array:
        """Log-probability of the pattern plus log-density of the hit layers [1/MeV] at energies (N, 2), shape (N,)."""
        pattern, hit = self.pattern(x), x > 0
        log_excess = np.log(np.where(hit, x - self.threshold, 1.0))
        log_density = norm.logpdf(log_excess, self.means[pattern], self.width) - log_excess
        return np.log(self.weights[pattern]) + np.where(hit, log_density, 0.0).sum(axis=1)

    @staticmethod
    def pattern(x: Array) -> NDArray[np.int64]:
        """Row of `patterns` of energies (N, 2), shape (N,)."""
        return (x > 0) @ np.array([1, 2])


class Dequantized:
    """A flow on the standardized logarithms of dequantized energies.

    Args:
        dequantization: what replaces zeros.
        points: energies (N, 2) [MeV] that set mean and width of the logarithms.
    """

    def __init__(self, dequantization: Dequantization, points: Tensor) -> None:
        self.dequantization = dequantization
        self.flow = AutoregressiveFlow(2, transforms=3, hidden=32, bins=12)
        logarithms = dequantization(points)[0].log()
        self.mean, self.width = logarithms.mean(dim=0), logarithms.std(dim=0)

    def bound(self, x: Tensor) -> Tensor:
        """Lower bound of the log-probability of energies (N, 2), with one draw of the noise, shape (N,)."""
        energies, minus_log_q = self.dequantization(x)
        logarithms = energies.log()
        log_prob = self.flow.log_prob((logarithms - self.mean) / self.width) - self.width.log().sum()
        return log_prob + minus_log_q - torch.where(x > 0, logarithms, 0.0).sum(dim=1)

    @torch.no_grad()
    def sample(self, n: int) -> Array:
        """Energies (n, 2) [MeV]; those below the threshold are zero."""
        energies = (self.flow.sample(torch.randn(n, 2)) * self.width + self.mean).exp()
        return torch.where(energies < TwoLayers.threshold, 0.0, energies).double().numpy()


def measure(name: str, seed: int, options: argparse.Namespace) -> Row:
    """Trains one flow and compares it with the truth, or a second sample."""
    toy = TwoLayers()
    test, points = toy.sample(options.test, TEST_SEED), toy.sample(options.train, seed)
    if name == TRUTH:
        return compared(test, toy.sample(options.test, TEST_SEED - 1))
    torch.manual_seed(seed)
    train = torch.as_tensor(points, dtype=torch.float32)
    model = Dequantized(DEQUANTIZATIONS[name](), train)
    for _ in epochs(
        model.flow.parameters(), lambda x: -model.bound(x).mean(), train,
        options.epochs, options.batch, options.learning_rate, name,
    ):  # fmt: skip
        pass
    with torch.no_grad():
        gap = toy.log_prob(test) - model.bound(torch.as_tensor(test, dtype=torch.float32)).double().numpy()
    return {"gap": float(gap.mean()), "gap error": float(gap.std() / np.sqrt(len(gap)))} | compared(
        test, model.sample(options.test)
    )


def compared(test: Array, samples: Array) -> Row:
    """Distances between energies (N, 2) [MeV] and samples (N, 2), logarithmic for a rare huge one must not decide."""
    shares = [np.bincount(TwoLayers.pattern(x), minlength=4) / len(x) for x in (test, samples)]
    return {
        "patterns": float(np.abs(np.subtract(*shares)).sum() / 2),
        "SWD": sliced_wasserstein(np.log1p(test), np.log1p(samples))[0],
    }


def table(rows: list[Row]) -> str:
    """Markdown with a line for each dequantization."""
    lines = [["dequantization", "seeds", *COLUMNS]]
    for name in (TRUTH, *DEQUANTIZATIONS):
        group = [row for row in rows if row["dequantization"] == name]
        if group:
            numbers = [spread(row[key] for row in group) if key in group[0] else "" for key in COLUMNS]
            lines.append([name, str(len(group)), *numbers])
    return markdown(lines)


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dequantizations", choices=DEQUANTIZATIONS, nargs="+", default=list(DEQUANTIZATIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("docs/talks/dequantization.json"))
    settings = parser.add_argument_group("settings, on which the results depend")
    settings.add_argument("--train", type=int, default=20_000, help="points")
    settings.add_argument("--test", type=int, default=50_000, help="points, and samples")
    settings.add_argument("--epochs", type=int, default=5)
    settings.add_argument("--batch", type=int, default=250)
    settings.add_argument("--learning-rate", type=float, default=1e-2)
    return parser


SETTINGS = ("train", "test", "epochs", "batch", "learning_rate")


def main() -> None:
    """Goes on with the measurements, prints all that belong to the same settings and writes the page."""
    options = parser().parse_args()
    results, settings = ResultFile(options.output), {name: getattr(options, name) for name in SETTINGS}
    keys = [
        {"dequantization": name, "seed": seed, "settings": settings}
        for seed in options.seeds
        for name in (TRUTH, *options.dequantizations)
    ]
    print(table(results.complete(keys, lambda key: measure(key["dequantization"], key["seed"], options))))
    results.show("dequantization", defaults(parser(), SETTINGS), table)


if __name__ == "__main__":
    try:
        main()
    except CalomanError as error:
        sys.exit(str(error))
