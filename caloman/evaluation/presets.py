"""How classifiers are built, trained and scored: the quick preset and the published protocol."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from caloman.errors import CalomanError
from caloman.showers.geometry import Geometry


@dataclass(frozen=True)
class ClassifierPreset:
    """How a classifier is built, trained and scored. Defaults are those of the quick preset.

    Args:
        name: name that is reported with every score.
        repeats: usual number of trainings, each with its own split and initialization.
        hidden: sizes of the hidden layers of a dense network.
        precision: floating point numbers of weights and inputs.
        learning_rate: learning rate of AdamW, which without weight decay is Adam; with `one_cycle` the largest one.
        weight_decay: weight decay of AdamW.
        one_cycle: whether the learning rate rises and falls over the training, or is constant.
        batch_size: showers per update.
        epochs: passes over the training part, each followed by a look at the selection part.
        min_updates: an epoch of a small sample is several passes, for at least this many updates in total.
        train: fraction of each class to train on; from 1 upward the number of showers.
        select: fraction or number on which the best epoch is selected and scores are calibrated; the rest is scored.
        select_by: what the best epoch has most of.
        clip: inputs are standardized and clipped to this magnitude; None leaves them as they are.
        folds: trainings that share a split, each scored on other showers, so that all are scored once.
        recalibrated: whether the AUC to quote is that of the recalibrated scores or of the network's own.
        max_showers: largest number of showers of each class; None for all.
    """

    name: str = "quick"
    repeats: int = 5
    hidden: tuple[int, ...] = (256, 256)
    precision: Literal["float32", "float64"] = "float32"
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    one_cycle: bool = True
    batch_size: int = 256
    epochs: int = 20
    min_updates: int = 300
    train: float = 0.6
    select: float = 0.2
    select_by: Literal["auc", "accuracy"] = "auc"
    clip: float | None = 10.0
    folds: int = 5
    recalibrated: bool = False
    max_showers: int | None = 50_000

    def split_sizes(self, count: int) -> tuple[int, int, int]:
        """Number of showers of a class of `count` to train on, to select with, and to score."""
        train, select = (int(part if part >= 1 else part * count) for part in (self.train, self.select))
        return train, select, count - train - select

    def in_shares(self, count: int) -> "ClassifierPreset":
        """The same settings with the split of a class of `count` showers as fractions."""
        train, select, _ = self.split_sizes(count)
        return replace(self, train=train / count, select=select / count)

    @property
    def least(self) -> int:
        """Smallest number of showers of a class that can be split."""
        return next(count for count in range(3, 10**7) if min(self.split_sizes(count)) >= 1)


QUICK = ClassifierPreset()
OFFICIAL = ClassifierPreset(
    name="official",
    repeats=10,
    hidden=(2048, 2048, 2048),
    precision="float64",
    learning_rate=2e-4,
    weight_decay=0.0,
    one_cycle=False,
    batch_size=1000,
    epochs=50,
    min_updates=0,
    train=60_000,
    select=20_000,
    select_by="accuracy",
    clip=None,
    folds=1,
    recalibrated=True,
    max_showers=None,
)
"""The classifier of the CaloChallenge (arXiv:2410.21611), with the split of datasets 2 and 3."""
OFFICIAL_SCORED = 20_000  # fewest showers of a class that the official split leaves to score, in any dataset


def preset_for(name: str, geometry: Geometry, counts: Sequence[int]) -> ClassifierPreset:
    """Returns the preset, "quick" or "official", for classes of so many showers.

    The official split needs 100 000 showers of each class, for dataset 1 120 000. Fewer are split into 66, 17 and
    17 %, and the preset calls itself "official-reduced".

    Raises:
        CalomanError: if there is no such preset.
    """
    if name == "quick":
        return QUICK
    if name != "official":
        raise CalomanError(f"unknown classifier preset {name!r}: use quick or official")
    official = replace(OFFICIAL, train=80_000) if geometry.name in ("1-photons", "1-pions") else OFFICIAL
    if official.split_sizes(min(counts))[2] >= OFFICIAL_SCORED:
        return official
    return replace(OFFICIAL, name="official-reduced", train=0.66, select=0.17)
