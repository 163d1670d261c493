"""Random numbers by chunk: the same for any number of jobs, any device and any batch."""

import numpy as np
from numpy.typing import NDArray


def chunk_noise(seed: int, chunk: int, rows: int, noise_dim: int) -> NDArray[np.float32]:
    """Standard normal noise for the first `rows` showers of a chunk, shape (rows, noise_dim)."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(chunk, 1)))
    return generator.standard_normal((rows, noise_dim), dtype=np.float32)
