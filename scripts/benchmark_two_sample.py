"""Measures how small a difference each two-sample test sees, in 5, 20 and 100 dimensions.

    python scripts/benchmark_two_sample.py      # the page docs/talks/two_sample.md: half an hour on one core

The reference is one correlated Gaussian, in units of the standard deviation of each dimension. Four distortions move
samples of it. Each test compares 1000 points of both. It sees a distortion if its statistic is above the 95 % quantile
of pairs without any. The table holds the strength that is seen half of the time: smaller is better.

Each result is written as it comes, and the same command goes on after an interruption. The table of the page of the
same name is written anew.
"""

from argparse import Namespace
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from talk_parser import TalkParser

from caloman.demonstrations import CorrelatedGaussian
from caloman.demonstrations.results import ResultFile, Row, markdown, run, spread
from caloman.evaluation.distances import frechet_distance, kpd
from caloman.evaluation.two_sample import anderson_darling, kolmogorov_smirnov_distances, sliced_wasserstein

Array = NDArray[np.float64]

STEPS = 7
"""Of the bisection, in the logarithm of a strength between `SMALLEST` times the largest and the largest."""
SMALLEST = 1 / 256


def shifted(x: Array, strength: float, rng: np.random.Generator) -> Array:
    """Every dimension moved by a part of its standard deviation."""
    return x + strength


def scaled(x: Array, strength: float, rng: np.random.Generator) -> Array:
    """Every dimension wider by a part of its standard deviation."""
    return x * (1 + strength)


def decorrelated(x: Array, strength: float, rng: np.random.Generator) -> Array:
    """Every correlation smaller by a part of itself; each dimension alone stays as it is."""
    return np.sqrt(1 - strength) * x + np.sqrt(strength) * rng.standard_normal(x.shape)


def heavy_tailed(x: Array, strength: float, rng: np.random.Generator) -> Array:
    """Student's t with 1/strength degrees of freedom; all covariances stay as they are."""
    freedom = 1 / strength
    return x * np.sqrt((freedom - 2) / rng.chisquare(freedom, (len(x), 1)))


DISTORTIONS: dict[str, tuple[Callable[[Array, float, np.random.Generator], Array], float]] = {
    "shift": (shifted, 1.0),
    "scale": (scaled, 1.0),
    "correlation": (decorrelated, 1.0),
    "tails": (heavy_tailed, 0.3),
}
"""Each distortion with its largest strength."""


def classified(x: Array, y: Array, classifier: ClassifierMixin) -> float:
    """AUC of a classifier that learns from half of the points, on the other half."""
    points, labels = np.concatenate([x, y]), np.repeat([0, 1], [len(x), len(y)])
    classifier.fit(points[::2], labels[::2])
    return float(roc_auc_score(labels[1::2], classifier.predict_proba(points[1::2])[:, 1]))


def trees(x: Array, y: Array) -> float:
    """AUC of boosted trees."""
    return classified(x, y, HistGradientBoostingClassifier(max_iter=50, max_leaf_nodes=8, random_state=0))


def network(x: Array, y: Array) -> float:
    """AUC of a dense network."""
    return classified(x, y, MLPClassifier((64, 64), early_stopping=True, max_iter=50, random_state=0))


TESTS: dict[str, Callable[[Array, Array], float]] = {
    "KS": lambda x, y: kolmogorov_smirnov_distances(x, y)[0],
    "AD": lambda x, y: anderson_darling(x, y)[0],
    "SWD": lambda x, y: sliced_wasserstein(x, y)[0],
    "FPD": lambda x, y: frechet_distance(x, y)[0],
    "KPD": lambda x, y: kpd(x, y)[0],
    "C2ST, trees": trees,
    "C2ST, network": network,
}


