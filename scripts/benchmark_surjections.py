"""Trains a flow through each surjection on data that are no vectors of real numbers, and compares with the truth.

    python scripts/benchmark_surjections.py         # the page docs/talks/surjections.md: half an hour on one core

Three toys: energies of two layers of which each may be empty, sets of four numbers without an order, and two variables
with eight categories each. `gap` is the mean of log p_truth - log p_bound on points that no flow has seen [nats]: the
loss by the surjection and by the flow together. `frequencies` is the total variation distance between true and
generated frequencies of what can be counted, `SWD` the sliced Wasserstein distance of what cannot. `truth` is a second
sample in the place of a flow: the floor.

Each result is written as it comes, and the same command goes on after an interruption. The table of the page of the
same name is written anew.
"""

from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Callable
from functools import partial

import numpy as np
import surjections
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from scipy.stats import norm
from talk_parser import TalkParser
from torch import Tensor

from caloman.demonstrations.results import ResultFile, Row, markdown, run, spread
from caloman.demonstrations.training import epochs
from caloman.evaluation.two_sample import sliced_wasserstein
from caloman.preprocessing import LogNormalDequantization, LogUniformDequantization, UniformDequantization

Array = NDArray[np.float64]
TRUTH = "truth"
TEST_SEED = 2**32 - 1
COLUMNS = ("gap", "frequencies", "SWD")


class Toy(ABC):
    """Data with exact samples and probabilities."""

    @abstractmethod
    def sample(self, n: int, seed: int) -> Array:
        """Independent points, shape (n, D)."""

    @abstractmethod
    def log_prob(self, x: Array) -> Array:
        """Logarithm of the probability or density at points (N, D), shape (N,)."""

    def classes(self, x: Array) -> NDArray[np.int64] | None:
        """What can be counted in points (N, D), as a number for each, shape (N,); None if nothing."""
        return None

    def numbers(self, x: Array) -> Array | None:
        """What cannot be counted in points (N, D), shape (N, K); None if nothing."""
        return None


class TwoLayers(Toy):
    """Energies of two layers [MeV], both zero, one, or none; those above 1 MeV exceed it by a log-normal energy.

    The mean of the logarithm depends on the pattern, so that empty layers and energies are correlated.
    """

    threshold = 1.0
    patterns = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=bool)
    weights = np.array([0.15, 0.25, 0.1, 0.5])
    means = np.array([[0, 0], [0.5, 0], [0, 1.0], [2.0, 1.5]])
    width = 0.5

    def sample(self, n: int, seed: int) -> Array:
        rng = np.random.default_rng(seed)
        pattern = rng.choice(len(self.weights), n, p=self.weights)
        excess = np.exp(self.means[pattern] + self.width * rng.standard_normal((n, 2)))
        return np.where(self.patterns[pattern], self.threshold + excess, 0.0)

    def log_prob(self, x: Array) -> Array:
        pattern, hit = self.classes(x), x > 0
        log_excess = np.log(np.where(hit, x - self.threshold, 1.0))
        log_density = norm.logpdf(log_excess, self.means[pattern], self.width) - log_excess
        return np.log(self.weights[pattern]) + np.where(hit, log_density, 0.0).sum(axis=1)

    def classes(self, x: Array) -> NDArray[np.int64]:
        return (x > 0) @ np.array([1, 2])

    def numbers(self, x: Array) -> Array:
        return np.log1p(x)  # a rare huge energy must not decide


class Sets(Toy):
    """Four numbers without an order, from one of two mixtures of two Gaussians; which one is the same for all four."""

    size = 4
    weights = np.array([0.4, 0.6])
    means = np.array([[-2.0, 1.0], [-0.5, 2.0]])
    widths = np.array([[0.3, 0.5], [0.2, 0.4]])

    def sample(self, n: int, seed: int) -> Array:
        rng = np.random.default_rng(seed)
        kind = rng.choice(2, (n, 1), p=self.weights)
        side = rng.integers(2, size=(n, self.size))
        return self.means[kind, side] + self.widths[kind, side] * rng.standard_normal((n, self.size))

    def log_prob(self, x: Array) -> Array:
        gaussians = norm.logpdf(x[:, None, :, None], self.means[:, None], self.widths[:, None])
        of_kinds = (logsumexp(gaussians, axis=3) - np.log(2)).sum(axis=2)
        return logsumexp(np.log(self.weights) + of_kinds, axis=1)

    def numbers(self, x: Array) -> Array:
        return np.sort(x, axis=1)


class Categories(Toy):
    """Two variables with eight categories each, whose 64 combinations have probabilities without a pattern."""

    number = 8
    table = softmax(1.5 * np.random.default_rng(0).standard_normal(number**2))

    def sample(self, n: int, seed: int) -> Array:
        chosen = np.random.default_rng(seed).choice(len(self.table), n, p=self.table)
        return np.stack(np.divmod(chosen, self.number), axis=1).astype(float)

    def log_prob(self, x: Array) -> Array:
        return np.log(self.table[self.classes(x)])

    def classes(self, x: Array) -> NDArray[np.int64]:
        return x.astype(int) @ np.array([self.number, 1])


