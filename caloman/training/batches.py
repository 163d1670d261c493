"""The order in which showers are trained on."""

from collections.abc import Iterator
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from caloman.errors import CalomanError

Positions = NDArray[np.int64]


class EpochBatches(Sampler[Positions]):
    """Batches of positions in a data set: over all ranks, every shower exactly once per epoch.

    Each rank gets the same number of batches, of sizes that differ by one at most. Their order depends on seed and
    epoch only. Blocks are shuffled, and showers within groups of blocks, so that a file is read nearly in sequence.
    Ranks and workers get consecutive batches, so that none decodes the blocks of another.

    Args:
        blocks: number of each shower's block in the file, ascending, shape (N,).
        group: number of blocks that are shuffled together.
        batch_size: largest number of showers per step, over all ranks.
        seed: of the order; None keeps the showers in order.
        world_size: number of ranks.
        rank: number of this one.
        workers: number of processes that take turns in reading the batches; 0 is the same as 1.

    Raises:
        CalomanError: if there are fewer showers than ranks.
    """

    def __init__(
        self,
        blocks: NDArray[np.int64],
        group: int,
        batch_size: int,
        seed: int | None,
        world_size: int = 1,
        rank: int = 0,
        workers: int = 0,
    ) -> None:
        if len(blocks) < world_size:
            raise CalomanError(f"data.train: {len(blocks)} showers cannot be shared by {world_size} devices; use fewer")
        self.blocks = np.split(np.arange(len(blocks)), np.flatnonzero(np.diff(blocks)) + 1)
        self.group = group
        self.seed = seed
        self.world_size = world_size
        self.rank = rank
        self.workers = max(1, workers)
        # a step with fewer showers than ranks would leave one without
        self.steps = min(-(-len(blocks) // batch_size), len(blocks) // world_size)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Selects the order; Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Positions]:
        batches = np.array_split(self._order(), self.steps * self.world_size)
        own = batches[self.rank * self.steps : (self.rank + 1) * self.steps]
        shares = [own[part[0] : part[-1] + 1] for part in np.array_split(range(self.steps), self.workers) if len(part)]
        for turn in zip_longest(*shares):
            yield from (batch for batch in turn if batch is not None)

    def _order(self) -> Positions:
        if self.seed is None:
            return np.concatenate(self.blocks)
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.blocks))
        groups = [order[start : start + self.group] for start in range(0, len(order), self.group)]
        return np.concatenate([rng.permutation(np.concatenate([self.blocks[i] for i in group])) for group in groups])
