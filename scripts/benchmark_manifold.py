"""Trains densities on toy manifolds, and measures how well they find the manifold and the density on it.

    python scripts/benchmark_manifold.py                          # circle and polynomial surface, minutes on one core
    python scripts/benchmark_manifold.py --toys lorenz --seeds 0 1 2

    truth    other points of the toy in the place of a model: the floor
    AF       ambient flow: a density of the whole space
    M/D      manifold flow: the manifold by reconstruction first, then the density on it
    joint    the same flow, trained on both losses at once
    PAE      autoencoder of dense networks, then the density on its manifold

`distance` is that of samples to the manifold, at most 1 each, `SWD` the sliced Wasserstein distance of samples and
test points, `reconstruction` the distance of test points to their projections. `log p of samples` is the true
log-density at the samples, on the manifold. `excess` is log p_model - log p_truth at test points [nats], in the plane
for AF on the circle, on the manifold otherwise: minus the KL divergence where the manifolds agree, so that one above
zero shows a model that is wrong about the manifold. All lengths are in the units of the toy.

Joint training is wrong about it unless the weight of the reconstruction is large: the likelihood, which is that of the
projections, grows without bound where the manifold shrinks. With two phases there is no weight to find.

arXiv:2003.13913 and its code: distance and true log-density in the plane of samples of the circle are .0081 and 2.0
(truth), .58 and -86 (AF), .92 and -94 (M/D), .029 and -8.8 (PAE) after 12 epochs with affine couplings.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm

from caloman.demonstrations import Circle, Lorenz, PolynomialSurface
from caloman.demonstrations.mflow import ManifoldDensity, MFlow
from caloman.evaluation.two_sample import sliced_wasserstein
from caloman.flows import CouplingFlow, Distribution
from caloman.nn.mlp import MLP

Array = NDArray[np.float64]
Toy = Circle | PolynomialSurface | Lorenz
Model = Distribution | ManifoldDensity

TOYS: dict[str, type[Toy]] = {"circle": Circle, "surface": PolynomialSurface, "lorenz": Lorenz}
TRUTH = "truth"
TEST_SEED = 2**32 - 1
NEIGHBORS = 200_000
"""Points that stand for a manifold to which no projection is known."""


class Dense(ManifoldDensity):
    """A manifold between two dense networks.

    Args:
        features: size of the points.
        inner: density of the coordinates.
        hidden: width of the networks.
    """

    def __init__(self, features: int, inner: Distribution, hidden: int) -> None:
        super().__init__(inner)
        self.encoder = MLP(features, [hidden] * 3, inner.features, torch.nn.SiLU)
        self.decoder = MLP(inner.features, [hidden] * 3, features, torch.nn.SiLU)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)


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


def main() -> None:
    """Trains, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toys", choices=TOYS, nargs="+", default=["circle", "surface"])
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--train", type=int, default=10_000, help="points")
    parser.add_argument("--test", type=int, default=10_000, help="points, and samples")
    parser.add_argument("--epochs", type=int, default=10, help="of each phase")
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--transforms", type=int, default=4, help="couplings of each flow")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--weight", type=float, default=1.0, help="of the reconstruction error in joint training")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="Initializing zero-element")  # flows of one entry
    rows = []
    for name in options.toys:
        for seed in options.seeds:
            rows += [measure(name, method, seed, options) for method in (TRUTH, *options.methods)]
    print(tabulate(rows, "keys", "github", disable_numparse=True))


def measure(name: str, method: str, seed: int, options: argparse.Namespace) -> dict[str, str]:
    """Trains one model, and compares it with the truth; or the truth with itself."""
    toy = TOYS[name]()
    test, points = toy.sample(options.test, TEST_SEED), toy.sample(options.train, seed)
    scale, start = Scale.of(points), time.process_time()
    numbers: dict[str, float] = {}
    if method == TRUTH:
        samples = points
    else:
        torch.manual_seed(seed)
        model = METHODS[method](toy, scale.inputs(points), options)
        numbers["CPU seconds"] = time.process_time() - start
        samples = scale.points(sampled(model, options.test))
        numbers |= judged(toy, model, scale, test)
    numbers["distance"] = float(distance(toy, samples).clip(max=1).mean())
    numbers["SWD"] = sliced_wasserstein(test, samples)[0]
    if not isinstance(toy, Lorenz):
        numbers["log p of samples"] = float(toy.log_prob_on_manifold(toy.project(samples)).mean())
    columns = ("distance", "SWD", "reconstruction", "log p of samples", "excess", "CPU seconds")
    words = {column: f"{numbers[column]:.3g}" if column in numbers else "" for column in columns}
    return {"toy": name, "seed": str(seed), "method": method, **words}


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


def ambient(toy: Toy, points: Tensor, options: argparse.Namespace) -> Distribution:
    """AF."""
    model = flow(toy.features, options)
    fit(model.parameters(), model.loss, points, options.epochs, options)
    return model


def manifold_then_density(toy: Toy, points: Tensor, options: argparse.Namespace) -> ManifoldDensity:
    """M/D."""
    return in_two_phases(MFlow(flow(toy.features, options), flow(toy.intrinsic, options)), points, options)


def autoencoder_then_density(toy: Toy, points: Tensor, options: argparse.Namespace) -> ManifoldDensity:
    """PAE."""
    return in_two_phases(Dense(toy.features, flow(toy.intrinsic, options), options.hidden), points, options)


def jointly(toy: Toy, points: Tensor, options: argparse.Namespace) -> ManifoldDensity:
    """Both losses at once, with the volume, on which the manifold depends."""
    model = MFlow(flow(toy.features, options), flow(toy.intrinsic, options))

    def loss(x: Tensor) -> Tensor:
        return (options.weight * model.reconstruction_error(x) - model.log_prob(x)).mean()

    fit(model.parameters(), loss, points, options.epochs, options)
    return model


METHODS: dict[str, Callable[[Toy, Tensor, argparse.Namespace], Model]] = {
    "AF": ambient,
    "M/D": manifold_then_density,
    "joint": jointly,
    "PAE": autoencoder_then_density,
}


def flow(features: int, options: argparse.Namespace) -> CouplingFlow:
    """A spline flow, of as many entries as the space or the manifold has dimensions."""
    return CouplingFlow(features, transforms=options.transforms, hidden=options.hidden, actnorm=True)


def in_two_phases(model: ManifoldDensity, points: Tensor, options: argparse.Namespace) -> ManifoldDensity:
    """Trains the manifold and then, with that fixed, the density on it."""
    outer = [parameter for name, parameter in model.named_parameters() if not name.startswith("inner.")]
    fit(outer, lambda x: model.reconstruction_error(x).mean(), points, options.epochs, options)
    with torch.no_grad():
        model.inner.fit(lambda: [(model.encode(points), None)])
    fit(model.inner.parameters(), model.latent_loss, points, options.epochs, options)
    return model


def fit(
    parameters: Iterable[torch.nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    points: Tensor,
    epochs: int,
    options: argparse.Namespace,
) -> None:
    """Minimizes a loss with Adam and one cycle of the learning rate."""
    parameters = list(parameters)
    optimizer = torch.optim.Adam(parameters, options.learning_rate)
    steps = epochs * -(-len(points) // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, steps)
    for _ in tqdm(range(epochs), unit="epoch", leave=False):
        for rows in torch.randperm(len(points)).split(options.batch):
            optimizer.zero_grad()
            loss(points[rows]).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            schedule.step()


if __name__ == "__main__":
    main()