TOYS: dict[str, Toy] = {"empty layers": TwoLayers(), "sets": Sets(), "categories": Categories()}
Make = Callable[[Tensor], surjections.Surjection]
_dequantized = partial(surjections.Dequantized, threshold=TwoLayers.threshold)
SURJECTIONS: dict[str, dict[str, Make]] = {
    "empty layers": {
        "uniform noise": lambda x: _dequantized(UniformDequantization(0.01)),
        "log-uniform noise": lambda x: _dequantized(LogUniformDequantization(1.0)),
        "log-normal noise": lambda x: _dequantized(LogNormalDequantization(-1.5, 0.2)),
        "dropout": surjections.Dropout,
    },
    "sets": {
        "none": lambda x: surjections.Nothing(),
        "stochastic permutation": lambda x: surjections.StochasticPermutation(),
        "sort": lambda x: surjections.Sort(),
    },
    "categories": {
        "uniform noise": lambda x: surjections.UniformNoise(Categories.number),
        "variational noise": lambda x: surjections.VariationalNoise(2, Categories.number),
        "argmax": lambda x: surjections.Argmax(2, Categories.number),
    },
}


def measure(name: str, surjection: str, seed: int, options: Namespace) -> Row:
    """Trains one flow and compares it with the truth, or a second sample."""
    toy = TOYS[name]
    test, points = toy.sample(options.test, TEST_SEED), toy.sample(options.train, seed)
    if surjection == TRUTH:
        return compared(toy, test, toy.sample(options.test, TEST_SEED - 1 - seed))
    torch.manual_seed(seed)
    train = torch.as_tensor(points, dtype=torch.float32)
    model = surjections.SurjectiveFlow(SURJECTIONS[name][surjection](train), train)
    for _ in epochs(
        model.parameters(), lambda x: -model.bound(x).mean(), train,
        options.epochs, options.batch, options.learning_rate, surjection,
    ):  # fmt: skip
        pass
    with torch.no_grad():
        gap = toy.log_prob(test) - model.bound(torch.as_tensor(test, dtype=torch.float32)).double().numpy()
    samples = model.sample(options.test).double().numpy()
    return {"gap": float(gap.mean()), "gap error": float(gap.std() / np.sqrt(len(gap)))} | compared(toy, test, samples)


def compared(toy: Toy, test: Array, samples: Array) -> Row:
    """Distances between points (N, D) of a toy and samples (N, D)."""
    row: Row = {}
    if toy.classes(test) is not None:
        most = 1 + max(toy.classes(x).max() for x in (test, samples))
        shares = [np.bincount(toy.classes(x), minlength=most) / len(x) for x in (test, samples)]
        row["frequencies"] = float(np.abs(np.subtract(*shares)).sum() / 2)
    if toy.numbers(test) is not None:
        row["SWD"] = sliced_wasserstein(toy.numbers(test), toy.numbers(samples))[0]
    return row


def table(rows: list[Row]) -> str:
    """Markdown with a line for each toy and surjection."""
    lines = [["toy", "surjection", "seeds", *COLUMNS]]
    for toy, known in SURJECTIONS.items():
        for surjection in (TRUTH, *known):
            group = [row for row in rows if (row["toy"], row["surjection"]) == (toy, surjection)]
            numbers = [spread(row[key] for row in group) if group and key in group[0] else "" for key in COLUMNS]
            lines += [[toy, surjection, str(len(group)), *numbers]] if group else []
    return markdown(lines)


def parser() -> TalkParser:
    """Of the command line."""
    parser = TalkParser(__doc__, "surjections", seeds=[0, 1, 2])
    parser.add_argument("--toys", choices=TOYS, nargs="+", default=list(TOYS))
    parser.setting("train", 20_000, "points")
    parser.setting("test", 50_000, "points, and samples")
    parser.setting("epochs", 10)
    parser.setting("batch", 250)
    parser.setting("learning_rate", 1e-2)
    return parser


def main() -> None:
    """Goes on with the measurements, prints all that belong to the same settings and writes the page."""
    command = parser()
    options = command.parse_args()
    results, settings = ResultFile(options.output), command.settings(options)
    keys = [
        {"toy": toy, "surjection": surjection, "seed": seed, "settings": settings}
        for seed in options.seeds
        for toy in options.toys
        for surjection in (TRUTH, *SURJECTIONS[toy])
    ]
    print(table(results.complete(keys, lambda key: measure(key["toy"], key["surjection"], key["seed"], options))))
    results.show("surjections", command.usual, table)


if __name__ == "__main__":
    run(main)
