"""The base of metrics on Inception features: collects them, and keeps those of the reals."""

from typing import Self

import numpy as np
import torch
from torch import Tensor

from progan.metrics.inception import Inception
from progan.metrics.metric import Gather, Metric, Rows, alone


class OnFeatures(Metric):
    """Compares `count` fakes with as many reals, or all if there are fewer, by their features.

    These are collected in the host's memory, 8 kB for each image. Metrics with the same `inception`
    compute the features of a batch only once.
    """

    repeats = False

    def __init__(self, name: str, count: int, inception: Inception):
        super().__init__(name, reals=count, fakes=count)
        self.inception = inception
        self.kept_as = f"features{count}-{inception.version}"
        self.sides = {"reals": Rows(), "fakes": Rows()}
        self.kept: Tensor | None = None  # features of all reals

    def of(self, count: int) -> Self:
        return type(self)(self.name, count, self.inception)

    def add(self, side: str, images: Tensor, first: int) -> None:
        self.sides[side].add(self.inception(images)[0], first)

    def features(self, side: str, gather: Gather) -> Tensor:
        """The features of all processes in the images' order: float32 [N, 2048]."""
        if side == "reals" and self.kept is not None:
            return self.kept
        return self.sides[side].gathered(gather)

    def keep_reals(self, gather: Gather = alone) -> dict[str, np.ndarray]:
        return {"features": self.features("reals", gather).numpy()}

    def use_reals(self, kept: dict[str, np.ndarray]) -> None:
        self.kept = torch.from_numpy(kept["features"])
