"""Looks at the manifold of photon showers: its dimension, what two coordinates do, and which showers lie beside it.

    python scripts/benchmark_showers.py DATA          # the page docs/talks/showers.md: a quarter of an hour on one core

DATA is a folder with g4_photons_train.hdf5, g4_photons_test.hdf5 and g4_pions_test.hdf5. Photons and pions have other
meshes, so all are summed into the finest mesh that both can be summed into, without the layers that photons do not
have. A small two-stage model learns the photons of the training file, once for each seed. Its scores are compared for
photons of the test file (usual) and for other photons of that file with a fault, or pions of the same energies:

    dead sector   one of the ten sectors of the strips (layer 1) gives nothing
    hot voxel     one voxel of layer 1 or 2 shows another 2 or 10 % of the incident energy
    pion          a charged pion in the place of the photon

Scores are distances from the median score of training photons of the same energy, in units of half their central 68 %.
AUC is the area under the ROC curve of a score, SI the significance improvement eps_S / sqrt(eps_B) (arXiv:2105.14027)
where one usual shower in 100 or 1000 passes; Max SI is the larger one.

Each result is written as it comes, and the same command goes on after an interruption. Figure and tables of the page of
the same name are written anew.
"""

import argparse
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
import yaml
from common_mesh import FAULTS, MESH, MIDDLE, summed, with_energies_of
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from caloman import bundle
from caloman.data.dimension import dimension
from caloman.demonstrations.results import ResultFile, Row, markdown, run, show, spread
from caloman.evaluation.plots.showers import polar
from caloman.evaluation.plots.style import STYLE, rendered
from caloman.files import write
from caloman.generation.anomaly import anomaly_scores, significance_improvements
from caloman.models import FactorizedShowerModel
from caloman.showers.showers import Showers
from caloman.training import fit

ROOT = Path(__file__).parents[1]
SCORES = ("reconstruction", "decoder", "latent", "projected", "layer_energies")
SIZE = 2000
"""Showers of an estimate of the dimension."""
GRID = np.linspace(-2, 2, 5)
"""Coordinates of the decoded showers, in standard deviations."""
SHOWN_ENERGY = 16384.0
EXPECTED = 10_000
"""Training showers that tell which scores are usual at an energy."""


class Data:
    """Showers in the common mesh, from a folder of files, and models of the photons.

    Args:
        folder: with the files.
        work: folder for what is made of them.
        epochs: of each stage of the training.
    """

    def __init__(self, folder: Path, work: Path, epochs: int) -> None:
        self.folder, self.work, self.epochs = folder, work, epochs
        self.photons = summed(folder / "g4_photons_test.hdf5", "1-photons")
        self.pions = summed(folder / "g4_pions_test.hdf5", "1-pions")

    @cache  # noqa: B019 -- one object
    def model(self, seed: int) -> FactorizedShowerModel:
        """The model of a seed, trained unless it is there."""
        train = self.work / "train.hdf5"
        if not train.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            MESH.to_xml(self.work / "mesh.xml")
            summed(self.folder / "g4_photons_train.hdf5", "1-photons").save(train)
        stages = {name: {"trainer": {"max_epochs": self.epochs}} for name in ("energy", "autoencoder", "latent")}
        config = {
            "base": str(ROOT / "configs" / "1-photons" / "caloman_small.yaml"),
            **{"geometry": str(self.work / "mesh.xml"), "seed": seed, "data": {"train": [str(train)]}},
            **{"model": {"shape": {"residual": "remove"}}, "stages": stages | {"residual": "remove"}},
        }
        write(self.work / f"{seed}.yaml", yaml.safe_dump(config))
        run = fit(self.work / f"{seed}.yaml", output=self.work / f"run-{seed}")
        return bundle.load(run)

    def raw_scores(self, showers: Showers, seed: int) -> dict[str, NDArray[np.float64]]:
        """The scores of showers as the model gives them, each (N,)."""
        with torch.no_grad():
            found = anomaly_scores(self.model(seed), *map(torch.from_numpy, (showers.voxels, _column(showers))))
        return {name: values.detach().double().numpy() for name, values in found.items()}

    @cache  # noqa: B019 -- one object
    def expected(self, seed: int) -> dict[tuple[str, float], tuple[float, float]]:
        """Median of each score for training showers of each energy, and half the width of the central 68 %."""
        self.model(seed)
        showers = Showers.load(self.work / "train.hdf5", MESH)[:EXPECTED]
        found = {}
        for name, values in self.raw_scores(showers, seed).items():
            for energy in np.unique(showers.incident_energies):
                low, median, high = np.quantile(values[showers.incident_energies == energy], (0.16, 0.5, 0.84))
                found[name, float(energy)] = median, (high - low) / 2
        return found

    def scores(self, showers: Showers, seed: int) -> dict[str, NDArray[np.float64]]:
        """The scores of showers, each (N,), relative to those of training showers of the same energy."""
        expected, result = self.expected(seed), {}
        for name, values in self.raw_scores(showers, seed).items():
            middle, width = np.transpose([expected[name, float(energy)] for energy in showers.incident_energies])
            result[name] = (values - middle) / width
        return result

    @cache  # noqa: B019 -- one object
    def usual(self, seed: int) -> dict[str, NDArray[np.float64]]:
        """The scores of every second photon of the test file."""
        return self.scores(self.photons[::2], seed)

    def unusual(self, kind: str) -> Showers:
        """Showers of a kind; faults are put into the other photons."""
        rng = np.random.default_rng(0)
        if kind == "pion":
            return with_energies_of(self.pions, self.photons, rng)
        return FAULTS[kind](self.photons[1::2], rng)


