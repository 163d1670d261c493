"""``caloman score``: how unusual showers are to a model with a manifold."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from caloman.generation.closure import batches, load_manifold, open_showers
from caloman.generation.significance import Significances
from caloman.manifold.density import log_volume
from caloman.models import FactorizedShowerModel
from caloman.models.noise import Purpose
from caloman.showers.hdf5 import new_tables, read_tables

SCORES = ("reconstruction", "decoder", "latent", "projected", "layer_energies")
JACOBIAN_NUMBERS = 2**25  # entries of the decoder's Jacobians that are held at a time


@dataclass(frozen=True)
class Scored:
    """What was written, and what the scores tell about anomalies.

    Args:
        message: a sentence.
        table: if anomalies were given.
    """

    message: str
    table: Significances | None = None

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
        new_tables(Path(output), dict.fromkeys(names, 1), len(source), attributes) as tables,
        torch.no_grad(),
    ):
        start = 0
        for _, voxels, conditions in batches(source, model, 0, Purpose.ENCODINGS, 0):
            rows = slice(start, start + len(voxels))
            for name, values in anomaly_scores(model, voxels, conditions).items():
                tables[name][rows] = values[:, None].cpu().numpy()
            start = rows.stop
    message = f"scores of {start} showers written to {output}"
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
