"""Asks flows how sure they are of the layer energies of photons, and Geant4 whether they are right.

    python scripts/benchmark_bands.py DATA            # the page docs/talks/bands.md: ten minutes on one core

DATA is a folder with g4_photons_train.hdf5 and g4_photons_test.hdf5. A spline flow learns the energies of the five
layers under the incident energy. Four methods give several members each:

    noise       one training, generated again and again: the spread is statistical alone
    ensemble    trainings with different seeds
    bootstrap   trainings with different seeds, on showers drawn with replacement
    last layer  one training; the weights of the last layers of the pair of couplings next to the data are drawn from
                a Gaussian around it whose precision is the Fisher information and that of a prior (Laplace)

The spread of the members is a band around their mean histogram. `68 %` and `95 %` are the fractions of bins where the
test file lies within that band, with the errors of both; `pull` is the root mean square of the distances in standard
deviations, 1 for bands that are right; `spread` is that of the members over the statistical error of the test file;
`gain` is the mean log-density of the mixture of all members at test showers over that of one of them [nats].

Each result is written as it comes, and the same command goes on after an interruption. Figure and table of the page of
the same name are written anew.
"""

import math
from argparse import Namespace
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from layer_energies import TOTAL, Energies, LayerFlow
from matplotlib.figure import Figure
from numpy.typing import NDArray
from talk_parser import TalkParser
from torch import Tensor

from caloman.demonstrations.results import ResultFile, Row, markdown, run, spread
from caloman.demonstrations.training import epochs
from caloman.evaluation.bands import calibrate, histogram_bands
from caloman.evaluation.plots.style import REFERENCE, STYLE, rendered, sample_color
from caloman.flows import Coupling

Array = NDArray[np.float64]
COPIES = 4
"""Generated showers for each one of the test file."""
FISHER_ROWS = 10_000
BINS = 20
GROUPS = {"up to 1 GeV": (0, 1100), "2 to 8 GeV": (1100, 9000), "16 GeV and more": (9000, np.inf)}


class Experiment:
    """Trainings and comparisons on one pair of files.

    Args:
        folder: with the files.
        options: of the command line.
    """

    def __init__(self, folder: Path, options: Namespace) -> None:
        self.train, self.test = (Energies.load(folder / f"g4_photons_{name}.hdf5") for name in ("train", "test"))
        self.options = options

    @cache  # noqa: B019 -- one object
    def fitted(self, seed: int, bootstrap: bool) -> LayerFlow:
        """One training."""
        torch.manual_seed(seed)
        model, options = LayerFlow(self.train), self.options
        rows = torch.cat(model.tensors(self.train), dim=1)
        chosen = torch.randint(len(rows), (len(rows),)) if bootstrap else torch.arange(len(rows))
        for _ in epochs(
            model.parameters(), lambda x: -model.log_prob(x).mean(), rows[chosen],
            options.epochs, options.batch, options.learning_rate, f"seed {seed}",
        ):  # fmt: skip
            pass
        return model

    def members(self, method: str, seed: int) -> list[LayerFlow]:
        """The members that a method gives; those of other seeds are others."""
        n = self.options.members
        seeds = range(seed * n, (seed + 1) * n)
        if method == "noise":
            return [self.fitted(seeds[0], False)] * n
        if method == "last layer":
            return self.drawn(self.fitted(seeds[0], False), seeds)
        return [self.fitted(s, method == "bootstrap") for s in seeds]

    def drawn(self, model: LayerFlow, seeds: Sequence[int]) -> list[LayerFlow]:
        """Models with other weights in the last layers of the first two couplings."""
        layers = [part.conditioner.last for part in model.flow.transforms if isinstance(part, Coupling)][:2]
        rows = torch.cat(model.tensors(self.train), dim=1)
        roots = [posterior_root(model, layer, rows) for layer in layers]
        result = []
        for s in seeds:
            other, generator = deepcopy(model), torch.Generator().manual_seed(s)
            places = [part.conditioner.last for part in other.flow.transforms if isinstance(part, Coupling)][:2]
            for layer, root in zip(places, roots, strict=True):
                noise = torch.randn(len(root), 1, dtype=root.dtype, generator=generator)
                # precision = root root^T, so that the covariance of root^-T noise is its inverse
                step = torch.linalg.solve_triangular(root.T, noise, upper=True).float()
                step = step.reshape(layer.out_features, layer.in_features + 1)
                with torch.no_grad():
                    layer.weight += step[:, :-1]
                    layer.bias += step[:, -1]
            result.append(other)
        return result

    def measure(self, method: str, seed: int) -> Row:
        """Bands of a method against the test file."""
        members = self.members(method, seed)
        truth = histograms(self.test, self.train)
        incident = np.tile(self.test.incident, COPIES)
        counts = [histograms(member.sample(incident, i), self.train) for i, member in enumerate(members)]
        found, bands = calibrate(counts, truth), [histogram_bands(values) for values in zip(*counts, strict=True)]
        statistical = np.concatenate([np.sqrt(own) / own.sum() for own in truth])
        relative = np.concatenate([band.spread for band in bands])[statistical > 0] / statistical[statistical > 0]
        return {
            "68 %": found.coverage[0], "95 %": found.coverage[1],
            "pull": float(np.sqrt(np.mean(found.pulls**2))), "bins": len(found.pulls),
            "spread": float(np.median(relative)), "gain": self.gain(members),
            "band": [bands[0].mean.tolist(), bands[0].spread.tolist(), (truth[0] / truth[0].sum()).tolist()],
        }  # fmt: skip

    @torch.no_grad()
    def gain(self, members: Sequence[LayerFlow]) -> float:
        """Log-density of the mixture over the mean one of a member at test showers [nats]."""
        rows, values = torch.cat(members[0].tensors(self.test), dim=1), []
        for member in members:
            torch.manual_seed(0)  # the same noise in empty layers
            values.append(member.log_prob(rows))
        log_prob = torch.stack(values)
        gains = log_prob.logsumexp(dim=0) - math.log(len(members)) - log_prob.mean(dim=0)
        return round(gains.mean().item(), 5)


