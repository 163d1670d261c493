"""Random numbers by chunk: the same for any number of jobs, any device and any batch."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Purpose(IntEnum):
    """Uses of noise. No two of them have the same numbers, nor do the incident energies, whose number is 0."""

    SHOWERS = 1
    RECONSTRUCTIONS = 2
    SHAPES = 3
    ENCODINGS = 4
    LATENTS = 5


def chunk_noise(
    seed: int, chunk: int, rows: int, noise_dim: int, purpose: Purpose = Purpose.SHOWERS
) -> NDArray[np.float32]:
    """Standard normal noise for the first `rows` showers of a chunk, shape (rows, noise_dim)."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(chunk, purpose)))
    return generator.standard_normal((rows, noise_dim), dtype=np.float32)
