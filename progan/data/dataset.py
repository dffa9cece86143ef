"""The interface of all that can be trained on."""

from typing import Protocol

import numpy as np

from progan.data.array_file import ArrayFile
from progan.data.labels import Labels


class Dataset(Protocol):
    """Images to train on: a prepared `Pyramid`, or an `OnDemandDataset`."""

    title: str  # for messages
    count: int
    channels: int
    resolution: int
    labels: Labels | None

    @property
    def identity(self) -> str:
        """A hash of the images and labels."""

    def is_identified_by(self, identity: str) -> bool:
        """Whether this is the identity, or was it for an earlier version of progan."""

    def level(self, resolution: int) -> ArrayFile | None:
        """All images, uint8 [N, C, r, r], if one array holds them."""

    def read(self, indices: np.ndarray, resolution: int) -> np.ndarray:
        """Some images: uint8 [n, C, r, r]. Several threads may call it."""

    def close(self) -> None:
        """End the processes that read."""
