"""Shower files as batches for training and validation."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from zlib import crc32

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from caloman.errors import CalomanError
from caloman.files import sha256
from caloman.showers.conditions import ENERGY_ONLY, Conditions
from caloman.showers.geometry import Geometry
from caloman.showers.slices import ShowerFiles, ShowerSlice, recorded_sources
from caloman.training.batches import EpochBatches
from caloman.training.stores import ShowerStore, StreamedShowers, open_store
from caloman.training.symmetries import Moves, Symmetry, find_moves

Batch = tuple[Tensor, Tensor]  # voxels (n, V) [MeV] and conditions (n, C), incident energies [MeV] first

STATISTICS_ROWS = 2000
STATISTICS_BYTES = 64 * 2**20


@dataclass
class DataConfig:
    """What to train on.

    Args:
        train: shower files, or rows of them such as ``showers.hdf5[0:50000]``; paths are relative to the working
            directory.
        validation_fraction: part of the showers for the selection of models; not used if all files record their
            validation rows, as prepared files do.
        max_showers: use only the first so many showers of all files together.
        leave_out: incident energies [MeV] without training, to test a generator between those it has seen.
        symmetries: of the showers; each training shower is seen under a random one. ``alpha_rotation`` and
            ``alpha_reflection`` are those of a detector that is the same all around a particle of normal incidence,
            of inclined ones there are only ``alpha_reflection`` and ``theta_mirror`` (theta to pi - theta, and alpha
            to pi - alpha).
        forbidden: files, or their SHA-256, that must not be trained on, such as the test file; refuses them and all
            files prepared from them.
        memory_limit: largest size of the voxels in memory [GB]; more are read from the files in each epoch.
        workers: processes per device that read the files; showers in memory need none, and prepared files on a fast
            disk are read faster without.
    """

    train: list[str]
    validation_fraction: float = 0.2
    max_showers: int | None = None
    leave_out: list[float] = field(default_factory=list)
    symmetries: list[Symmetry] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)
    memory_limit: float = 4.0
    workers: int = 0


@dataclass(eq=False)
class ShowerDataset(Dataset[Batch]):
    """Some rows of a store, ascending, shape (N,), taken by lists of positions.

    With moves, each shower gets one that depends on its list.
    """

    store: ShowerStore
    rows: NDArray[np.int64]
    moves: Moves | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: NDArray[np.int64] | slice) -> Batch:
        rows = self.rows[positions]
        voxels, conditions = torch.from_numpy(self.store.take(rows)), torch.from_numpy(self.store.conditions[rows])
        if self.moves is None:
            return voxels, conditions
        rng = np.random.default_rng(crc32(rows.tobytes()))  # the same in any process, and after a kill
        return self.moves.apply(voxels, conditions, rng)


class ShowerDataModule(pl.LightningDataModule):
    """Reads and checks the training files once and splits off a validation set.

    The split is that of the files' records, or else depends on the seed only, as does the order of the showers.
    `EpochBatches` shares them out among devices, so Lightning's distributed sampler has to be off. `batch_size` and
    `first_epoch` are set before training. `conditions` are those of the arguments, with the ranges of the showers.

    Raises:
        CalomanError: if a file is unusable or forbidden, lacks a condition, or the split leaves one side empty.
    """

    def __init__(self, geometry: Geometry, config: DataConfig, seed: int, conditions: Conditions = ENERGY_ONLY) -> None:
        super().__init__()
        self.batch_size = 1
        self.first_epoch = 0
        self.seed = seed
        if not config.train:
            raise CalomanError("data.train lists no file; name at least one shower file")
        with ShowerFiles(config.train, geometry) as files:
            self.slices = files.slices
            _refuse_overlap(self.slices)
            if config.forbidden:
                self._refuse_forbidden(config.forbidden)
            count = len(files) if config.max_showers is None else min(len(files), max(0, config.max_showers))
            held_out = _held_out(files, count, config, seed)
            store = open_store(files, conditions, count, 1e9 * config.memory_limit)
        used = _used(store.conditions[:, 0], config.leave_out)
        self.conditions = conditions.trained(store.conditions[used])
        self.workers = config.workers if isinstance(store, StreamedShowers) else 0
        moves = find_moves(geometry, conditions, config.symmetries)
        self.train = ShowerDataset(store, np.flatnonzero(used & ~held_out), moves)
        self.validation = ShowerDataset(store, np.flatnonzero(used & held_out))

    @cached_property
    def files(self) -> list[dict[str, str]]:
        """Path, used rows and SHA-256 of each training file."""
        return [{"path": str(part.path), "rows": part.rows, "sha256": sha256(part.path)} for part in self.slices]

    def train_dataloader(self) -> DataLoader[Batch]:
        if self.batch_size > len(self.train):
            raise CalomanError(
                f"trainer.batch_size = {self.batch_size} is more than the {len(self.train)} training showers; lower it"
            )
        return self._loader(self.train, self.seed)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.validation, None)

    def statistics_batches(self) -> Iterator[Batch]:
        """The training showers once, in order, to fit statistics on."""
        row_bytes = self.train[:1][0].nbytes
        rows = max(1, min(STATISTICS_ROWS, STATISTICS_BYTES // row_bytes))
        for start in range(0, len(self.train), rows):
            yield self.train[start : start + rows]

    def _loader(self, data: ShowerDataset, seed: int | None) -> DataLoader[Batch]:
        trainer = self.trainer
        world_size, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        blocks, group = data.store.block_of(data.rows), data.store.group
        batches = EpochBatches(blocks, group, self.batch_size, seed, world_size, rank, self.workers)
        batches.set_epoch(self.first_epoch)  # workers ask for rows before Lightning tells the epoch
        return DataLoader(
            data,
            batch_size=None,
            sampler=batches,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
            collate_fn=tuple,  # as it is: the data set hands over whole batches
            generator=torch.Generator(),  # its own, or it would draw from the numbers of the first epoch
        )

    def _refuse_forbidden(self, forbidden: list[str]) -> None:
        """Compares files by their own hash and by those of their sources."""
        refused: dict[str, str] = {}
        for item in forbidden:
            path = Path(item)
            if not path.is_file() and not re.fullmatch("[0-9a-fA-F]{64}", item):
                raise CalomanError(f"data.forbidden: {item}: no such file, and not a SHA-256; correct or remove it")
            hashes = [sha256(path), *recorded_sources(path)] if path.is_file() else [item.lower()]
            refused |= dict.fromkeys(hashes, item)
        for file in self.files:
            for digest in (file["sha256"], *recorded_sources(Path(file["path"]))):
                if digest in refused:
                    raise CalomanError(
                        f"{file['path']}: holds the showers of {refused[digest]}, which data.forbidden keeps from "
                        "training; remove it from data.train"
                    )


def _held_out(files: ShowerFiles, count: int, config: DataConfig, seed: int) -> NDArray[np.bool_]:
    """Which of the first `count` showers are for validation, shape (count,)."""
    held_out = np.zeros(count, dtype=bool)
    recorded = files.validation_rows()
    if recorded is not None:
        held_out[recorded[recorded < count]] = True
    else:
        n_validation = max(0, round(config.validation_fraction * count))
        held_out[np.random.default_rng(seed).permutation(count)[:n_validation]] = True
    if held_out.all() or not held_out.any():
        split = f"data.validation_fraction = {config.validation_fraction}" if recorded is None else "the recorded split"
        raise CalomanError(
            f"{split} leaves no showers for training or for validation out of {count}; use a fraction between 0 and 1 "
            "and enough showers"
        )
    return held_out


def _used(incident_energies: NDArray[np.float32], leave_out: Sequence[float]) -> NDArray[np.bool_]:
    """Which showers have none of the energies [MeV] to leave out, shape (N,)."""
    used = np.ones(len(incident_energies), dtype=bool)
    for energy in leave_out:
        found = np.isclose(incident_energies, energy, rtol=1e-5)
        if not found.any():
            raise CalomanError(f"data.leave_out: no shower has {energy:g} MeV; name energies of the training files")
        used &= ~found
    if not used.any():
        raise CalomanError("data.leave_out leaves out all showers; keep some energies")
    return used


def _refuse_overlap(slices: Sequence[ShowerSlice]) -> None:
    for one, other in combinations(slices, 2):
        if one.path.samefile(other.path) and max(one.start, other.start) < min(one.end, other.end):
            raise CalomanError(
                f"data.train: {one} and {other} share showers, so training and validation would; list each shower once"
            )
