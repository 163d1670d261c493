"""Trains each kind of flow on a density whose truth is known, and compares samples and likelihood with the truth.

    python scripts/benchmark_density.py                            # the page docs/talks/density.md: hours on one core
    python scripts/benchmark_density.py --causes --seeds 0         # its second table: which setting matters
    python scripts/benchmark_density.py --dimensions 2 --train 1000 --output table.json
    python scripts/benchmark_density.py --dimensions 400 1000 --flows A-RQS   # minutes on a GPU

Each result is written as it comes, and the same command goes on after an interruption; another seed, size or flow adds
to the table. Figure and tables of the page of the same name are written anew. `truth` is a second sample of the target
in the place of a flow: the floor. The metrics are in the convention of arXiv:2302.12024: means over batches of 10 000
points, of the Kolmogorov-Smirnov p-value (1/2 is ideal), of the Wasserstein distance of 100 projections (SWD) and of
the distance between the correlation matrices (FN). KL is the mean of log p_truth - log p_flow on the truth's points
[nats]. Choose settings by validation loss, not by these.
"""

import argparse
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import density_report
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloman.demonstrations import CorrelatedGaussian, CorrelatedMixture, GaussianMixture, Target, UncorrelatedMixture
from caloman.demonstrations.results import ResultFile, Row, defaults, run
from caloman.demonstrations.training import epochs
from caloman.evaluation.two_sample import correlation_distance, kolmogorov_smirnov, sliced_wasserstein
from caloman.flows import AutoregressiveFlow, Coupling, CouplingFlow, Flow, Permutation, Spline
from caloman.flows.distribution import Distribution
from caloman.nn.mlp import ResidualMLP

Array = NDArray[np.float64]


def permuted_each_time(features: int, hidden: int, bins: int, bound: float) -> Flow:
    """C-RQS as it was: a random permutation after every coupling, not after every second, so that entries stay behind.

    Each coupling moves every other entry. After n of them, 2^-n of all entries have never been moved.
    """
    chain: list[Any] = []
    for i in range(6):
        mask = torch.arange(features) % 2 == i % 2
        chain += [Coupling(mask, 0, Spline(bins, bound), partial(ResidualMLP, hidden=hidden, blocks=2))]
        chain += [Permutation(features)]
    return Flow(features, chain)


TARGETS: dict[str, Callable[[int], Target]] = {
    "correlated-mixture": CorrelatedMixture,
    "uncorrelated-mixture": UncorrelatedMixture,
    "correlated-gaussian": CorrelatedGaussian,
}
FLOWS: dict[str, Callable[..., Distribution]] = {
    "RealNVP": partial(CouplingFlow, elementwise="affine", transforms=10, mixing="permutation"),
    "MAF": partial(AutoregressiveFlow, elementwise="affine", transforms=5, mixing="reverse"),
    "C-RQS": partial(CouplingFlow, elementwise="spline", transforms=6, mixing="permutation"),
    "A-RQS": partial(AutoregressiveFlow, elementwise="spline", transforms=2, mixing="reverse"),
    "Mixture": GaussianMixture,
}
VARIANTS = {"C-RQS, permuted each time": permuted_each_time, "A-RQS, narrow": FLOWS["A-RQS"]}
NARROW = ("RealNVP", "C-RQS", *VARIANTS)
TRUTH = "truth"
FEW_EPOCHS, WIDE = 4, 10.0
CAUSES: dict[tuple[str, int], list[Row]] = {
    ("C-RQS", 16): [
        {},
        {"flow": "C-RQS, permuted each time"},
        {"learning_rate": 2e-3},
        {"batch": 1000},
        {"bound": 4.0},
        {"hidden": 128},
        {"epochs": 20},
        {"bound": None},
    ],
    ("A-RQS, narrow", 64): [
        {},
        {"flow": "A-RQS"},
        {"bound": None},
        {"epochs": 20},
        {"epochs": 20, "bound": None},
    ],
}
"""What is changed in turn, to see what it is worth for a flow in some dimensions after few epochs in a wide box."""

