"""Closure tests: files in which the truth takes the place of some parts of a two-stage model.

`reconstruct` shows what the decoder loses, or decoder and latent density together. `encode` shows what the latent
density loses.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from caloman.bundle import load
from caloman.errors import CalomanError
from caloman.generation.generate import to_device
from caloman.models import FactorizedShowerModel
from caloman.models.noise import Purpose, chunk_noise
from caloman.progress import Progress
from caloman.showers.hdf5 import new_tables
from caloman.showers.showers import CHUNK, Showers
from caloman.showers.slices import ShowerFiles
from caloman.showers.spectra import check_seed
from caloman.showers.writer import ShowerWriter

Part = Literal["decoder", "shapes"]
Batch = tuple[Tensor, Tensor, Tensor]  # noise (n, D), voxels (n, V) [MeV] and conditions (n, C) of a chunk


def reconstruct(
    run: str | Path, showers: str, output: str | Path, part: Part = "decoder", seed: int = 0, device: str = "cpu"
) -> str:
    """Writes showers with one part from the model and all others from given showers.

    Args:
        run: run folder of `caloman fit`, a bundle, or a name of `caloman models`.
        showers: HDF5 file with showers, whole or some rows such as file.hdf5[0:1000]; several joined by commas.
        output: HDF5 file to write.
        part: what the model generates: decoder, from the latents and layer energies of the showers, or shapes, from
            their layer energies.
        seed: seed of the noise, from 0 to 2^63 - 1.
        device: torch device, such as cuda.

    Returns:
        A sentence about the file.

    Raises:
        CalomanError: if the model lacks the part, the showers are of another dataset or outside the trained ranges of
            conditions, or a file cannot be read or written.
    """
    model = load_manifold(run, device) if part == "decoder" else _load(run, device)
    if part == "shapes" and model.energy is None:
        raise CalomanError(f"{run}: the shapes of this model do not depend on layer energies; use `caloman generate`")
    purpose = Purpose.RECONSTRUCTIONS if part == "decoder" else Purpose.SHAPES
    noise_dim = sum(model.shape.noise_blocks.values())
    with (
        open_showers(showers, model, output) as source,
        ShowerWriter(
            output, model.geometry, _attributes(showers, seed, purpose), conditions=model.conditions.further
        ) as writer,
        torch.inference_mode(),
    ):
        for noise, voxels, conditions in batches(source, model, seed, purpose, noise_dim):
            if part == "decoder":
                made = model.reconstruct(noise, voxels, conditions)
            else:
                made = model.forward_shapes(noise, conditions, model.transform(voxels, conditions).layer_energies)
            given = conditions.cpu().numpy()
            columns = model.conditions.columns(given)
            writer.append(Showers(given[:, 0], made.cpu().numpy(), model.geometry, columns))
        return f"{len(source)} {purpose.name.lower()} written to {output}"


def encode(
    run: str | Path, showers: str, output: str | Path, sampled: bool = False, seed: int = 0, device: str = "cpu"
) -> str:
    """Writes the latents of showers, or generated latents under the same contexts.

    The file holds latents (N, d), contexts (N, C), incident_energies (N, 1) [MeV] and the other conditions as in a
    shower file.

    Args:
        run: run folder of `caloman fit`, a bundle, or a name of `caloman models`.
        showers: HDF5 file with showers, whole or some rows such as file.hdf5[0:1000]; several joined by commas.
        output: HDF5 file to write.
        sampled: draw the latents from the density on the manifold instead of the encoder.
        seed: seed of the noise, from 0 to 2^63 - 1.
        device: torch device, such as cuda.

    Returns:
        A sentence about the file.

    Raises:
        CalomanError: if the model has no manifold, the showers are of another dataset or outside the trained ranges of
            conditions, or a file cannot be read or written.
    """
    model = load_manifold(run, device)
    purpose = Purpose.LATENTS if sampled else Purpose.ENCODINGS
    latent_dim = model.manifold.autoencoder.latent_dim
    given = dict.fromkeys((condition.table for condition in model.conditions), 1)
    columns = {"latents": latent_dim, "contexts": model.transform.context_dim, **given}
    attributes = {**_attributes(showers, seed, purpose), "dataset": model.geometry.name}
    with (
        open_showers(showers, model, output) as source,
        new_tables(Path(output), columns, len(source), attributes) as append,
        torch.inference_mode(),
    ):
        for noise, voxels, conditions in batches(source, model, seed, purpose, latent_dim):
            shapes, contexts, _ = model.transform(voxels, conditions)
            latents = (
                model.manifold.density.sample(noise, contexts)
                if sampled
                else model.manifold.encode(shapes, contexts, noise)
            )
            append(part.cpu().numpy() for part in (latents, contexts, *conditions.split(1, dim=1)))
        return f"{len(source)} {purpose.name.lower()} written to {output}"


def _load(run: str | Path, device: str) -> FactorizedShowerModel:
    model = load(run)
    if not isinstance(model, FactorizedShowerModel):
        raise CalomanError(f"{run}: a {type(model).__name__} has no shape model; use a FactorizedShowerModel")
    return to_device(model, device)


def load_manifold(run: str | Path, device: str) -> FactorizedShowerModel:
    """Loads a model with a manifold.

    Raises:
        CalomanError: if the run has no such model.
    """
    model = _load(run, device)
    try:
        _ = model.manifold
    except CalomanError as error:
        raise CalomanError(f"{run}: {error}") from None
    return model


def open_showers(showers: str, model: FactorizedShowerModel, output: str | Path) -> ShowerFiles:
    """Opens showers within the trained range of a model.

    Raises:
        CalomanError: if they are outside it, the output would replace them, or a file is unusable.
    """
    source = ShowerFiles(showers, model.geometry)
    if Path(output).resolve() in [part.path.resolve() for part in source.slices]:
        raise CalomanError(f"{output}: would replace the showers that are read; choose another name for the output")
    path = source.slices[0].path
    matrix = model.conditions.matrix(source.incident_energies(), source.conditions(), path)
    model.conditions.check_trained(matrix)
    return source


def batches(
    source: ShowerFiles, model: FactorizedShowerModel, seed: int, purpose: Purpose, noise_dim: int
) -> Iterator[Batch]:
    """Reads the showers chunk by chunk, with the noise of each chunk, and yields parts of chunks."""
    device = model.device
    with Progress(purpose.name.lower(), len(source), "shower") as progress, torch.random.fork_rng():
        for chunk in range(-(-len(source) // CHUNK)):
            showers = source.read(chunk * CHUNK, min((chunk + 1) * CHUNK, len(source)))
            noise = chunk_noise(seed, chunk, len(showers), noise_dim, purpose)
            conditions = model.conditions.matrix(showers.incident_energies, showers.conditions, source.slices[0].path)
            numbers = [torch.from_numpy(values).to(device) for values in (noise, showers.voxels, conditions)]
            torch.manual_seed(seed + chunk)  # of what a transform draws
            yield from zip(*(rows.split(model.batch_size) for rows in numbers), strict=True)
            progress.add(len(showers))


def _attributes(showers: str, seed: int, purpose: Purpose) -> dict[str, str | int]:
    check_seed(seed)
    return {
        "generator": "caloman", "content": purpose.name.lower(), "showers": str(showers), "seed": seed, "chunk": CHUNK,
    }  # fmt: skip