class Pairs:
    """Pairs of samples, one of which is distorted.

    Args:
        dimensions: of the points.
        n: points of each sample.
        seed: of all pairs.
    """

    def __init__(self, dimensions: int, n: int, seed: int) -> None:
        self.target, self.n, self.seed = CorrelatedGaussian(dimensions), n, seed
        self.width = np.sqrt((self.target.scale**2).sum(axis=1))

    def statistics(self, test: str, pairs: int, distortion: str = "", strength: float = 0.0) -> Array:
        """What a test gives for each of some pairs; the same seeds belong to all tests and strengths."""
        return np.array([TESTS[test](*self._pair(i, distortion, strength)) for i in range(pairs)])

    def _pair(self, number: int, distortion: str, strength: float) -> tuple[Array, Array]:
        rng = np.random.default_rng([self.seed, number, len(distortion)])
        x, y = ((self.target.sample(self.n, rng.integers(2**62)) - self.target.mean) / self.width for _ in range(2))
        return x, DISTORTIONS[distortion][0](y, strength, rng) if distortion else y


def half_seen(pairs: Pairs, test: str, distortion: str, options: Namespace) -> float:
    """Strength whose median statistic is the 95 % quantile of pairs without distortion; infinite if none is."""
    threshold, largest = usual(pairs, test, options.without), DISTORTIONS[distortion][1]
    low, high = np.log(SMALLEST * largest), np.log(largest)

    def seen(strength: float) -> bool:
        found = pairs.statistics(test, options.pairs, distortion, strength)
        return bool(np.median(found) > threshold)

    if not seen(largest):
        return float("inf")
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if seen(np.exp(middle)) else (middle, high)
    return float(np.exp((low + high) / 2))


@cache
def usual(pairs: Pairs, test: str, n: int) -> float:
    """The 95 % quantile of a statistic for pairs without distortion."""
    return float(np.quantile(pairs.statistics(test, n), 0.95))


def table(rows: list[Row]) -> str:
    """Markdown with a line for each distortion and number of dimensions; the smallest strength is bold."""
    lines = [["distortion", "dimensions", "seeds", *TESTS]]
    for distortion, dimensions in dict.fromkeys((row["distortion"], row["dimensions"]) for row in rows):
        group = [row for row in rows if (row["distortion"], row["dimensions"]) == (distortion, dimensions)]
        strengths = {test: [row["strength"] for row in group if row["test"] == test] for test in TESTS}
        means = {test: np.mean(values) if values else np.inf for test, values in strengths.items()}
        numbers = [_shown(values, means[test] == min(means.values())) for test, values in strengths.items()]
        lines.append([distortion, str(dimensions), str(len({row["seed"] for row in group})), *numbers])
    return markdown(lines)


def _shown(strengths: list[float], best: bool) -> str:
    if not strengths or not np.isfinite(strengths).all():
        return "not seen" if strengths else ""
    return f"**{spread(strengths)}**" if best else spread(strengths)


def parser() -> TalkParser:
    """Of the command line."""
    parser = TalkParser(__doc__, "two_sample", seeds=[0])
    parser.add_argument("--dimensions", type=int, choices=range(2, 1001), metavar="D", nargs="+", default=[5, 20, 100])
    parser.add_argument("--tests", choices=TESTS, nargs="+", default=list(TESTS))
    parser.add_argument("--distortions", choices=DISTORTIONS, nargs="+", default=list(DISTORTIONS))
    parser.setting("points", 1000, "of each sample")
    parser.setting("pairs", 15, "for each strength")
    parser.setting("without", 100, "pairs without distortion")
    return parser


def main() -> None:
    """Goes on with the measurements, prints all that belong to the same settings and writes the page."""
    command = parser()
    options = command.parse_args()
    results, settings = ResultFile(options.output), command.settings(options)
    drawn = cache(lambda dimensions, seed: Pairs(dimensions, options.points, seed))
    keys = [
        {"distortion": distortion, "dimensions": dimensions, "test": test, "seed": seed, "settings": settings}
        for seed in options.seeds
        for distortion in options.distortions
        for dimensions in options.dimensions
        for test in options.tests
    ]

    def measure(key: Row) -> Row:
        pairs = drawn(key["dimensions"], key["seed"])
        return {"strength": half_seen(pairs, key["test"], key["distortion"], options)}

    print(table(results.complete(keys, measure)))
    results.show("two samples", command.usual, table)


if __name__ == "__main__":
    run(main)