KINDS = (*FAULTS, "pion")


def _column(showers: Showers) -> NDArray[np.float32]:
    return showers.incident_energies.reshape(-1, 1).astype(np.float32)


def separations(data: Data, kind: str, seed: int) -> Row:
    """What each score tells about showers of a kind."""
    usual, unusual = data.usual(seed), data.scores(data.unusual(kind), seed)
    row: Row = {"showers": [len(next(iter(usual.values()))), len(next(iter(unusual.values())))]}
    for name in SCORES:
        truth = np.repeat([0, 1], [len(usual[name]), len(unusual[name])])
        points = significance_improvements(usual[name], unusual[name])
        row[name] = {
            "AUC": float(roc_auc_score(truth, np.concatenate([usual[name], unusual[name]]))),
            "Max SI": max(points.values()),
        }
    return row


def dimensions(folder: Path, kind: str) -> Row:
    """Estimates of the dimension of photons or pions in their own mesh."""
    table = dimension(str(folder / f"g4_{kind}_test.hdf5"), dataset=f"1-{kind}", k=(20,), n=(SIZE,))
    return {"estimates": {representation: found for _, representation, _, found in table.rows}}


@torch.no_grad()
def decoded(model: FactorizedShowerModel, photons: Showers) -> tuple[tuple[int, int], NDArray[np.float32]]:
    """The two latents that change mean showers most, and the showers (5, 5, V) [MeV] that they give."""
    showers = photons[photons.incident_energies == SHOWN_ENERGY]
    conditions = torch.from_numpy(_column(showers))
    shapes, context, layer_energies = model.transform(torch.from_numpy(showers.voxels), conditions)
    latents = model.manifold.autoencoder.encode(shapes, context)
    mean, width = latents.mean(dim=0), latents.std(dim=0)
    average = [values.mean(dim=0, keepdim=True) for values in (context, conditions, layer_energies)]

    def showers_at(z: Tensor) -> Tensor:
        context, conditions, layer_energies = (values.expand(len(z), -1) for values in average)
        no_noise = z.new_zeros(len(z), model.manifold.autoencoder.noise_dim)
        return model.transform.inverse(
            model.manifold.autoencoder.decode(z, context, no_noise), conditions, layer_energies
        )

    steps = 2 * width.diag()
    changes = (showers_at(mean + steps) - showers_at(mean - steps)).abs().sum(dim=1)
    first, second = changes.topk(2).indices.tolist()
    places = torch.tensor([[a, b] for a in GRID for b in GRID], dtype=torch.float32)
    z = mean.repeat(len(places), 1)
    z[:, [first, second]] += places * width[[first, second]]
    return (first, second), showers_at(z).unflatten(0, (len(GRID), -1)).numpy()


