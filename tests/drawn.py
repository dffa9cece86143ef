"""A source of known images, for tests; imports no torch, as worker processes import it."""

import time

import numpy as np

from progan.data.labels import Labels
from progan.data.sources.source import Source


def pixels(i: int, size: int = 16) -> np.ndarray:
    """Image `i`: uint8 [size, size, 3]."""
    return np.random.default_rng(i).integers(0, 256, (size, size, 3), np.uint8)


class Drawn:
    """Images by index: `bad` ones are junk, `small` ones too small. `log` names a file that gets
    one line for each image read."""

    def __init__(self, size=16, bad=(), small=(), log=None, delay=0.0):
        self.size, self.bad, self.small, self.log, self.delay = size, bad, small, log, delay

    def __call__(self, i):
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{i}\n")
        time.sleep(self.delay)
        if i in self.bad:
            return b"junk"
        return pixels(i, 3 if i in self.small else self.size)


def drawn(count, labels=None, classes=(), **settings) -> Source:
    labels = None if labels is None else Labels(classes, labels)
    return Source("drawn", f"{count}", range(count), Drawn(**settings), "{}.png".format, labels)
