"""Shower files as batches for training and validation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from caloman.errors import CalomanError
from caloman.geometry import Geometry
from caloman.showers import ShowerFile

Batch = tuple[Tensor, Tensor]
"""Voxels (n, V) and incident energies (n, 1), both in MeV."""


@dataclass
class DataConfig:
    """What to train on.

    Args:
        train: shower files; paths are relative to the working directory.
        validation_fraction: part of the showers that is held out to select models.
        max_showers: use only the first so many showers of all files together.
        symmetries: show each training shower under a random rotation and reflection in alpha; right where the detector
            is the same all around the incident particle.
    """

    train: list[str]
    validation_fraction: float = 0.2
    max_showers: int | None = None
    symmetries: bool = False


class ShowerDataset(Dataset[Batch]):
    """Showers in memory, taken by lists of rows.

    Args:
        voxels: [MeV], shape (N, V).
        incident_energies: [MeV], shape (N, 1).
        symmetries: orders of the voxels, shape (S, V), of which each shower gets a random one whenever it is taken.
    """

    def __init__(self, voxels: Tensor, incident_energies: Tensor, symmetries: Tensor | None = None) -> None:
        self.voxels = voxels
        self.incident_energies = incident_energies
        self.symmetries = symmetries

    def __len__(self) -> int:
        return len(self.voxels)

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        index = torch.as_tensor(rows)
        voxels = self.voxels[index]
        if self.symmetries is not None:
            voxels = voxels.gather(1, self.symmetries[torch.randint(len(self.symmetries), (len(index),))])
        return voxels, self.incident_energies[index]


class ShowerDataModule(pl.LightningDataModule):
    """Reads the training files once and splits off a validation set that depends on the seed only.

    Args:
        geometry: the voxel mesh.
        config: which files, and how to split them.
        seed: of the split.

    Raises:
        CalomanError: if a file is unusable or the split leaves one side empty.
    """

    def __init__(self, geometry: Geometry, config: DataConfig, seed: int) -> None:
        super().__init__()
        self.batch_size = 1
        voxels, energies = _read(geometry, config)
        order = np.random.default_rng(seed).permutation(len(voxels))
        n_validation = round(config.validation_fraction * len(voxels))
        if not 0 < n_validation < len(voxels):
            raise CalomanError(
                f"data.validation_fraction = {config.validation_fraction} leaves no showers for training or for "
                f"validation out of {len(voxels)}; use a value between 0 and 1 and enough showers"
            )
        self.energy_range = (float(energies.min()), float(energies.max()))
        self.validation = ShowerDataset(voxels[order[:n_validation]], energies[order[:n_validation]])
        symmetries = torch.from_numpy(alpha_symmetries(geometry)) if config.symmetries else None
        self.train = ShowerDataset(voxels[order[n_validation:]], energies[order[n_validation:]], symmetries)

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(
            self.train, min(self.batch_size, len(self.train)), shuffle=True, drop_last=True, collate_fn=_as_is
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(self.validation, self.batch_size, collate_fn=_as_is)

    def statistics_batches(self) -> Iterator[Batch]:
        """The training showers once, in order, to fit statistics on."""
        yield from DataLoader(self.train, 2000, collate_fn=_as_is)


def alpha_symmetries(geometry: Geometry) -> NDArray[np.int64]:
    """Orders of the voxels that rotate showers by whole angular bins or reflect them in alpha, shape (2 n_alpha, V).

    Raises:
        CalomanError: if the layers with angular bins do not all have the same number of them.
    """
    numbers = {layer.n_alpha for layer in geometry.layers} - {1}
    if len(numbers) != 1:
        raise CalomanError(
            f"data.symmetries: layers of {geometry.name!r} have {sorted(numbers)} angular bins; turn it off"
        )
    orders = []
    for sign in (1, -1):
        for shift in range(*numbers):
            parts = []
            for columns, layer in zip(geometry.layer_slices, geometry.layers, strict=True):
                grid = np.arange(columns.start, columns.stop).reshape(layer.n_alpha, layer.n_r)
                parts.append(np.roll(grid[::sign], shift, axis=0).ravel())
            orders.append(np.concatenate(parts))
    return np.stack(orders)


def _as_is(batch: Any) -> Any:  # noqa: ANN401 - the dataset hands over whole batches
    return batch


def _read(geometry: Geometry, config: DataConfig) -> tuple[Tensor, Tensor]:
    voxels, energies, left = [], [], config.max_showers
    for path in config.train:
        with ShowerFile(path, geometry) as file:
            for block in file.blocks():
                rows = block[:left]
                voxels.append(torch.from_numpy(rows.voxels))
                energies.append(torch.from_numpy(rows.incident_energies).unsqueeze(1))
                left = None if left is None else left - len(rows)
                if left == 0:
                    return torch.cat(voxels), torch.cat(energies)
    if not voxels:
        raise CalomanError("data.train lists no file; name at least one shower file")
    return torch.cat(voxels), torch.cat(energies)
