"""Trains each kind of flow on a density whose truth is known, and compares samples and likelihood with the truth.

    python scripts/benchmark_density.py --dimensions 4 16 --output table.json
    python scripts/benchmark_density.py --dimensions 100 400 1000 --epochs 300 --seeds 0 1 2 --output table.json  # GPU

Each result is written as it comes, and the same command goes on after an interruption; another seed, size or flow adds
to the table. `truth` is a second sample of the target in the place of a flow: the floor. The metrics are in the
convention of arXiv:2302.12024: means over batches of 10 000 points, of the Kolmogorov-Smirnov p-value (1/2 is ideal),
of the Wasserstein distance of 100 projections (SWD) and of the distance between the correlation matrices (FN). KL is
the mean of log p_truth - log p_flow on the truth's points [nats]. Choose settings by validation loss, not by these.
"""

import argparse
import json
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from caloman.demonstrations import CorrelatedGaussian, CorrelatedMixture, GaussianMixture, Target, UncorrelatedMixture
from caloman.evaluation.two_sample import correlation_distance, kolmogorov_smirnov, sliced_wasserstein
from caloman.files import write
from caloman.flows import AutoregressiveFlow, CouplingFlow
from caloman.flows.distribution import Distribution

Row = dict[str, Any]
Array = NDArray[np.float64]

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
TRUTH = "truth"
METRICS = {"KS": kolmogorov_smirnov, "SWD": sliced_wasserstein, "FN": correlation_distance}
PUBLISHED = {
    ("A-RQS", 4): (0.486, 0.027, 0.019),
    ("MAF", 4): (0.498, 0.028, 0.028),
    ("RealNVP", 4): (0.502, 0.022, 0.023),
    ("C-RQS", 4): (0.499, 0.023, 0.013),
    ("A-RQS", 16): (0.491, 0.022, 0.23),
    ("MAF", 16): (0.521, 0.029, 0.79),
    ("RealNVP", 16): (0.371, 0.041, 0.40),
    ("C-RQS", 16): (0.365, 0.051, 0.42),
    ("A-RQS", 100): (0.406, 0.056, 0.88),
    ("MAF", 100): (0.33, 0.108, 1.6),
    ("RealNVP", 100): (0.338, 0.108, 1.6),
    ("C-RQS", 100): (0.015, 0.12, 3.0),
    ("A-RQS", 400): (0.497, 0.040, 12.7),
    ("MAF", 400): (0.394, 0.073, 27.8),
    ("RealNVP", 400): (0.265, 0.105, 36.5),
    ("A-RQS", 1000): (0.535, 0.031, 5.5),
}
"""KS, SWD and FN on the correlated mixture: means of the seeds in the logs of github.com/NF4HEP/NormalizingFlowsHD."""

TEST_SEED = 2**32 - 1
"""Of the points that all runs are compared with; those that a run fits, validates with or samples have its own."""
CHUNK = 10_000


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
        log_prob = self.flow.log_prob(self.inputs(points))
        return log_prob.double().cpu().numpy() - np.log(self.width).sum()

    @torch.no_grad()
    def sample(self, n: int, seed: int) -> Array:
        """Points, shape (n, D)."""
        noise = torch.randn(n, self.flow.noise_dim, generator=torch.Generator().manual_seed(seed))
        samples = torch.cat([self.flow.sample(chunk.to(self.device)) for chunk in noise.split(CHUNK)])
        return samples.double().cpu().numpy() * self.width + self.mean


