"""What can be trained on."""

from typing import Protocol

import numpy as np

from progan.data.labels import Labels


class Dataset(Protocol):
    """What can be streamed: a prepared `Pyramid`, or `OnDemandDataset` images.

    title: for messages.
    """

    title: str
    count: int
    channels: int
    resolution: int
    labels: Labels | None

    @property
    def identity(self) -> str:
        """A hash of the images and labels."""

    def level(self, resolution: int) -> np.ndarray | None:
        """All images as uint8 [N, C, r, r], if they are at hand as one array."""

    def read(self, indices: np.ndarray, resolution: int) -> np.ndarray:
        """Some images: uint8 [n, C, r, r]. Called from several threads."""

    def close(self) -> None:
        """End what was started for reading."""
