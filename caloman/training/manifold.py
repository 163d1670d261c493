"""Training of a manifold: first its coordinates, then the densities on it."""

from typing import Any

import torch
from torch import Tensor, nn

from caloman.models import ManifoldShape
from caloman.training.data import Batch
from caloman.training.tasks import ShapeTask, normal_noise


class ManifoldTask(ShapeTask):
    """A task on the manifold shape model."""

    @property
    def shape(self) -> ManifoldShape:
        return self.model.manifold

    def showers(self, batch: Batch) -> Tensor:
        """Decoded showers with the true layer energies."""
        _, conditions = batch
        shapes, context, layer_energies = self.model.transform(*batch)
        noise = normal_noise(shapes, self.shape.autoencoder.noise_dim)
        decoded = self.decode(self.latents(shapes, context), context, noise)
        return self.model.transform.inverse(decoded, conditions, layer_energies)

    def latents(self, shapes: Tensor, context: Tensor) -> Tensor:
        """The points to decode: those of the true shapes by default."""
        return self.shape.encode(shapes, context)

    def decode(self, latents: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        """Shapes from latents, by default with independent noise."""
        return self.shape.autoencoder.decode(latents, context, noise)


class AutoencoderTask(ManifoldTask):
    """Trains the manifold: encoder and decoder."""

    part = "shape.autoencoder"

    def parameter_groups(self) -> list[dict[str, Any]]:
        autoencoder = self.shape.autoencoder
        groups: dict[float, list[nn.Parameter]] = {}
        for name, weight in autoencoder.named_parameters():
            groups.setdefault(autoencoder.rates.get(name.split(".")[0], 1.0), []).append(weight)
        return [{"params": weights, "lr": rate * self.learning_rate} for rate, weights in groups.items()]

    def validation_losses(self, batch: Batch) -> dict[str, Tensor]:
        shapes, context = self.inputs(batch)
        autoencoder = self.shape.autoencoder
        noise = normal_noise(shapes, autoencoder.noise_dim)
        decoded = autoencoder.decode(autoencoder.encode(shapes, context), context, noise)
        error = (decoded - shapes).square().sum(dim=1).mean()
        return {**self.losses_of(batch), "reconstruction_error": error}


class ResidualTask(ManifoldTask):
    """Trains the density of what the decoder leaves to independent noise."""

    part = "shape.residual"
    upstream = ("shape.autoencoder",)

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        shapes, context = super().inputs(batch)
        latents = self.shape.encode(shapes, context)
        noise = self.shape.autoencoder.to_noise(latents, context, shapes)
        return noise, torch.cat([latents, context], dim=1)

    def decode(self, latents: Tensor, context: Tensor, noise: Tensor) -> Tensor:
        return self.shape.decode(latents, context, noise)


class LatentTask(ManifoldTask):
    """Trains the density on the manifold, on latents of the finished encoder."""

    part = "shape.density"
    upstream = ("shape.autoencoder",)

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        shapes, context = super().inputs(batch)
        return self.shape.encode(shapes, context), context

    def latents(self, shapes: Tensor, context: Tensor) -> Tensor:
        return self.shape.density.sample(normal_noise(shapes, self.shape.density.noise_dim), context)
