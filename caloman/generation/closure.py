"""Gates: files that tell which box of a two-stage model to improve, with the truth in the place of the other boxes.

`reconstruct` shows what encoder and decoder lose, `encode` what the density on the manifold loses, and
`generate_shapes` what both lose under the true layer energies.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from caloman.bundle import load
from caloman.errors import CalomanError
from caloman.models import FactorizedShowerModel
from caloman.models.noise import Purpose, chunk_noise
from caloman.showers.hdf5 import new_tables
from caloman.showers.showers import CHUNK, Showers, ShowerWriter
from caloman.showers.slices import ShowerFiles

Batch = tuple[Tensor, Tensor, Tensor]
"""Noise (n, D), voxels (n, V) [MeV] and incident energies (n, 1) [MeV] of a chunk."""


def reconstruct(run: str | Path, showers: str, output: str | Path, seed: int = 0, device: str = "cpu") -> str:
    """Encodes showers, decodes them, and writes the result as a shower file with the same incident and layer energies.

    Latents are drawn from the posterior, if the density is trained on such samples, and the decoder is sampled as it is
    in generation.

    Args:
        run: run folder of `caloman fit`, or a bundle.
        showers: HDF5 file with showers; some of its rows, such as file.hdf5[0:1000]; or several joined by commas.
        output: HDF5 file to write.
        seed: of the noise.
        device: torch device to run on, such as cuda.

    Returns:
        A sentence that says what was written.

    Raises:
        CalomanError: if the model has no manifold, the showers are of another dataset or outside the trained range of
            energies, or a file cannot be read or written.
    """
    model = load_manifold(run, device)
    return _write_showers(model, showers, output, seed, Purpose.RECONSTRUCTIONS, model.reconstruct)


def generate_shapes(run: str | Path, showers: str, output: str | Path, seed: int = 0, device: str = "cpu") -> str:
    """Writes showers of generated shapes with the incident and layer energies of given showers.

    Args and errors are those of `reconstruct`, but the model needs layer energies in the place of a manifold.
    """
    model = _load(run, device)
    if model.energy is None:
        raise CalomanError(f"{run}: the shapes of this model do not depend on layer energies; use --energies instead")

    def make(noise: Tensor, voxels: Tensor, energies: Tensor) -> Tensor:
        return model.forward_shapes(noise, energies, model.transform(voxels, energies).layer_energies)

    return _write_showers(model, showers, output, seed, Purpose.SHAPES, make)


def encode(
    run: str | Path, showers: str, output: str | Path, sampled: bool = False, seed: int = 0, device: str = "cpu"
) -> str:
    """Writes the latents of showers, or generated latents under the same contexts.

    The file holds latents (N, d), contexts (N, C) and incident_energies (N, 1) [MeV].

    Args:
        run: run folder of `caloman fit`, or a bundle.
        showers: HDF5 file with showers; some of its rows, such as file.hdf5[0:1000]; or several joined by commas.
        output: HDF5 file to write.
        sampled: draw the latents from the density on the manifold; otherwise they are encoded, as that density is
            trained on them.
        seed: of the noise.
        device: torch device to run on, such as cuda.

    Returns:
        A sentence that says what was written.

    Raises:
        CalomanError: if the model has no manifold, the showers are of another dataset or outside the trained range of
            energies, or a file cannot be read or written.
    """
    model = load_manifold(run, device)
    purpose = Purpose.LATENTS if sampled else Purpose.ENCODINGS
    latent_dim = model.manifold.autoencoder.latent_dim
    columns = {"latents": latent_dim, "contexts": model.transform.context_dim, "incident_energies": 1}
    attributes = {**_attributes(showers, seed, purpose), "dataset": model.geometry.name}
    with (
        open_showers(showers, model, output) as source,
        new_tables(Path(output), columns, len(source), attributes) as tables,
        torch.inference_mode(),
    ):
        start = 0
        for noise, voxels, energies in batches(source, model, seed, purpose, latent_dim):
            shapes, contexts, _ = model.transform(voxels, energies)
            latents = (
                model.manifold.density.sample(noise, contexts)
                if sampled
                else model.manifold.encode(shapes, contexts, noise)
            )
            rows = slice(start, start + len(latents))
            for name, values in zip(columns, (latents, contexts, energies), strict=True):
                tables[name][rows] = values.cpu().numpy()
            start = rows.stop
    return f"{start} {purpose.name.lower()} written to {output}"


def _load(run: str | Path, device: str) -> FactorizedShowerModel:
    model = load(run)
    if not isinstance(model, FactorizedShowerModel):
        raise CalomanError(f"{run}: a {type(model).__name__} has no shape model; use a FactorizedShowerModel")
    return model.to(device)


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


def _write_showers(
    model: FactorizedShowerModel,
    showers: str,
    output: str | Path,
    seed: int,
    purpose: Purpose,
    make: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> str:
    """Writes what `make` makes of noise, voxels and incident energies."""
    noise_dim = sum(model.shape.noise_blocks.values())
    with (
        open_showers(showers, model, output) as source,
        ShowerWriter(output, model.geometry, _attributes(showers, seed, purpose)) as writer,
        torch.inference_mode(),
    ):
        for noise, voxels, energies in batches(source, model, seed, purpose, noise_dim):
            made = make(noise, voxels, energies)
            writer.append(Showers(energies[:, 0].cpu().numpy(), made.cpu().numpy(), model.geometry))
        return f"{len(source)} {purpose.name.lower()} written to {output}"


def open_showers(showers: str, model: FactorizedShowerModel, output: str | Path) -> ShowerFiles:
    """Opens showers that the model covers, and that the output would not replace.

    Raises:
        CalomanError: otherwise, or if a file is unusable.
    """
    source = ShowerFiles(showers, model.geometry)
    if Path(output).resolve() in [part.path.resolve() for part in source.slices]:
        raise CalomanError(f"{output}: would replace the showers that are read; choose another name for the output")
    model.check_energies(source.incident_energies())
    return source


def batches(
    source: ShowerFiles, model: FactorizedShowerModel, seed: int, purpose: Purpose, noise_dim: int
) -> Iterator[Batch]:
    """Reads the showers chunk by chunk, with noise that belongs to the chunk, and gives parts of chunks."""
    device = model.energy_range.device
    bar = tqdm(total=len(source), unit="shower", desc=purpose.name.lower(), disable=not sys.stderr.isatty())
    with bar, torch.random.fork_rng():
        for chunk in range(-(-len(source) // CHUNK)):
            showers = source.read(chunk * CHUNK, min((chunk + 1) * CHUNK, len(source)))
            noise = chunk_noise(seed, chunk, len(showers), noise_dim, purpose)
            energies = showers.incident_energies[:, None]
            numbers = [torch.from_numpy(values).to(device) for values in (noise, showers.voxels, energies)]
            torch.manual_seed(seed + chunk)  # of what a transform draws
            yield from zip(*(rows.split(model.batch_size) for rows in numbers), strict=True)
            bar.update(len(showers))


def _attributes(showers: str, seed: int, purpose: Purpose) -> dict[str, str | int]:
    return {
        "generator": "caloman", "content": purpose.name.lower(), "showers": str(showers), "seed": seed, "chunk": CHUNK,
    }  # fmt: skip
