"""What can be trained on."""

from typing import Protocol

import numpy as np


class Dataset(Protocol):
    """What can be streamed: a prepared `Pyramid`, or `OnDemandDataset` images.

    title: for messages. labels: int64 [N] (indices into classes), uint8 [N, K] of 0 and 1 (the
    classes are attributes), or None.
    """

    title: str
    count: int
    channels: int
    resolution: int
    classes: tuple[str, ...]
    labels: np.ndarray | None

    @property
    def identity(self) -> str:
        """A hash of the images and labels."""

    def level(self, resolution: int) -> np.ndarray | None:
        """All images as uint8 [N, C, r, r], if they are at hand as one array."""

    def read(self, indices: np.ndarray, resolution: int) -> np.ndarray:
        """Some images: uint8 [n, C, r, r]. Called from several threads."""

    def close(self) -> None:
        """End what was started for reading."""
