"""Binary classifiers that try to tell generated from reference showers: the area under their ROC curve.

References:
    Krause and Shih, CaloFlow (arXiv:2106.05285); Krause et al., CaloChallenge 2022 (arXiv:2410.21611).
"""

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from caloman.evaluation.samples import Sample
from caloman.nn.mlp import MLP
from caloman.observables import Observables

EVALUATION_BATCH = 4096


@dataclass(frozen=True)
class ClassifierPreset:
    """How a classifier is built, trained and scored.

    Args:
        name: name that is reported with every score.
        hidden: sizes of the hidden layers.
        learning_rate: largest learning rate of AdamW; it rises and falls over the training (one cycle).
        weight_decay: weight decay of AdamW.
        batch_size: showers per update.
        epochs: passes over the training part, each followed by a look at the selection part.
        min_updates: an epoch of a small sample is several passes, for at least this many updates in total.
        train: fraction of each class to train on.
        select: fraction of each class on which the best epoch is selected; the rest gives the score.
        clip: standardised inputs are clipped to this magnitude.
        max_showers: largest number of showers of each class.
    """

    name: str
    hidden: tuple[int, ...]
    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int
    min_updates: int
    train: float
    select: float
    clip: float
    max_showers: int


QUICK = ClassifierPreset(
    name="quick",
    hidden=(256, 256),
    learning_rate=2e-3,
    weight_decay=0.1,
    batch_size=256,
    epochs=20,
    min_updates=300,
    train=0.6,
    select=0.2,
    clip=10.0,
    max_showers=50_000,
)


@dataclass(frozen=True)
class Score:
    """Area under the ROC curve over repeated trainings.

    Args:
        values: one per training with its own split and initialisation.
        n_scored: showers of each class (generated, reference) in the part that gives the score.
    """

    values: tuple[float, ...]
    n_scored: tuple[int, int]

    @property
    def mean(self) -> float:
        """Mean over the trainings."""
        return float(np.mean(self.values))

    @property
    def std(self) -> float:
        """Standard deviation over the trainings."""
        return float(np.std(self.values))

    @property
    def error(self) -> float:
        """The standard deviation, but no less than that of guessing on the scored part (Mann-Whitney)."""
        n, m = self.n_scored
        return max(self.std, math.sqrt((n + m + 1) / (12 * n * m)))


def low_level_inputs(samples: Sequence[Sample]) -> NDArray[np.float32]:
    """Returns log10 of the incident energy [MeV] and every voxel over it, shape (N, 1 + V), of all samples in turn."""
    inputs = np.empty((sum(map(len, samples)), 1 + samples[0].geometry.n_voxels), dtype=np.float32)
    start = 0
    for block in chain.from_iterable(sample.blocks() for sample in samples):
        rows = inputs[start : start + len(block)]
        rows[:, 0] = np.log10(block.incident_energies)
        np.divide(block.voxels, block.incident_energies[:, None], out=rows[:, 1:])
        start += len(block)
    return inputs


def high_level_inputs(observables: Observables) -> NDArray[np.float32]:
    """Returns the official vector of observables, energies [MeV] as log10, lengths in 100 mm, shape (N, F)."""
    o = observables
    columns = [
        np.log10(o.incident_energies)[:, None], np.log10(o.layer_energies + 1e-8),
        o.centre_eta / 100, o.centre_phi / 100, o.width_eta / 100, o.width_phi / 100,
        np.log10(o.total_energy + 1e-8)[:, None], o.sparsity, o.centre_r / 100, o.width_r / 100,
    ]  # fmt: skip
    return np.concatenate(columns, axis=1, dtype=np.float32)