METRICS = {"KS": kolmogorov_smirnov, "SWD": sliced_wasserstein, "FN": correlation_distance}
TEST_SEED = 2**32 - 2
"""Of the points that all runs are compared with; those that a run fits, validates with or samples have its own."""
CHUNK = 10_000
LARGE = 100
"""More dimensions have a lower learning rate."""


class Standardized:
    """A density of vectors that are brought to zero mean and unit variance first.

    Args:
        flow: the density of the standardized vectors.
        points: which set mean and variance, shape (N, D).
        device: of the flow.
    """

    def __init__(self, flow: Distribution, points: Array, device: str) -> None:
        self.flow, self.device = flow.to(device), device
        self.mean, self.width = points.mean(axis=0), points.std(axis=0)

    def inputs(self, points: Array) -> Tensor:
        """Points (N, D) as the flow sees them."""
        return torch.as_tensor((points - self.mean) / self.width, dtype=torch.float32, device=self.device)

    @torch.no_grad()
    def log_prob(self, points: Array) -> Array:
        """Logarithm of the density at points (N, D), shape (N,)."""
        log_prob = torch.cat([self.flow.log_prob(self.inputs(chunk)) for chunk in _chunks(points)])
        return log_prob.double().cpu().numpy() - np.log(self.width).sum()

    @torch.no_grad()
    def sample(self, n: int, seed: int) -> Array:
        """Points, shape (n, D)."""
        noise = torch.randn(n, self.flow.noise_dim, generator=torch.Generator().manual_seed(seed))
        samples = torch.cat([self.flow.sample(chunk.to(self.device)) for chunk in noise.split(CHUNK)])
        return samples.double().cpu().numpy() * self.width + self.mean


def fit(flow: Distribution, train: Tensor, validation: Tensor, options: argparse.Namespace, name: str = "") -> float:
    """Trains a flow, leaves it with the weights of the best epoch and returns the validation loss of that."""
    best, weights = float("inf"), flow.state_dict()
    for _ in epochs(flow.parameters(), flow.loss, train, options.epochs, options.batch, options.learning_rate, name):
        with torch.no_grad():
            loss = -torch.cat([flow.log_prob(chunk) for chunk in validation.split(CHUNK)]).mean().item()
        if loss < best:
            best, weights = loss, deepcopy(flow.state_dict())
    flow.load_state_dict(weights)
    return best


def make(name: str, points: Array, options: argparse.Namespace) -> Distribution:
    """An untrained flow of one of the kinds for points (N, D); unless told otherwise, its box holds them all."""
    features = points.shape[1]
    largest = float(np.abs((points - points.mean(axis=0)) / points.std(axis=0)).max())
    spline = {"bins": options.bins, "bound": options.bound or largest} if "RQS" in name else {}
    # a masked network carries as many entries as it has units, and the first ones need several units each
    hidden = options.hidden if name in NARROW else 2 * max(options.hidden, features)
    return (FLOWS | VARIANTS)[name](features, hidden=hidden, **spline)


def measure(name: str, target: Target, seed: int, options: argparse.Namespace) -> Row:
    """Trains and compares one flow, or compares a second sample of the target."""
    test = target.sample(options.test, TEST_SEED)
    if name == TRUTH:
        return compared(test, target.sample(options.test, seed))
    torch.manual_seed(seed)
    points, others = np.split(target.sample(options.train, seed), [round(0.8 * options.train)])
    model = Standardized(make(name, points, options), points, options.device)
    start = time.process_time(), time.perf_counter()
    loss = fit(model.flow, model.inputs(points), model.inputs(others), options, f"{target.features}-D {name}")
    seconds = time.process_time() - start[0], time.perf_counter() - start[1]
    excess = {
        name: target.log_prob(x) - model.log_prob(x)
        for name, x in {"KL": test, "KL train": points[: len(test)]}.items()
    }
    return compared(test, model.sample(options.test, seed)) | {
        **{name: (float(e.mean()), float(e.std() / np.sqrt(len(e)))) for name, e in excess.items()},
        "validation": float(loss + np.log(model.width).sum()),
        "CPU seconds": seconds[0],
        "seconds": seconds[1],
        "device": options.device,
        "parameters": sum(parameter.numel() for parameter in model.flow.parameters()),
    }