def posterior_root(model: LayerFlow, layer: torch.nn.Linear, rows: Tensor) -> Tensor:
    """Cholesky factor of the precision of a linear layer's weights: empirical Fisher information and a prior.

    The prior has the variance that the trained weights have.
    """
    seen: list[Tensor] = []

    def keep(_: torch.nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        outputs.retain_grad()
        seen.extend([inputs[0].detach(), outputs])

    hook = layer.register_forward_hook(keep)
    part = rows[torch.randperm(len(rows))[:FISHER_ROWS]]
    model.log_prob(part).sum().backward()
    hook.remove()
    model.zero_grad()
    inputs, outputs = torch.nn.functional.pad(seen[0], (0, 1), value=1.0), seen[1].grad
    gradients = (outputs[:, :, None] * inputs[:, None, :]).flatten(1).double()
    fisher = gradients.T @ gradients * (len(rows) / len(part))
    prior = 1 / layer.weight.detach().double().square().mean()
    return torch.linalg.cholesky(fisher + prior * torch.eye(len(fisher), dtype=fisher.dtype))


def histograms(energies: Energies, binned: Energies) -> list[Array]:
    """Entries in bins of each observable in each range of energies; the bins hold equally many of other showers."""
    result = []
    for name, values in energies.observables().items():
        for low, high in GROUPS.values():
            here, there = ((e.incident > low) & (e.incident <= high) for e in (energies, binned))
            edges = np.unique(np.quantile(binned.observables()[name][there], np.linspace(0, 1, BINS + 1)[1:-1]))
            result.append(np.bincount(np.searchsorted(edges, values[here]), minlength=len(edges) + 1).astype(float))
    return result


METHODS = ("noise", "ensemble", "bootstrap", "last layer")
COLUMNS = ("68 %", "95 %", "pull", "spread", "gain")


def table(rows: list[Row]) -> str:
    """Markdown with a line for each method."""
    lines = [["members", "seeds", *COLUMNS]]
    for method in METHODS:
        group = [row for row in rows if row["method"] == method]
        if group:
            lines.append([method, str(len(group)), *(spread(row[name] for row in group) for name in COLUMNS)])
    return markdown(lines)


def figure(rows: list[Row]) -> bytes:
    """Each band and the test showers, over the mean of the members."""
    first = {row["method"]: row["band"] for row in reversed(rows)}
    shown = {method: first[method] for method in METHODS if method in first}
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        drawn = Figure(figsize=(8, 2.4), layout="constrained")
        for i, (axes, (method, band)) in enumerate(
            zip(drawn.subplots(1, len(shown), sharey=True), shown.items(), strict=True)
        ):
            mean, width, truth = np.array(band)
            place = np.arange(len(mean))
            axes.fill_between(place, 1 - width / mean, 1 + width / mean, step="mid", color=sample_color(i), alpha=0.5)
            axes.plot(place, truth / mean, ".", color=REFERENCE, markersize=4)
            axes.set(title=method, xlabel=f"bin of {TOTAL}", ylim=(0.8, 1.2))
        drawn.axes[0].set_ylabel("over the mean")
        return rendered(drawn, "png")


def parser() -> TalkParser:
    """Of the command line."""
    parser = TalkParser(__doc__, "bands", seeds=[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=list(METHODS))
    parser.setting("members", 6)
    parser.setting("epochs", 8)
    parser.setting("batch", 250)
    parser.setting("learning_rate", 1e-2)
    return parser


def main() -> None:
    """Goes on with the measurements, prints all that belong to the same settings and writes the page."""
    command = parser()
    options = command.parse_args()
    results, settings = ResultFile(options.output), command.settings(options)
    experiment = Experiment(options.data, options)
    keys = [
        {"method": method, "seed": seed, "settings": settings} for seed in options.seeds for method in options.methods
    ]
    print(table(results.complete(keys, lambda key: experiment.measure(key["method"], key["seed"]))))
    results.show("bands", command.usual, table, figure)


if __name__ == "__main__":
    run(main)