def train_classifiers(
    inputs: NDArray[np.float32], n_generated: int, preset: ClassifierPreset, seeds: Sequence[int]
) -> Iterator[float]:
    """Trains one classifier per seed and yields its area under the ROC curve on the scored part.

    Args:
        inputs: generated showers (label 0) followed by the reference (label 1), shape (N, D).
        n_generated: number of generated showers.
        preset: settings.
        seeds: each decides split, initialisation and batches of one training.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    features = torch.from_numpy(inputs).to(device)
    labels = (torch.arange(len(inputs)) >= n_generated).float().to(device)
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        parts = _split(n_generated, len(inputs), preset, generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = MLP(inputs.shape[1], preset.hidden, 1, nn.LeakyReLU)
        standardise = Standardisation(features, parts[0], preset.clip)
        judge = nn.Sequential(standardise, network, nn.Flatten(0)).to(device)
        yield _train(judge, features, labels, parts, preset, generator)


def split_sizes(count: int, preset: ClassifierPreset) -> tuple[int, int, int]:
    """Number of showers of a class to train on, to select the epoch with, and to score."""
    train, select = int(preset.train * count), int(preset.select * count)
    return train, select, count - train - select


class Standardisation(nn.Module):
    """Shifts and scales inputs to mean 0 and standard deviation 1, and clips outliers.

    Args:
        inputs: shape (N, D).
        rows: rows that decide mean and standard deviation.
        clip: largest magnitude that is passed on.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, inputs: Tensor, rows: Tensor, clip: float) -> None:
        super().__init__()
        total, squares = torch.zeros(2, inputs.shape[1], dtype=torch.float64, device=inputs.device)
        for part in rows.split(EVALUATION_BATCH):
            batch = inputs[part].double()
            total += batch.sum(dim=0)
            squares += batch.square().sum(dim=0)
        mean = total / len(rows)
        std = (squares / len(rows) - mean.square()).clamp_min(0).sqrt()
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", torch.where(std > 1e-6 * mean.abs(), 1 / std, 0).float())
        self.clip = clip

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps inputs (N, D) to standardised ones; constant columns become 0."""
        return ((inputs - self.mean) * self.scale).clamp(-self.clip, self.clip)


def _split(n_generated: int, total: int, preset: ClassifierPreset, generator: torch.Generator) -> list[Tensor]:
    """Row numbers of the parts to train on, to select with and to score, each with its share of both classes."""
    per_class = []
    for start, stop in ((0, n_generated), (n_generated, total)):
        rows = start + torch.randperm(stop - start, generator=generator)
        per_class.append(rows.split(split_sizes(stop - start, preset)))
    return [torch.cat(parts) for parts in zip(*per_class, strict=True)]


def _train(
    judge: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    parts: Sequence[Tensor],
    preset: ClassifierPreset,
    generator: torch.Generator,
) -> float:
    """Trains on the first part and returns the score on the third, at the epoch that is best on the second."""
    train, select, score = parts
    updates = max(len(train) // preset.batch_size, 1)
    passes = math.ceil(preset.min_updates / (preset.epochs * updates))
    optimizer = torch.optim.AdamW(judge.parameters(), preset.learning_rate, weight_decay=preset.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, preset.learning_rate, total_steps=preset.epochs * passes * updates
    )
    best, weights = -1.0, judge.state_dict()
    for _ in range(preset.epochs):
        for _ in range(passes):
            order = train[torch.randperm(len(train), generator=generator)]
            for rows in order[: updates * preset.batch_size].split(preset.batch_size):
                loss = binary_cross_entropy_with_logits(judge(inputs[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        selected = _auc(judge, inputs, labels, select)
        if selected > best:
            best, weights = selected, deepcopy(judge.state_dict())
    judge.load_state_dict(weights)
    return _auc(judge, inputs, labels, score)


@torch.no_grad()
def _auc(judge: nn.Module, inputs: Tensor, labels: Tensor, rows: Tensor) -> float:
    scores = torch.cat([judge(inputs[part]) for part in rows.split(EVALUATION_BATCH)])
    return float(roc_auc_score(labels[rows].cpu(), scores.cpu()))
