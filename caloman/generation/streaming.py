"""Generated showers as a data set: training on a generator without files."""

from collections.abc import Iterator
from itertools import count

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from caloman.models import ShowerModel
from caloman.showers.showers import CHUNK
from caloman.showers.spectra import parse_energies


class GeneratedShowers(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches of generated voxels (n, V) and incident energies (n, 1), both in MeV.

    Put it into ``DataLoader(dataset, batch_size=None, num_workers=...)``: workers generate chunks in turn, so that each
    shower comes once. The same seed gives the same showers, those of `caloman generate`.

    Args:
        model: the generator.
        energies: as for `caloman generate`, such as log-uniform:1GeV:1TeV.
        seed: of energies and noise.
        batch_size: showers per batch; the last batch of each chunk of 1000 may be smaller.
        n: number of showers; None goes on for ever.

    Raises:
        CalomanError: if the energies cannot be read, or lie outside the range that the model was trained on.
    """

    def __init__(
        self, model: ShowerModel, energies: str, seed: int = 0, batch_size: int = 100, n: int | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.spectrum = parse_energies(energies)
        self.seed = seed
        self.batch_size = batch_size
        self.n = n
        model.check_energies(self.spectrum.bounds)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for chunk in count(first, step):
            rows = CHUNK if self.n is None else min(CHUNK, self.n - chunk * CHUNK)
            if rows <= 0:
                return
            showers = self.model.sample_chunk(self.spectrum.chunk(self.seed, chunk, rows), self.seed, chunk)
            voxels, energies = map(torch.from_numpy, (showers.voxels, showers.incident_energies[:, None]))
            yield from zip(voxels.split(self.batch_size), energies.split(self.batch_size), strict=True)
