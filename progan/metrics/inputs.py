"""The two sides of a metric: fakes by number, and reals in the order of a shuffled epoch."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from progan.data.dataset import Dataset
from progan.data.epoch_order import EpochOrder
from progan.model.networks import Generator
from progan.model.sampling import images_of
from progan.runtime.randomness import make_rng


@dataclass(frozen=True)
class Fakes:
    """Endlessly many images of a generator; each number has its own latent and label.

    Args:
        data: labels are drawn from its images'.
        resolution, alpha: how far training is.
        full: the resolution to compare at; smaller images are enlarged pixel by pixel, as in the
            official code.
    """

    G: Generator
    data: Dataset
    resolution: int
    alpha: float | None
    full: int

    def batch(self, first: int, count: int) -> Tensor:
        """uint8 [count, C, full, full], on the generator's device."""
        draws = [make_rng(0, "metrics", first + i) for i in range(count)]
        z = np.stack([draw.standard_normal(self.G.z_dim, dtype=np.float32) for draw in draws])
        labels = None
        if self.G.c_dim and self.data.labels:
            labels = self.data.labels.values[[draw.integers(self.data.count) for draw in draws]]
        images = images_of(self.G, torch.from_numpy(z), labels, self.resolution, self.alpha)
        zoom = self.full // self.resolution
        return images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3) if zoom > 1 else images


@dataclass(frozen=True)
class Reals:
    """Images of a data set at one resolution, each once before any comes again.

    Their order depends on nothing else, so all runs on the same data are compared with the same.

    Args:
        mirror: flip images as training does.
        start: number of images that are skipped.
    """

    data: Dataset
    resolution: int
    mirror: bool
    device: torch.device
    start: int = 0

    def batch(self, first: int, count: int) -> Tensor:
        """uint8 [count, C, r, r], on the device."""
        order = EpochOrder(self.data.count, seed=0, mirror=self.mirror)
        indices, flips = order.at(self.start + first, count)
        images = self.data.read(indices, self.resolution)
        images[flips] = images[flips][..., ::-1]
        return torch.from_numpy(images).to(self.device)

    def after(self, count: int) -> "Reals":
        """The reals that follow the first `count`."""
        return replace(self, start=self.start + count)