def fit(flow: Distribution, train: Tensor, validation: Tensor, options: argparse.Namespace, name: str = "") -> float:
    """Trains a flow, leaves it with the weights of the best epoch and returns the validation loss of that."""
    optimizer = torch.optim.Adam(flow.parameters(), options.learning_rate)
    steps = options.epochs * -(-len(train) // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, steps)
    best, best_epoch, weights = float("inf"), 0, flow.state_dict()
    with tqdm(range(options.epochs), desc=name, unit="epoch") as progress:
        for epoch in progress:
            for rows in torch.randperm(len(train), device=train.device).split(options.batch):
                optimizer.zero_grad()
                (-flow.log_prob(train[rows]).mean()).backward()
                torch.nn.utils.clip_grad_norm_(flow.parameters(), options.gradient_clip)
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                loss = -torch.cat([flow.log_prob(chunk) for chunk in validation.split(CHUNK)]).mean().item()
            if loss < best:
                best, best_epoch, weights = loss, epoch, deepcopy(flow.state_dict())
            progress.set_postfix(validation=f"{loss:.4f}", best=f"{best:.4f}")
            if epoch - best_epoch >= options.patience:
                break
    flow.load_state_dict(weights)
    return best


def make(name: str, features: int, options: argparse.Namespace) -> Distribution:
    """An untrained flow of one of the kinds."""
    sizes = {} if name == "Mixture" else {"hidden": options.hidden, "blocks": options.blocks}
    spline = {"bins": options.bins, "bound": options.bound} if name.endswith("RQS") else {}
    return FLOWS[name](features, **sizes, **spline)


def measure(name: str, target: Target, seed: int, options: argparse.Namespace) -> Row:
    """Trains and compares one flow, or compares a second sample of the target."""
    test = target.sample(options.test, TEST_SEED)
    if name == TRUTH:
        return compared(test, target.sample(options.test, seed))
    torch.manual_seed(seed)
    points, others = np.split(target.sample(options.train, seed), [round(0.8 * options.train)])
    model = Standardized(make(name, target.features, options), points, options.device)
    start = time.perf_counter()
    loss = fit(model.flow, model.inputs(points), model.inputs(others), options, f"{target.features}-D {name}")
    seconds = time.perf_counter() - start
    chunks = np.array_split(test, -(-len(test) // CHUNK))
    excess = np.concatenate([target.log_prob(chunk) - model.log_prob(chunk) for chunk in chunks])
    return compared(test, model.sample(options.test, seed)) | {
        "KL": (excess.mean(), excess.std() / np.sqrt(len(excess))),
        "validation": loss + np.log(model.width).sum(),
        "seconds": seconds,
        "parameters": sum(parameter.numel() for parameter in model.flow.parameters()),
    }


def compared(test: Array, points: Array) -> Row:
    """Each metric: mean over consecutive batches of both samples (arXiv:2302.12024), and its standard error."""
    batches = [slice(start, start + CHUNK) for start in range(0, min(len(test), len(points)) - CHUNK + 1, CHUNK)]
    values = {name: [f(test[b], points[b])[0] for b in batches] for name, f in METRICS.items()}
    return {name: (np.mean(v), np.std(v, ddof=1) / np.sqrt(len(v))) for name, v in values.items()}


def table(rows: list[Row]) -> str:
    """Markdown with the published numbers beside ours."""
    columns = ["target", "D", "flow", "seed", *METRICS, "KL", "published KS / SWD / FN", "parameters", "minutes"]
    lines = [" | ".join(columns), "|".join("-" * len(columns))]
    for row in rows:
        values = [f"{row[name][0]:.3g} +- {row[name][1]:.1g}" if name in row else "" for name in (*METRICS, "KL")]
        known = PUBLISHED.get((row["flow"], row["features"])) if row["target"] == "correlated-mixture" else None
        values.append(" / ".join(map(str, known)) if known else "")
        values += [str(row["parameters"]), f"{row['seconds'] / 60:.1f}"] if "parameters" in row else ["", ""]
        lines.append(" | ".join([row["target"], str(row["features"]), row["flow"], str(row["seed"]), *values]))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    """Goes on with the measurements and prints all that belong to the same settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("what is measured")
    what.add_argument("--target", choices=TARGETS, default="correlated-mixture")
    what.add_argument("--dimensions", type=int, nargs="+", default=[4])
    what.add_argument("--flows", choices=FLOWS, nargs="+", default=list(FLOWS))
    what.add_argument("--seeds", type=int, nargs="+", default=[0])
    what.add_argument("--output", type=Path, default=Path("density.json"))
    what.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    settings = parser.add_argument_group("settings, on which the results depend")
    settings.add_argument("--train", type=int, default=100_000, help="points, of which a fifth validates")
    settings.add_argument("--test", type=int, default=100_000, help="points of each sample, at least 20 000")
    settings.add_argument("--epochs", type=int, default=40, help="at most; the learning rate falls to 0 in this time")
    settings.add_argument("--patience", type=int, default=20, help="epochs without a better validation loss")
    settings.add_argument("--batch", type=int, default=1000)
    settings.add_argument("--learning-rate", type=float, default=2e-3)
    settings.add_argument("--gradient-clip", type=float, default=5.0)
    settings.add_argument("--hidden", type=int, default=128)
    settings.add_argument("--blocks", type=int, default=2)
    settings.add_argument("--bins", type=int, default=16)
    settings.add_argument("--bound", type=float, default=10.0, help="rare components lie 8 standard deviations away")
    options = parser.parse_args()
    chosen = {action.dest: getattr(options, action.dest) for action in settings._group_actions}
    rows: list[Row] = json.loads(options.output.read_text()) if options.output.is_file() else []
    wanted = [
        {"target": options.target, "features": features, "flow": flow, "seed": seed, "settings": chosen}
        for features in options.dimensions
        for seed in options.seeds
        for flow in (TRUTH, *options.flows)
    ]
    for key in wanted:
        if not any(key.items() <= row.items() for row in rows):
            target = TARGETS[key["target"]](key["features"])
            rows.append({**key, **measure(key["flow"], target, key["seed"], options)})
            write(options.output, json.dumps(rows, indent=1))
    print(table([row for row in rows if any(key.items() <= row.items() for key in wanted)]))


if __name__ == "__main__":
    main()
