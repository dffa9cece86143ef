"""Counted randomness: a generator for each (seed, stream, position)."""

import numpy as np

# Every use of randomness has its own number, so that no two share draws. Never renumber them: it
# would change what a seed means.
STREAMS = {
    "weights": 0,
    "order": 1,
    "flips": 2,
    "critic": 3,
    "generator": 4,
    "samples": 5,
    "augment": 6,
    "metrics": 7,
    "patches": 8,
    "directions": 9,
    "balance": 10,
    "spread": 11,
    "walks": 12,
}


def make_rng(seed: int, stream: str, position: int = 0) -> np.random.Generator:
    """A generator that depends on (seed, stream, position), and on no earlier draws.

    From NumPy, which hashes the whole triple; torch's CPU generator keeps 32 bits of a seed.
    """
    sequence = np.random.SeedSequence((seed, STREAMS[stream], position))
    return np.random.Generator(np.random.PCG64(sequence))
