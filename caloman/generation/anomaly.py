"""``caloman score``: how unusual showers are to a model with a manifold.

References:
    Aarrestad et al., Dark Machines anomaly score challenge (arXiv:2105.14027), for what a cut on a score is worth.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import mannwhitneyu
from tabulate import tabulate
from torch import Tensor

from caloman.generation.closure import batches, load_manifold, open_showers
from caloman.manifold.density import log_volume
from caloman.models import FactorizedShowerModel
from caloman.models.noise import Purpose
from caloman.showers.hdf5 import new_tables, read_tables

SCORES = ("reconstruction", "decoder", "latent", "projected", "layer_energies")
JACOBIAN_NUMBERS = 2**25  # entries of the decoder's Jacobians that are held at a time
WORKING_POINTS = (1e-2, 1e-3, 1e-4)  # fractions of usual showers that pass a cut
MIN_PASSING = 5  # usual showers that must pass for a working point to count


@dataclass(frozen=True)
class Scored:
    """What was written, and what the scores tell about anomalies.

    Args:
        message: a sentence.
        table: if anomalies were given.
    """

    message: str
    table: "Significances | None" = None

    def __str__(self) -> str:
        return self.message if self.table is None else f"{self.message}\n{self.table}"


def score(
    run: str | Path, showers: str, output: str | Path, anomalies: str | Path | None = None, device: str = "cpu"
) -> Scored:
    """Writes anomaly scores of showers, one row each; the larger, the more unusual to the model.

    With x a shape, z its latents (the mean of a variational encoder) and g the decoder without noise,

        reconstruction: the distance |x - g(z)| to the manifold
        decoder: -log p(x | z) of the decoder's likelihood
        latent: -log p(z) of the density on the latents
        projected: -log p(g(z)) on the manifold, which has log det(J^T J) / 2 of g in addition
        layer_energies: -log p(layer energies), which no shape shows, if the model fills empty layers

    all under the incident energy, the first four under the layer energies, too.

    Args:
        run: run folder of `caloman fit`, a bundle, or a name of `caloman models`.
        showers: HDF5 file with showers, whole or some rows such as file.hdf5[0:1000]; several joined by commas.
        output: HDF5 file to write.
        anomalies: scores of other showers, from this command; prints how well each score separates them.
        device: torch device, such as cuda.

    Raises:
        CalomanError: if the model has no manifold, the showers are of another dataset or outside the trained range of
            energies, or a file cannot be read or written.
    """
    model = load_manifold(run, device)
    names = SCORES if model.energy and model.energy.dequantization else SCORES[:-1]
    others = read_tables(Path(anomalies), names, "score") if anomalies else None
    attributes = {"generator": "caloman", "content": "scores", "showers": str(showers), "dataset": model.geometry.name}
    with (
        open_showers(showers, model, output) as source,
        new_tables(Path(output), dict.fromkeys(names, 1), len(source), attributes) as append,
        torch.no_grad(),
    ):
        for _, voxels, conditions in batches(source, model, 0, Purpose.ENCODINGS, 0):
            append(scores[:, None].cpu().numpy() for scores in anomaly_scores(model, voxels, conditions).values())
        message = f"scores of {len(source)} showers written to {output}"
    if others is None:
        return Scored(message)
    usual, anomalous = (
        {name: table[:, 0] for name, table in zip(names, tables, strict=True)}
        for tables in (read_tables(Path(output), names, "score"), others)
    )
    return Scored(message, Significances(usual, anomalous))


def anomaly_scores(model: FactorizedShowerModel, voxels: Tensor, conditions: Tensor) -> dict[str, Tensor]:
    """The scores, each of shape (N,), of voxels (N, V) [MeV] under conditions (N, C); see `score`.

    Raises:
        CalomanError: if the model has no manifold.
    """
    rows = max(1, JACOBIAN_NUMBERS // (model.manifold.autoencoder.latent_dim * model.geometry.n_voxels))
    parts = zip(voxels.split(rows), conditions.split(rows), strict=True)
    scores = [_scores(model, *part) for part in parts]
    return {name: torch.cat([part[name] for part in scores]) for name in scores[0]}


def _scores(model: FactorizedShowerModel, voxels: Tensor, conditions: Tensor) -> dict[str, Tensor]:
    shapes, context, layer_energies = model.transform(voxels, conditions)
    autoencoder, density = model.manifold.autoencoder, model.manifold.density

    def decode(latents: Tensor) -> Tensor:
        no_noise = latents.new_zeros(len(latents), autoencoder.noise_dim)
        return autoencoder.decode(latents, context, no_noise)

    latents = autoencoder.encode(shapes, context)
    latent = -density.log_prob(latents, context)
    scores = {
        "reconstruction": (shapes - decode(latents)).norm(dim=1),
        "decoder": -autoencoder.log_likelihood(latents, context, shapes),
        "latent": latent,
        "projected": latent + log_volume(decode, latents),
    }
    if model.energy and model.energy.dequantization:  # without one an empty layer has no density
        scores["layer_energies"] = -model.energy.log_prob(layer_energies, conditions)
    return scores


def significance_improvements(usual: ArrayLike, anomalous: ArrayLike) -> dict[float, tuple[float, float]]:
    """Significance improvement eps_S / sqrt(eps_B), with its error, at each working point eps_B that has the showers.

    Scores of `usual` (N,) and `anomalous` (M,) showers grow with how unusual a shower is. The largest improvement is
    the Max SI.
    """
    background, signal = np.sort(np.asarray(usual))[::-1], np.asarray(anomalous)
    result: dict[float, tuple[float, float]] = {}
    for fraction in WORKING_POINTS:
        n_passing = round(fraction * len(background))
        if n_passing >= MIN_PASSING:
            n_found = int(np.count_nonzero(signal > background[n_passing]))
            one = 1 / (len(signal) * math.sqrt(n_passing / len(background)))  # of one anomaly that passes
            # both numbers fluctuate, that of usual showers under a root; no anomaly found is uncertain by one
            variance = 1 / (4 * n_passing) + (1 - n_found / len(signal)) / max(1, n_found)
            result[fraction] = n_found * one, max(1, n_found) * one * math.sqrt(variance)
    return result


@dataclass(frozen=True)
class Significances:
    """A table of what each score tells about anomalies, from the name of each score and its values, shape (N,)."""

    usual: Mapping[str, ArrayLike]
    anomalous: Mapping[str, ArrayLike]

    def __str__(self) -> str:
        lines: list[Sequence[str]] = [["score", "AUC", *(f"SI at {f:g}" for f in WORKING_POINTS), "Max SI"]]
        for name, usual in self.usual.items():
            anomalous = np.asarray(self.anomalous[name])
            auc = mannwhitneyu(anomalous, usual).statistic / (len(anomalous) * np.size(usual))
            points = significance_improvements(usual, anomalous)
            words = [f"{points[f][0]:.2f} ± {points[f][1]:.2f}" if f in points else "-" for f in WORKING_POINTS]
            best = max((value for value, _ in points.values()), default=math.nan)
            lines.append([name, f"{auc:.3f}", *words, f"{best:.2f}"])
        return tabulate(lines[1:], lines[0], "github", disable_numparse=True)
