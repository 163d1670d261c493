"""Generated showers as a data set: training on a generator without files."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor, distributed
from torch.utils.data import IterableDataset, get_worker_info

from caloman.errors import CalomanError
from caloman.generation.requests import Request
from caloman.generation.shards import count_showers
from caloman.models import ShowerModel
from caloman.showers.showers import CHUNK
from caloman.showers.spectra import check_seed


class GeneratedShowers(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches of generated voxels (n, V) [MeV] and conditions (n, C), incident energies [MeV] first.

    Put it into ``DataLoader(dataset, batch_size=None, num_workers=...)``. Ranks of `torch.distributed` and workers
    generate chunks in turn, so that each shower comes once. The same seed gives the showers of `caloman generate`. The
    length is the number of batches on this rank.

    Args:
        model: the generator.
        energies: as for `caloman generate`, such as log-uniform:1GeV:1TeV.
        seed: of energies and noise.
        batch_size: showers per batch; the last batch of each chunk of 1000 may be smaller.
        n: number of showers; None goes on for ever. With several ranks a multiple of 1000 for each of them, so that
            none waits for a batch of another one.
        conditions: the model's other conditions by name, likewise, such as ``theta="uniform:50deg:130deg"``.

    Raises:
        CalomanError: if a condition is missing, cannot be read or lies outside the trained range, or a number is not
            possible.
    """

    _ranks: tuple[int, int] | None = None
    """Rank and number of ranks of the process that sent this data set to a worker."""

    def __init__(
        self,
        model: ShowerModel,
        energies: str,
        seed: int = 0,
        batch_size: int = 100,
        n: int | None = None,
        **conditions: str,
    ) -> None:
        super().__init__()
        self.model = model
        self.seed = seed
        self.batch_size = batch_size
        self.n = n
        check_seed(seed)
        if batch_size < 1 or (n is not None and n < 1):
            raise CalomanError(f"batch_size {batch_size}, n {n}: must be positive")
        self.asked, _ = Request.read(model.conditions, energies, n or 1, conditions)
        self.asked.check()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_ranks": _ranks_here()}  # a spawned worker does not know the ranks of its parent

    def __len__(self) -> int:
        if self.n is None:
            raise TypeError("a stream without n has no length")
        return sum(-(-count_showers([chunk], self.n) // self.batch_size) for chunk in self._chunks())

    def _chunks(self, worker: int = 0, n_workers: int = 1) -> Iterator[int]:
        """The chunks of a worker of this rank."""
        rank, n_ranks = _ranks_here() or self._ranks or (0, 1)
        if self.n is not None and n_ranks > 1 and self.n % (n_ranks * CHUNK):
            raise CalomanError(f"n {self.n}: use a multiple of {n_ranks * CHUNK}, as many showers for each rank")
        first, step = rank + worker * n_ranks, n_ranks * n_workers
        yield from count(first, step) if self.n is None else range(first, -(-self.n // CHUNK), step)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        for chunk in self._chunks(worker.id, worker.num_workers) if worker else self._chunks():
            rows = CHUNK if self.n is None else count_showers([chunk], self.n)
            conditions = self.asked.chunk(self.seed, chunk, rows)
            showers = self.model.sample_chunk(conditions, self.seed, chunk)
            pairs = (torch.from_numpy(array).split(self.batch_size) for array in (showers.voxels, conditions))
            yield from zip(*pairs, strict=True)


def _ranks_here() -> tuple[int, int] | None:
    """Rank and number of ranks of this process, if it belongs to a process group."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    return distributed.get_rank(), distributed.get_world_size()
