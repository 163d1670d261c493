"""Samples a toy likelihood of a measurement at the LHC, lets flows learn it, and compares both.

    python scripts/benchmark_likelihood.py      # the page docs/talks/likelihood.md: a quarter of an hour on one core

Each result is written as it comes, and the same command goes on after an interruption. Table and figure of the page of
the same name are written anew.
"""

import sys
import time
from argparse import Namespace
from functools import cache

import emcee
import matplotlib as mpl
import numpy as np
import torch
from benchmark_density import CHUNK, Array, Standardized, compared, fit, make
from matplotlib.figure import Figure
from scipy.special import xlogy
from talk_parser import TalkParser

from caloman.demonstrations.results import ResultFile, Row, markdown, run, spread
from caloman.evaluation.plots.style import REFERENCE, STYLE, rendered, sample_color
from caloman.files import write

FLOWS = ("MAF", "A-RQS")
CHAIN = "second chain"
LEVELS = (0.6827, 0.9545, 0.9973)
TEST_SEED, CONSTANTS_SEED = 2**31 - 1, 0


class ToyMeasurement:
    """Counts in bins: two signals, three backgrounds, and what is not known well about them.

    The expected count of bin b is sum_s mu_s S_sb exp(sum_k theta_k R_ksb); mu is 1 for backgrounds. The
    two strengths mu have a flat prior above 0, the nuisance parameters theta a normal one.

    Args:
        bins: number of bins, shape of the counts.
        nuisances: number K of nuisance parameters.
    """

    signals, largest = 2, 10.0

    def __init__(self, bins: int = 30, nuisances: int = 30) -> None:
        rng = np.random.default_rng(CONSTANTS_SEED)
        position = np.linspace(0, 1, bins)
        peaks = [np.exp(-0.5 * ((position - middle) / 0.06) ** 2) for middle in (0.55, 0.8)]
        slopes = [np.exp(-slope * position) for slope in (2, 4, 7)]
        self.yields = np.concatenate([np.array([[12.0], [6.0]]) * peaks, np.array([[8.0], [60.0], [150.0]]) * slopes])
        which = rng.integers(len(self.yields), size=nuisances)
        tilts = rng.normal(0, 0.15, (nuisances, 1)) + rng.normal(0, 0.2, (nuisances, 1)) * (position - 0.5)
        self.responses = np.zeros((nuisances, len(self.yields), bins))
        self.responses[np.arange(nuisances), which] = tilts
        self.features = self.signals + nuisances
        self.counts = rng.poisson(self.expected(np.r_[np.ones(self.signals), np.zeros(nuisances)][None])[0])

    def expected(self, parameters: Array) -> Array:
        """Expected counts (N, bins) at parameters (N, D): strengths first, then nuisance parameters."""
        changes = parameters[:, self.signals :] @ self.responses.reshape(len(self.responses), -1)
        parts = np.exp(changes).reshape(len(parameters), *self.yields.shape) * self.yields
        parts[:, : self.signals] *= parameters[:, : self.signals, None]
        return parts.sum(axis=1)

    def log_prob(self, parameters: Array) -> Array:
        """Logarithm of the posterior up to a constant at parameters (N, D), shape (N,)."""
        strengths = parameters[:, : self.signals]
        inside = ((strengths > 0) & (strengths < self.largest)).all(axis=1)
        expected = self.expected(np.where(inside[:, None], parameters, 1.0))
        log_likelihood = (xlogy(self.counts, expected) - expected).sum(axis=1)
        return np.where(inside, log_likelihood - 0.5 * (parameters[:, self.signals :] ** 2).sum(axis=1), -np.inf)

    def chain(self, n: int, steps: int, seed: int) -> tuple[Array, float]:
        """Points (n, D) of the posterior by ensembles of walkers, and the longest autocorrelation in steps."""
        rng = np.random.default_rng(seed)
        walkers = 6 * self.features
        start = rng.normal(0, 0.1, (walkers, self.features)) + np.r_[np.ones(2), np.zeros(self.features - 2)]
        moves = [(emcee.moves.DEMove(), 0.8), (emcee.moves.DESnookerMove(), 0.2)]
        sampler = emcee.EnsembleSampler(walkers, self.features, self.log_prob, vectorize=True, moves=moves)
        sampler.random_state = np.random.RandomState(seed).get_state()
        sampler.run_mcmc(start, steps, progress=sys.stderr.isatty())
        length = float(sampler.get_autocorr_time(tol=0).max())
        points = sampler.get_chain(discard=steps // 5, flat=True)
        return rng.permutation(points)[:n], length


def intervals(points: Array) -> Array:
    """Shortest interval of each dimension with each of the probabilities `LEVELS`, shape (levels, D, 2)."""
    ordered = np.sort(points, axis=0)
    found = []
    for level in LEVELS:
        inside = int(np.ceil(level * len(ordered)))
        lengths = ordered[inside - 1 :] - ordered[: len(ordered) - inside + 1]
        first = lengths.argmin(axis=0)
        found.append(np.stack([np.take_along_axis(ordered, (first + k)[None], 0)[0] for k in (0, inside - 1)], axis=1))
    return np.array(found)


def effective_share(target: Array, proposal: Array) -> float:
    """Share of weighted points that independent points of the target would be worth, from two log-densities (N,)."""
    weights = np.exp(target - proposal - (target - proposal).max())
    return float(weights.sum() ** 2 / (weights**2).sum() / len(weights))


def measure(name: str, seed: int, options: Namespace, samples: dict[str, Array]) -> Row:
    """Trains a flow on one chain and compares it with another, or compares both; keeps samples for the figure."""
    toy, test = ToyMeasurement(), drawn(options.test, options.steps, TEST_SEED)
    points = drawn(max(options.train, options.test), options.steps, seed)
    if name == CHAIN:
        return distances(test, points[: options.test])
    torch.manual_seed(seed)
    train, others = np.split(points[: options.train], [round(0.8 * options.train)])
    model, start = Standardized(make(name, toy.features, options), train, "cpu"), time.process_time()
    fit(model.flow, model.inputs(train), model.inputs(others), options, name)
    seconds, samples[name] = time.process_time() - start, model.sample(options.test, seed)
    share = effective_share(toy.log_prob(samples[name]), model.log_prob(samples[name]))
    return distances(test, samples[name]) | {"ESS": share, "CPU seconds": seconds}


@cache
def drawn(n: int, steps: int, seed: int) -> Array:
    """Points (n, D) of a chain."""
    points, length = ToyMeasurement().chain(n, steps, seed)
    print(f"chain {seed}: {steps} steps, of which {length:.0f} are one of independent ones", file=sys.stderr)
    return points


def distances(test: Array, points: Array) -> Row:
    """The metrics of the density benchmark, and the error of each interval."""
    true, found = intervals(test), intervals(points)
    errors = np.abs(true - found).mean(axis=2) / np.diff(true, axis=2)[..., 0]
    return compared(test, points) | dict(zip(map(str, LEVELS), errors.mean(axis=1).tolist(), strict=True))


def table(rows: list[Row]) -> str:
    """Markdown with a line for each flow, and the published numbers."""
    columns = ("KS", "SWD", "FN", *map(str, LEVELS), "ESS", "CPU seconds")
    names = [f"{100 * float(name):g} %" if name in map(str, LEVELS) else name for name in columns]
    lines = [["", "seeds", *names]]
    for flow in (CHAIN, *FLOWS):
        group = [row for row in rows if row["flow"] == flow]
        if group:
            values = [[np.atleast_1d(row[name])[0] for row in group if name in row] for name in columns]
            shown = [spread(numbers) if numbers else "" for numbers in values[:-1]]
            lines.append([flow, str(len(group)), *shown, f"{np.mean(values[-1]):.0f}" if values[-1] else ""])
    return markdown([*lines, PUBLISHED])


PUBLISHED = ["published, another toy", "", "0.489", "0.0395", "", "0.0207", "0.0121", "0.0162", "", "133"]
"""Of A-RQS in arXiv:2309.09743, whose errors of intervals may be defined in another way."""


def figure(test: Array, samples: dict[str, Array]) -> bytes:
    """PNG with the two signal strengths: histograms of each, and regions of both."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        drawn = Figure(figsize=(8, 2.8), layout="constrained")
        axes = drawn.subplots(1, 3)
        ends = np.quantile(test, 0.999, axis=0)
        shown = [
            ("chain", REFERENCE, test),
            *((name, sample_color(i), x) for i, (name, x) in enumerate(samples.items())),
        ]
        for name, color, points in shown:
            for i in range(2):
                bins = np.linspace(0, ends[i], 50)
                axes[i].hist(points[:, i], bins, density=True, histtype="step", color=color, label=name)
                axes[i].set(xlabel=f"strength of signal {i + 1}", yticks=[])
            counts, x, y = np.histogram2d(points[:, 0], points[:, 1], 25, [[0, ends[0]], [0, ends[1]]])
            ordered = np.sort(counts, axis=None)[::-1]
            levels = [ordered[np.searchsorted(ordered.cumsum(), level * len(points))] for level in LEVELS[1::-1]]
            axes[2].contour((x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2, counts.T, levels, colors=[color])
        axes[2].set(xlabel="strength of signal 1", ylabel="strength of signal 2")
        axes[0].legend()
        return rendered(drawn, "png")


def parser() -> TalkParser:
    """Of the command line."""
    parser = TalkParser(__doc__, "likelihood", seeds=[0, 1])
    parser.add_argument("--flows", choices=FLOWS, nargs="+", default=list(FLOWS))
    parser.setting("steps", 20_000, "of each chain")
    parser.setting("train", 100_000, "points, of which a fifth validates")
    parser.setting("test", 5 * CHUNK, f"points, a multiple of {CHUNK}")
    parser.setting("epochs", 30)
    parser.setting("batch", 250)
    parser.setting("learning_rate", 1e-2)
    parser.setting("hidden", 32, "half the width of the networks")
    parser.setting("bins", 16)
    parser.setting("bound", 6.0)
    return parser


def main() -> None:
    """Goes on with the measurements, prints all that belong to the same settings and writes the page."""
    command, samples = parser(), {}
    options = command.parse_args()
    results, settings = ResultFile(options.output), command.settings(options)
    keys = [
        {"flow": flow, "seed": seed, "settings": settings} for seed in options.seeds for flow in (CHAIN, *options.flows)
    ]
    print(table(results.complete(keys, lambda key: measure(key["flow"], key["seed"], options, samples))))
    results.show("likelihood", command.usual, table)
    if len(samples) == len(FLOWS):
        write(options.output.with_suffix(".png"), figure(drawn(options.test, options.steps, TEST_SEED), samples))


if __name__ == "__main__":
    run(main)
