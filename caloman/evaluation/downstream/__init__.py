"""What generated showers are good for: methods that learn from them are used on Geant4 showers.

Everything is measured on Geant4 showers that no method was trained on. The floor is the same with methods that learned
from as many Geant4 showers. Errors are the spread over random halves of the showers to learn from and of those to test.
"""

from collections.abc import Callable, Iterator

import numpy as np

from caloman.evaluation.downstream.calibration import calibration
from caloman.evaluation.downstream.overlap import overlap
from caloman.evaluation.samples import Sample
from caloman.showers.showers import Showers

MIN_SHOWERS = 1000  # fewest showers to learn from and to test
MOST_VOXELS = 2**27  # voxels of a sample in memory
HALVES = 8

Numbers = dict[str, float]
Task = Callable[[Showers, Showers], Numbers]
TASKS: dict[str, Task] = {"energy calibration": calibration, "two photons": overlap}


def downstream(train: Sample, test: Sample, count: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """Learns from the showers of one sample and yields what comes out on Geant4 showers, by key of the measure.

    Args:
        train: generated showers, or for the floor Geant4 showers.
        test: Geant4 showers.
        count: number of showers to learn from, and to test.
    """
    count = min(count, MOST_VOXELS // test.geometry.n_voxels)
    showers = [sample.drawn(count).load(count) for sample in (train, test)]
    rng = np.random.default_rng(0)
    for task in TASKS.values():
        found = task(*showers)
        halves = [task(*(own[np.sort(rng.permutation(count)[: count // 2])] for own in showers)) for _ in range(HALVES)]
        for key, value in found.items():
            # half of the showers have twice the variance, of which a half is common with all of them
            yield key, (value, float(np.std([half[key] for half in halves], ddof=1)))
