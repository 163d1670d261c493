"""The order in which showers are trained on."""

from collections.abc import Iterator
from dataclasses import InitVar, dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from caloman.errors import CalomanError

Positions = NDArray[np.int64]


@dataclass(eq=False)
class EpochBatches(Sampler[Positions]):
    """Batches of positions in a data set: over all ranks, every shower exactly once per epoch.

    Each rank gets the same number of batches, of sizes that differ by one at most. Their order depends on seed and
    epoch only. Blocks are shuffled, and showers within groups of blocks, so that a file is read nearly in sequence.
    Ranks and workers get consecutive batches, so that none decodes the blocks of another. Fewer showers than ranks are
    refused.

    Args:
        block_of: number of each shower's block in the file, ascending, shape (N,).
        group: number of blocks that are shuffled together.
        batch_size: largest number of showers per step, over all ranks.
        seed: of the order; None keeps the showers in order.
        world_size: number of ranks.
        rank: number of this one.
        workers: number of processes that take turns in reading the batches; 0 is the same as 1.
    """

    block_of: InitVar[Positions]
    group: int
    batch_size: InitVar[int]
    seed: int | None
    world_size: int = 1
    rank: int = 0
    workers: int = 0
    epoch: int = 0

    def __post_init__(self, block_of: Positions, batch_size: int) -> None:
        n = len(block_of)
        if n < self.world_size:
            raise CalomanError(f"data.train: {n} showers cannot be shared by {self.world_size} devices; use fewer")
        self.blocks = np.split(np.arange(n), np.flatnonzero(np.diff(block_of)) + 1)
        # a step with fewer showers than ranks would leave one without
        self.steps = min(-(-n // batch_size), n // self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Selects the order; Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Positions]:
        batches = np.array_split(self._order(), self.steps * self.world_size)
        own = batches[self.rank * self.steps : (self.rank + 1) * self.steps]
        parts = np.array_split(range(self.steps), max(1, self.workers))
        shares = [own[part[0] : part[-1] + 1] for part in parts if len(part)]
        for turn in zip_longest(*shares):
            yield from (batch for batch in turn if batch is not None)

    def _order(self) -> Positions:
        if self.seed is None:
            return np.concatenate(self.blocks)
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.blocks))
        groups = [order[start : start + self.group] for start in range(0, len(order), self.group)]
        return np.concatenate([rng.permutation(np.concatenate([self.blocks[i] for i in group])) for group in groups])