def figure(grid: NDArray[np.float32], layer: int = MIDDLE) -> bytes:
    """One layer of each decoded shower, over the one in the middle."""
    voxels = grid[:, :, MESH.layer_slices[layer]]
    ratio = voxels / voxels[len(GRID) // 2, len(GRID) // 2].clip(min=1e-9)
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        drawn = Figure(figsize=(7, 6.6), layout="constrained")
        axes = drawn.subplots(len(GRID), len(GRID), subplot_kw={"projection": "polar"})
        norm = LogNorm(0.5, 2)
        for i, j in np.ndindex(axes.shape):
            mesh = polar(axes[i, j], MESH.layers[layer], ratio[i, j], norm)
            if i == len(GRID) - 1:
                axes[i, j].set_xlabel(f"{GRID[j]:+g}  s.d.")
            if j == 0:
                axes[i, j].set_ylabel(f"{GRID[i]:+g}  s.d.", labelpad=12)
        bar = drawn.colorbar(
            mesh, ax=axes, label="energy over that of the mean latents", ticks=[0.5, 1, 2], format="%g", shrink=0.6
        )
        bar.minorticks_off()
        return rendered(drawn, "png")


def separation_table(rows: Sequence[Row]) -> str:
    """Markdown with a line for each kind of shower and score."""
    lines = [["unusual", "score", "seeds", "AUC", "Max SI"]]
    for kind in KINDS:
        group = [row for row in rows if row.get("unusual") == kind]
        for score in SCORES if group else ():
            numbers = [
                spread((row[score]["AUC"] for row in group), 3), spread(row[score]["Max SI"][0] for row in group)
            ]  # fmt: skip
            lines.append([kind, score.replace("_", " "), str(len(group)), *numbers])
    return markdown(lines)


def dimension_table(rows: Sequence[Row]) -> str:
    """Markdown with a line for each particle and representation."""
    lines = [["showers", "voxels as", "maximum likelihood, k = 20", "TwoNN"]]
    for row in rows:
        for representation, found in row.get("estimates", {}).items():
            estimates = [f"{value:.1f} ± {error:.1f}" for value, error in found.values()]
            lines.append([row["dimension"], representation, *estimates])
    return markdown(lines)


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=12, help="of each stage")
    parser.add_argument("--work", type=Path, default=Path("runs/unusual"), help="folder for meshes, files and runs")
    parser.add_argument("--output", type=Path, default=Path("docs/talks/showers.json"))
    return parser


def main() -> None:
    """Goes on with the measurements, prints them and writes the page."""
    options = parser().parse_args()
    results = ResultFile(options.output)
    data = Data(options.data, options.work, options.epochs)
    keys: list[Row] = [
        *({"dimension": kind, "n": SIZE} for kind in ("photons", "pions")),
        *({"unusual": kind, "seed": seed, "epochs": options.epochs} for seed in options.seeds for kind in KINDS),
    ]
    rows = results.complete(
        keys,
        lambda key: (
            dimensions(options.data, key["dimension"])
            if "dimension" in key
            else separations(data, key["unusual"], key["seed"])
        ),
    )
    print(dimension_table(rows), separation_table(rows), sep="\n\n")
    latents, grid = decoded(data.model(options.seeds[0]), data.photons)
    print(f"latents {latents[0]} and {latents[1]} change showers most")
    page = options.output.with_suffix(".md")
    if page.is_file():
        write(page.with_suffix(".png"), figure(grid))
        show(page, "dimensions", dimension_table(rows))
        show(page, "unusual", separation_table(rows))


if __name__ == "__main__":
    run(main)
