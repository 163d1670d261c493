"""Training of a network that assigns showers to samples."""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, nll_loss
from torch.optim.lr_scheduler import OneCycleLR

from caloman.errors import CalomanError
from caloman.evaluation.inputs import Inputs
from caloman.evaluation.networks import Standardization
from caloman.evaluation.presets import ClassifierPreset

EVALUATION_BATCH = 1000

Quality = Callable[[NDArray[np.float64], NDArray[np.int64]], float]
"""Quality of a network's outputs (N, outputs) for showers with labels (N,): larger is better, 1 is perfect."""


class Parts(NamedTuple):
    """Rows to train on, to select the best epoch with, and to score, each with its share of all classes."""

    train: Tensor
    select: Tensor
    score: Tensor


def fit(
    inputs: Inputs,
    preset: ClassifierPreset,
    seed: int,
    network: Callable[[], nn.Module],
    quality: Quality,
    fold: int = 0,
) -> tuple[nn.Module, Parts]:
    """Trains one network and returns it as it was after its best epoch, with the split that it was trained on.

    `seed` decides initial weights and batches, with `fold` the split, and `quality`, on the part to select with, which
    epoch is best.

    Raises:
        CalomanError: if a class is too small to be split.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = split(inputs.sizes, preset, seed, fold)
    judge = _initialized(network, inputs, parts.train, preset, seed)
    updates = max(len(parts.train) // preset.batch_size, 1)
    passes = max(math.ceil(preset.min_updates / (preset.epochs * updates)), 1)
    optimizer = torch.optim.AdamW(judge.parameters(), preset.learning_rate, weight_decay=preset.weight_decay)
    steps = preset.epochs * passes * updates
    schedule = OneCycleLR(optimizer, preset.learning_rate, total_steps=steps) if preset.one_cycle else None
    best, weights = -math.inf, judge.state_dict()
    for _ in range(preset.epochs):
        for _ in range(passes):
            order = parts.train[torch.randperm(len(parts.train), generator=generator)]
            for rows in order[: updates * preset.batch_size].split(preset.batch_size):
                _update(judge, inputs, rows, optimizer)
                if schedule:
                    schedule.step()
        selected = quality(predict(judge, inputs, parts.select), inputs.labels[parts.select.numpy()])
        if selected > best:
            best, weights = selected, deepcopy(judge.state_dict())
        if best >= 1:
            break
    judge.load_state_dict(weights)
    return judge, parts


@torch.no_grad()
def predict(judge: nn.Module, inputs: Inputs, rows: Tensor | None = None) -> NDArray[np.float64]:
    """Outputs of a network for some rows of the inputs or all, shape (rows, outputs)."""
    judge.eval()
    rows = torch.arange(len(inputs.values)) if rows is None else rows
    outputs = [judge(_features(judge, inputs, part)).double().cpu() for part in rows.split(EVALUATION_BATCH)]
    return torch.cat(outputs).numpy()


def split(sizes: tuple[int, ...], preset: ClassifierPreset, seed: int, fold: int = 0) -> Parts:
    """Splits each class at random, all in the same order.

    A shower and its reconstruction, which have the same number in their classes, are in the same part: otherwise a
    judge would meet what it was trained on with the other label. The parts to score of the trainings with seeds s,
    s + 1, ... and folds 0, 1, ... are disjoint, as many as the preset has folds.

    Raises:
        CalomanError: if a class is too small.
    """
    generator = torch.Generator().manual_seed(seed - fold % preset.folds)
    per_class, order = [], torch.randperm(max(sizes), generator=generator)
    for label, size in enumerate(sizes):
        counts = preset.split_sizes(size)
        if min(counts) < 1:
            raise CalomanError(
                f"classifier preset {preset.name!r}: sample {label} has only {size} showers, too few to train, select "
                f"and score with different ones; give at least {preset.least}"
            )
        rows = sum(sizes[:label]) + order[order < size]
        per_class.append(rows.roll(fold % preset.folds * counts[2]).split(counts))
    return Parts(*map(torch.cat, zip(*per_class, strict=True)))


def _initialized(
    network: Callable[[], nn.Module], inputs: Inputs, rows: Tensor, preset: ClassifierPreset, seed: int
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = network()
    if preset.clip is not None:
        standardize = Standardization(inputs.n_features, preset.clip)
        standardize.fit(torch.from_numpy(inputs.values), rows)
        judge = nn.Sequential(standardize, judge)
    return judge.to("cuda" if torch.cuda.is_available() else "cpu", getattr(torch, preset.precision))


def _update(judge: nn.Module, inputs: Inputs, rows: Tensor, optimizer: torch.optim.Optimizer) -> None:
    judge.train()
    outputs = judge(_features(judge, inputs, rows))
    labels = torch.from_numpy(inputs.labels[rows.numpy()]).to(outputs.device)
    if outputs.shape[1] == 1:
        loss = binary_cross_entropy_with_logits(outputs.squeeze(1), labels.to(outputs))
    else:
        loss = nll_loss(outputs, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _features(judge: nn.Module, inputs: Inputs, rows: Tensor) -> Tensor:
    """Some inputs with the precision and on the device of the network; they may come from disk."""
    return torch.from_numpy(inputs.values)[rows].to(next(judge.parameters()))
