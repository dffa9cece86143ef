"""Counted randomness: (seed, stream, position) to a generator."""

import numpy as np

# Every use of chance has a number of its own, so that no two ever share draws. Never renumber:
# it would change what a seed means.
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
}


def make_rng(seed: int, stream: str, position: int = 0) -> np.random.Generator:
    """Draws that depend on (seed, stream, position) and on nothing that happened before.

    NumPy's, because it hashes all of the triple; torch's CPU generator keeps 32 bits of a seed.
    """
    sequence = np.random.SeedSequence((seed, STREAMS[stream], position))
    return np.random.Generator(np.random.PCG64(sequence))
