"""Trains the same flow on the layer energies of photons, scaled in several ways, and compares with Geant4.

    python scripts/benchmark_scaling.py DATA          # the page docs/talks/scaling.md: minutes on one core

DATA is a folder with g4_photons_train.hdf5 and g4_photons_test.hdf5. What is scaled is E_layer / E_inc of five layers,
with noise in empty ones. `AUC` is that of boosted trees which tell generated from true layer energies by their
fractions and the incident energy, `KS` the Kolmogorov-Smirnov distance, mean over layers, both with the test file.
`Geant4` has the training file in the place of a flow: the floor.

Each result is written as it comes, and the same command goes on after an interruption. The table of the page of the
same name is written anew.
"""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from layer_energies import THRESHOLD, Energies
from layer_energies import flow as new_flow
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, QuantileTransformer, StandardScaler
from talk_parser import TalkParser

from caloman.demonstrations.results import ResultFile, Row, markdown, run, spread
from caloman.demonstrations.training import epochs
from caloman.evaluation.two_sample import kolmogorov_smirnov_distances
from caloman.preprocessing import LogNormalDequantization

Array = NDArray[np.float64]
TRUTH = "Geant4"
MARGIN = 1e-9


def broken_off(fractions: Array) -> Array:
    """The sum of fractions (N, L), and the logits of each layer's part of what is left from it on, (N, L)."""
    left = fractions[:, ::-1].cumsum(axis=1)[:, ::-1]
    parts = (fractions[:, :-1] / left[:, :-1]).clip(MARGIN, 1 - MARGIN)
    return np.concatenate([left[:, :1], logit(parts)], axis=1)


def joined(values: Array) -> Array:
    """Undoes `broken_off`."""
    parts = expit(values[:, 1:])
    left = values[:, :1] * np.concatenate([np.ones((len(values), 1)), (1 - parts).cumprod(axis=1)], axis=1)
    return left * np.concatenate([parts, np.ones((len(values), 1))], axis=1)


def _then_standard(forward: Callable[[Array], Array], back: Callable[[Array], Array]) -> object:
    return make_pipeline(FunctionTransformer(forward, back), StandardScaler())


SCALINGS: dict[str, Callable[[], object]] = {
    "min-max": lambda: MinMaxScaler((-3, 3)),
    "standard": StandardScaler,
    "square root": lambda: _then_standard(np.sqrt, np.square),
    "logarithm": lambda: _then_standard(np.log, np.exp),
    "logit": lambda: _then_standard(broken_off, joined),
    "normal scores": lambda: QuantileTransformer(output_distribution="normal"),
}


def scaled_rows(scaling: object, energies: Energies, seed: int) -> torch.Tensor:
    """Scaled fractions joined to the standardized logarithm of the incident energy, (N, 6)."""
    torch.manual_seed(seed)
    layers = torch.as_tensor(np.where(energies.layers < THRESHOLD, 0.0, energies.layers))
    filled = LogNormalDequantization(-3.5, 0.2)(layers)[0].numpy()
    fractions = scaling.fit_transform(filled / energies.incident[:, None])
    return torch.as_tensor(np.column_stack([fractions, condition(energies)])).float()


def condition(energies: Energies) -> Array:
    """Logarithm of the incident energy, about standardized, shape (N, 1)."""
    return (np.log(energies.incident[:, None]) - 8) / 2


def generated(name: str, train: Energies, test: Energies, seed: int, options: Namespace) -> Energies:
    """Layer energies of a flow at the incident energies of the test file."""
    scaling = SCALINGS[name]()
    rows = scaled_rows(scaling, train, seed)
    flow = new_flow(train.layers.shape[1])
    for _ in epochs(
        flow.parameters(), lambda x: flow.loss(x[:, :-1], x[:, -1:]), rows,
        options.epochs, options.batch, options.learning_rate, name,
    ):  # fmt: skip
        pass
    with torch.no_grad():
        noise = torch.randn(len(test.incident), flow.noise_dim)
        samples = flow.sample(noise, torch.as_tensor(condition(test)).float()).double().numpy()
    layers = scaling.inverse_transform(samples) * test.incident[:, None]
    return Energies(test.incident, np.where(layers < THRESHOLD, 0.0, layers))


def compared(test: Energies, other: Energies, seed: int) -> Row:
    """AUC and KS of two sets of layer energies."""
    points = [np.column_stack([e.layers / e.incident[:, None], np.log(e.incident)]) for e in (test, other)]
    labels = np.repeat([0, 1], [len(x) for x in points])
    order = np.random.default_rng(seed).permutation(len(labels))
    first, second = order[::2], order[1::2]
    together = np.concatenate(points)
    classifier = HistGradientBoostingClassifier(random_state=seed).fit(together[first], labels[first])
    auc = roc_auc_score(labels[second], classifier.predict_proba(together[second])[:, 1])
    return {"AUC": float(auc), "KS": kolmogorov_smirnov_distances(points[0][:, :-1], points[1][:, :-1])[0]}


def table(rows: list[Row]) -> str:
    """Markdown with a line for each scaling."""
    lines = [["scaling", "seeds", "AUC", "KS"]]
    for name in (TRUTH, *SCALINGS):
        group = [row for row in rows if row["scaling"] == name]
        if group:
            lines.append([name, str(len(group)), spread((r["AUC"] for r in group), 3), spread(r["KS"] for r in group)])
    return markdown(lines)


def parser() -> TalkParser:
    """Of the command line."""
    parser = TalkParser(__doc__, "scaling", seeds=[0, 1])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--scalings", choices=SCALINGS, nargs="+", default=list(SCALINGS))
    parser.setting("epochs", 8)
    parser.setting("batch", 250)
    parser.setting("learning_rate", 1e-2)
    return parser


def main() -> None:
    """Goes on with the measurements, prints all that belong to the same settings and writes the page."""
    command = parser()
    options = command.parse_args()
    results, settings = ResultFile(options.output), command.settings(options)
    train, test = (Energies.load(options.data / f"g4_photons_{name}.hdf5") for name in ("train", "test"))
    floor = Energies(*(values[: len(test.incident)] for values in train))

    def measure(key: Row) -> Row:
        name, seed = key["scaling"], key["seed"]
        return compared(test, floor if name == TRUTH else generated(name, train, test, seed, options), seed)

    keys = [
        {"scaling": name, "seed": seed, "settings": settings}
        for seed in options.seeds
        for name in (TRUTH, *options.scalings)
    ]
    print(table(results.complete(keys, measure)))
    results.show("scalings", command.usual, table)


if __name__ == "__main__":
    run(main)
