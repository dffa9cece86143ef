"""The order in which images are shown, a pure function of the seed and the position; examples."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from progan.runtime.randomness import make_rng


@dataclass(frozen=True)
class EpochOrder:
    """An endless order of `count` images: each once an epoch, every epoch shuffled again.

    mirror: half of the images, drawn for each epoch, are flipped left to right.
    """

    count: int
    seed: int
    mirror: bool = False

    def at(self, position: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The images at `position … position + size - 1`: indices int64 [size], flips bool."""
        epochs, places = np.divmod(np.arange(position, position + size), self.count)
        indices, flips = np.empty(size, np.int64), np.empty(size, bool)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            order, flipped = shuffled(self, epoch)
            indices[here], flips[here] = order[places[here]], flipped[places[here]]
        return indices, flips


@lru_cache(4)  # two for a batch across a border, as much for the reals of a metric
def shuffled(order: EpochOrder, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """One epoch: a permutation int64 [count], and which of its places are flipped, bool [count]."""
    images = make_rng(order.seed, "order", epoch).permutation(order.count)
    draws = make_rng(order.seed, "flips", epoch).random(order.count)
    return images, draws < (0.5 if order.mirror else 0)


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` images that stand for all: distinct indices int64 [n].

    Those of fewer are the first of these, so that every resolution shows the same.
    """
    return make_rng(0, "spread", 0).permutation(count)[:most]
