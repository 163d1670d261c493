"""Trains densities on toy manifolds, and measures how well they find the manifold and the density on it.

    python scripts/benchmark_manifold.py                          # the page docs/talks/manifolds.md: half an hour
    python scripts/benchmark_manifold.py --toys circle --seeds 0 --output circle.json

    truth    other points of the toy in the place of a model: the floor
    AF       ambient flow: a density of the whole space
    M/D      manifold flow: the manifold by reconstruction first, then the density on it
    joint    the same flow, trained on both losses at once
    OT/D     the same flow, trained as a generator by optimal transport first, then the density on its manifold
    PAE      autoencoder of dense networks, then the density on its manifold

`distance` is that of samples to the manifold, at most 1 each, `SWD` the sliced Wasserstein distance of samples and
test points, `reconstruction` the distance of test points to their projections. `log p of samples` is the true
log-density at the samples, each at least -100: in the plane on the circle, as in the paper, on the manifold otherwise.
`excess` is log p_model - log p_truth at test points [nats], in the plane for AF on the circle, on the manifold
otherwise: minus the KL divergence where the manifolds agree, so that one above zero shows a model that is wrong about
the manifold. All lengths are in the units of the toy.

Joint training is wrong about it unless the weight of the reconstruction is large: the likelihood, which is that of the
projections, grows without bound where the manifold shrinks. With two phases there is no weight to find.

Each result is written as it comes, and the same command goes on after an interruption. Figure and table of the page of
the same name are written anew.
"""

import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial

import manifold_report
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from talk_parser import TalkParser
from torch import Tensor
from transport import sinkhorn_divergence

from caloman.demonstrations import Circle, Lorenz, PolynomialSurface
from caloman.demonstrations.mflow import Dense, ManifoldDensity, MFlow
from caloman.demonstrations.results import ResultFile, Row, run
from caloman.demonstrations.training import epochs
from caloman.evaluation.two_sample import sliced_wasserstein
from caloman.flows import CouplingFlow, Distribution

Array = NDArray[np.float64]
Toy = Circle | PolynomialSurface | Lorenz
Model = Distribution | ManifoldDensity

TOYS: dict[str, Callable[[], Toy]] = {
    "circle": Circle,
    "surface, narrow": partial(PolynomialSurface, theta=-1.0),
    "surface": PolynomialSurface,
    "surface, wide": partial(PolynomialSurface, theta=1.0),
    "lorenz": Lorenz,
}
TRUTH = "truth"
TEST_SEED = 2**32 - 1
LEAST = -100.0
"""True log-densities below are taken for this one, as the paper does."""
SHOWN = 300
"""Samples of the circle that are kept for the figure."""
BLUR = 0.05
"""Of the optimal transport, in units of the points' standard deviation."""
NEIGHBORS = 200_000
"""Points that stand for a manifold to which no projection is known."""


@dataclass(frozen=True)
class Scale:
    """One number for all directions, so that volumes on the manifold scale with it, too.

    Args:
        mean: of the points, shape (D,).
        size: root mean square of all their coordinates.
    """

    mean: Array
    size: float

    @classmethod
    def of(cls, points: Array) -> "Scale":
        """Scale of points (N, D)."""
        return cls(points.mean(axis=0), float(points.std(axis=0).mean()))

    def inputs(self, points: Array) -> Tensor:
        """Points (N, D) as the models see them."""
        return torch.as_tensor((points - self.mean) / self.size, dtype=torch.float32)

    def points(self, outputs: Tensor) -> Array:
        """Undoes `inputs`."""
        return outputs.double().numpy() * self.size + self.mean


def parser() -> TalkParser:
    """Of the command line."""
    parser = TalkParser(__doc__, "manifolds", seeds=[0, 1, 2])
    parser.add_argument("--toys", choices=TOYS, nargs="+", default=list(TOYS))
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=list(METHODS))
    parser.setting("train", 10_000, "points")
    parser.setting("test", 10_000, "points, and samples")
    parser.setting("epochs", 10, "of each phase")
    parser.setting("batch", 250)
    parser.setting("learning_rate", 3e-3)
    parser.setting("transforms", 4, "couplings of each flow")
    parser.setting("hidden", 64)
    parser.setting("weight", 1.0, "of the reconstruction error in joint training")
    return parser


def main() -> None:
    """Goes on with the measurements, prints all that belong to the same settings and writes the page."""
    command = parser()
    options = command.parse_args()
    warnings.filterwarnings("ignore", message="Initializing zero-element")  # flows of one entry
    results, settings = ResultFile(options.output), command.settings(options)
    keys = [
        {"toy": toy, "method": method, "seed": seed, "settings": settings}
        for seed in options.seeds
        for toy in options.toys
        for method in (TRUTH, *options.methods)
    ]
    rows = results.complete(keys, lambda key: measure(key["toy"], key["method"], key["seed"], options))
    print(manifold_report.table(rows))
    results.show("manifolds", command.usual, manifold_report.table, manifold_report.figure)