def compared(test: Array, points: Array) -> Row:
    """Each metric: mean over consecutive batches of both samples (arXiv:2302.12024), and its standard error."""
    pairs = list(zip(_chunks(test), _chunks(points), strict=True))
    values = {name: [f(*pair)[0] for pair in pairs] for name, f in METRICS.items()}
    return {name: (float(np.mean(v)), float(np.std(v, ddof=1) / np.sqrt(len(v)))) for name, v in values.items()}


def _chunks(points: Array) -> list[Array]:
    return [points[start : start + CHUNK] for start in range(0, len(points), CHUNK)]


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("what is measured")
    what.add_argument("--target", choices=TARGETS, default="correlated-mixture")
    what.add_argument("--dimensions", type=_dimension, nargs="+", default=[4, 8, 16, 32, 64, 100])
    what.add_argument("--flows", choices=FLOWS, nargs="+", default=list(FLOWS))
    what.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    what.add_argument("--causes", action="store_true", help="some flows with one setting changed at a time")
    what.add_argument("--output", type=Path, default=Path("docs/talks/density.json"))
    what.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    settings = parser.add_argument_group("settings, on which the results depend")
    settings.add_argument("--train", type=int, default=100_000, help="points, of which a fifth validates")
    settings.add_argument("--test", type=_test, default=50_000, help="points of each sample, a multiple of 10 000")
    settings.add_argument("--epochs", type=int, default=20, help="in which the learning rate falls to 0")
    settings.add_argument("--batch", type=int, default=250)
    settings.add_argument("--learning-rate", type=float, help="0.01, or 0.003 above 100-D")
    settings.add_argument("--hidden", type=int, default=32, help="of couplings; others have twice that or more")
    settings.add_argument("--bins", type=int, default=16)
    settings.add_argument("--bound", type=float, help="half a side of the box; that of all points if left out")
    return parser


def _dimension(text: str) -> int:
    if not text.isdigit() or not 2 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of dimensions from 2 to 1000")
    return int(text)


def _test(text: str) -> int:
    if not text.isdigit() or int(text) < 2 * CHUNK or int(text) % CHUNK:
        raise argparse.ArgumentTypeError(f"{text!r} is no multiple of {CHUNK}, at least twice that")
    return int(text)


SETTINGS = ("train", "test", "epochs", "batch", "learning_rate", "hidden", "bins", "bound")


def usual(features: int) -> Row:
    """The settings where nothing else is asked for; the validation loss chose them."""
    return defaults(parser(), SETTINGS) | {"learning_rate": 1e-2 if features <= LARGE else 3e-3}


def wanted(options: argparse.Namespace) -> list[Row]:
    """What identifies the rows that the options ask for, in the order in which they are measured."""

    def chosen(features: int) -> Row:
        asked = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
        return usual(features) | asked

    if options.causes:
        base = {"epochs": FEW_EPOCHS, "bound": WIDE}
        return [
            {
                **{"target": options.target, "features": features, "flow": change.get("flow", flow), "seed": seed},
                "settings": chosen(features)
                | {name: value for name, value in (base | change).items() if name != "flow"},
            }
            for seed in options.seeds
            for (flow, features), changes in CAUSES.items()
            for change in changes
        ]
    return [
        {"target": options.target, "features": features, "flow": flow, "seed": seed, "settings": chosen(features)}
        for seed in options.seeds
        for features in options.dimensions
        for flow in (TRUTH, *options.flows)
    ]


def main() -> None:
    """Goes on with the measurements, prints all that belong to the same settings and writes the page."""
    options = parser().parse_args()
    results = ResultFile(options.output)

    def measured(key: Row) -> Row:
        options_of_row = argparse.Namespace(**{**vars(options), **key["settings"]})
        return measure(key["flow"], TARGETS[key["target"]](key["features"]), key["seed"], options_of_row)

    rows = results.complete(wanted(options), measured)
    print(density_report.causes(rows) if options.causes else density_report.table(rows))
    density_report.write_page(results, usual)


if __name__ == "__main__":
    run(main)