def measure(name: str, method: str, seed: int, options: Namespace) -> Row:
    """Trains one model, and compares it with the truth; or the truth with itself."""
    toy = TOYS[name]()
    test, points = toy.sample(options.test, TEST_SEED), toy.sample(options.train, seed)
    scale, start = Scale.of(points), time.process_time()
    row: Row = {}
    if method == TRUTH:
        samples = toy.sample(options.test, TEST_SEED - 2)
    else:
        torch.manual_seed(seed)
        model = METHODS[method](toy, scale.inputs(points), options)
        row["CPU seconds"] = time.process_time() - start
        samples = scale.points(sampled(model, options.test))
        row |= judged(toy, model, scale, test)
    row["distance"] = float(distance(toy, samples).clip(max=1).mean())
    row["SWD"] = sliced_wasserstein(test, samples)[0]
    if isinstance(toy, Circle):
        row["log p of samples"] = float(toy.log_prob(samples).clip(min=LEAST).mean())
        row["samples"] = samples[:SHOWN].round(3).tolist()
    elif isinstance(toy, PolynomialSurface):
        row["log p of samples"] = float(toy.log_prob_on_manifold(toy.project(samples)).clip(min=LEAST).mean())
    return row


@torch.no_grad()
def sampled(model: Model, n: int) -> Tensor:
    """Points (n, D) of a model."""
    noise_dim = model.inner.noise_dim if isinstance(model, ManifoldDensity) else model.noise_dim
    return model.sample(torch.randn(n, noise_dim))


@torch.no_grad()
def judged(toy: Toy, model: Model, scale: Scale, test: Array) -> dict[str, float]:
    """What test points (N, D) tell about a model."""
    inputs, numbers = scale.inputs(test), {}
    on_manifold = isinstance(model, ManifoldDensity)
    if on_manifold:
        numbers["reconstruction"] = float(model.reconstruction_error(inputs).sqrt().mean()) * scale.size
    if isinstance(toy, Circle) or (on_manifold and not isinstance(toy, Lorenz)):
        dimensions = toy.intrinsic if on_manifold else toy.features
        log_prob = model.log_prob(inputs).double().numpy() - dimensions * np.log(scale.size)
        truth = toy.log_prob_on_manifold(test) if on_manifold else toy.log_prob(test)
        numbers["excess"] = float((log_prob - truth).mean())
    return numbers


def distance(toy: Toy, points: Array) -> Array:
    """Distance of points (N, D) to the manifold, shape (N,)."""
    if isinstance(toy, Lorenz):
        return attractor().query(points)[0]
    return np.linalg.norm(points - toy.project(points), axis=1)


@cache
def attractor() -> KDTree:
    """Points of the Lorenz attractor."""
    return KDTree(Lorenz().sample(NEIGHBORS, TEST_SEED - 1))


def ambient(toy: Toy, points: Tensor, options: Namespace) -> Distribution:
    """AF."""
    model = flow(toy.features, options)
    fit(model.parameters(), model.loss, points, options.epochs, options)
    return model


def manifold_then_density(toy: Toy, points: Tensor, options: Namespace) -> ManifoldDensity:
    """M/D."""
    return in_two_phases(MFlow(flow(toy.features, options), flow(toy.intrinsic, options)), points, options)


def autoencoder_then_density(toy: Toy, points: Tensor, options: Namespace) -> ManifoldDensity:
    """PAE."""
    return in_two_phases(Dense(toy.features, flow(toy.intrinsic, options), options.hidden), points, options)


def jointly(toy: Toy, points: Tensor, options: Namespace) -> ManifoldDensity:
    """Both losses at once, with the volume, on which the manifold depends."""
    model = MFlow(flow(toy.features, options), flow(toy.intrinsic, options))

    def loss(x: Tensor) -> Tensor:
        return (options.weight * model.reconstruction_error(x) - model.log_prob(x)).mean()

    fit(model.parameters(), loss, points, options.epochs, options)
    return model


def transported(toy: Toy, points: Tensor, options: Namespace) -> ManifoldDensity:
    """OT/D: samples come close to the points by a Sinkhorn divergence, without an encoder."""
    model = MFlow(flow(toy.features, options), flow(toy.intrinsic, options))
    fit(
        model.parameters(),
        lambda x: sinkhorn_divergence(model.sample(torch.randn(len(x), toy.intrinsic)), x, BLUR),
        *(points, options.epochs, options),
    )
    return density_of(model, points, options)


METHODS: dict[str, Callable[[Toy, Tensor, Namespace], Model]] = {
    "AF": ambient,
    "M/D": manifold_then_density,
    "joint": jointly,
    "OT/D": transported,
    "PAE": autoencoder_then_density,
}


def flow(features: int, options: Namespace) -> CouplingFlow:
    """A spline flow, of as many entries as the space or the manifold has dimensions."""
    return CouplingFlow(features, transforms=options.transforms, hidden=options.hidden, actnorm=True)


def in_two_phases(model: ManifoldDensity, points: Tensor, options: Namespace) -> ManifoldDensity:
    """Trains the manifold and then, with that fixed, the density on it."""
    outer = [parameter for name, parameter in model.named_parameters() if not name.startswith("inner.")]
    fit(outer, lambda x: model.reconstruction_error(x).mean(), points, options.epochs, options)
    return density_of(model, points, options)


def density_of(model: ManifoldDensity, points: Tensor, options: Namespace) -> ManifoldDensity:
    """Trains the density on a manifold that stays."""
    with torch.no_grad():
        model.inner.fit(lambda: [(model.encode(points), None)])
    fit(model.inner.parameters(), model.latent_loss, points, options.epochs, options)
    return model


def fit(
    parameters: Iterable[torch.nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    points: Tensor,
    n: int,
    options: Namespace,
) -> None:
    """Minimizes a loss of points (N, D) over n epochs."""
    for _ in epochs(parameters, loss, points, n, options.batch, options.learning_rate):
        pass


if __name__ == "__main__":
    run(main)
