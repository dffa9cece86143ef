"""What each update consumes, a pure function of seed and images shown: reals, labels, latents.

Everything is drawn for the global batch and sliced by rank, so one process and many see the same.
"""

import hashlib
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from progan.data.pyramid import Pyramid
from progan.distributed import random, share
from progan.errors import UserError
from progan.networks import one_hot


class Reals(NamedTuple):
    images: Tensor  # [n, C, r, r] float32 in [-1, 1], on the device
    labels: Tensor | None  # [n] int64, on the device


class Stream:
    """Batches of a pyramid, every image once an epoch in an order of its own.

    Position `nimg` of the stream is the same image, flipped or not, however the stream is cut into
    batches of a schedule, spread over processes, or restarted.

    Args:
        seed: of order and flips.
        mirror: flip half of the images left to right.
        rank, processes: this process reads only its contiguous share of each batch.
    """

    def __init__(
        self,
        pyramid: Pyramid,
        *,
        seed: int,
        mirror: bool = False,
        device: torch.device | str = "cpu",
        rank: int = 0,
        processes: int = 1,
    ):
        self.pyramid = pyramid
        self.seed = seed
        self.mirror = mirror
        self.device = torch.device(device)
        self.rank = rank
        self.processes = processes
        digest = hashlib.sha256(np.ascontiguousarray(pyramid.level(4)))
        if pyramid.labels is not None:
            digest.update(repr(pyramid.classes).encode() + pyramid.labels.tobytes())
        self.identity = digest.hexdigest()
        self._plan_of = (-1, np.empty(0, np.int64), np.empty(0, bool))

    def plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """One epoch: its permutation int64 [count], and which of its places are flipped [count]."""
        if self._plan_of[0] != epoch:
            count = self.pyramid.count
            order = random(self.seed, "order", epoch).permutation(count)
            flips = random(self.seed, "flips", epoch).random(count) < (0.5 if self.mirror else 0)
            self._plan_of = (epoch, order, flips)
        return self._plan_of[1:]

    def at(self, nimg: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Image indices and flips at positions `nimg … nimg + batch_size - 1`."""
        epochs, places = np.divmod(np.arange(nimg, nimg + batch_size), self.pyramid.count)
        parts = []
        for epoch in np.unique(epochs):
            order, flips = self.plan(int(epoch))
            mine = places[epochs == epoch]
            parts.append((order[mine], flips[mine]))
        indices, flips = zip(*parts, strict=True)
        return np.concatenate(indices), np.concatenate(flips)

    def batch(self, nimg: int, batch_size: int, resolution: int) -> Reals:
        """This process's share of the global batch at `nimg`."""
        mine = share(batch_size, self.rank, self.processes)
        indices, flips = (a[mine] for a in self.at(nimg, batch_size))
        # Sorted reads are kinder to a disk; the order is restored while copying.
        ordered = np.argsort(indices)
        level = self.pyramid.level(resolution)
        pixels = np.empty((len(indices), *level.shape[1:]), np.uint8)
        pixels[ordered] = level[indices[ordered]]
        images = torch.from_numpy(pixels).to(self.device).float() / 127.5 - 1
        if self.mirror:
            flipped = torch.from_numpy(flips).to(self.device)[:, None, None, None]
            images = torch.where(flipped, images.flip(3), images)
        labels = self.pyramid.labels
        if labels is not None:
            labels = torch.from_numpy(labels[indices]).to(self.device)
        return Reals(images, labels)

    def examples(self, count: int, labels: list[int] | None, resolution: int) -> np.ndarray:
        """The first images of the data, or those of the classes asked for: uint8 [n, C, r, r].

        As they are, without flips. A class with too few images repeats them.
        """
        level = self.pyramid.level(resolution)
        if labels is None:
            return np.asarray(level[:count])
        seen: dict[int, int] = {}
        chosen = []
        for label in labels:
            of_class = np.flatnonzero(self.pyramid.labels == label)
            chosen.append(of_class[seen.get(label, 0) % len(of_class)])
            seen[label] = seen.get(label, 0) + 1
        return np.asarray(level[np.array(chosen)])

    def state_dict(self) -> dict[str, str]:
        """What identifies the data, wherever it is kept: images at 4x4, classes and labels."""
        return {"data": self.identity}

    def load_state_dict(self, state: dict[str, str]) -> None:
        """Raises UserError if the run was trained on other images."""
        if state != self.state_dict():
            raise UserError(
                f"the data ({self.pyramid.count} images, '{self.pyramid.path.name}') are not those "
                "that this run has been trained on; give the same --data, or another --run-dir"
            )


@dataclass(frozen=True)
class Batch:
    """What one forward pass of an update consumes, on the device."""

    z: Tensor  # [N, z_dim] latents
    c: Tensor | None  # [N, c_dim] one-hot labels, of reals and fakes alike
    reals: Tensor | None = None  # [N, C, r, r] in [-1, 1]; the critic's update only
    mix: Tensor | None = None  # [N] in [0, 1], for the penalty; the critic's update only

    def split(self, size: int) -> "list[Batch]":
        """Batches of `size` images, in order."""
        columns = (getattr(self, field.name) for field in fields(self))
        starts = range(0, len(self.z), size)
        parts = ([None if x is None else x[i : i + size] for i in starts] for x in columns)
        return [Batch(*part) for part in zip(*parts, strict=True)]


class Feed:
    """This process's part of what the updates at `nimg` consume.

    Args:
        seed: of latents, mixing factors and the generator's labels.
        z_dim, c_dim: sizes of a latent and of one-hot labels; `c_dim=0` is unconditional.
    """

    def __init__(self, stream: Stream, *, seed: int, z_dim: int, c_dim: int):
        self.stream = stream
        self.seed = seed
        self.z_dim = z_dim
        self.c_dim = c_dim

    def critic(self, nimg: int, batch_size: int, resolution: int) -> Batch:
        """For the critic's update; fakes have the labels of the reals beside them, as in the
        official code."""
        draw = random(self.seed, "critic", nimg)
        z = self.mine(draw.standard_normal((batch_size, self.z_dim), dtype=np.float32))
        mix = self.mine(draw.random(batch_size, dtype=np.float32))
        images, labels = self.stream.batch(nimg, batch_size, resolution)
        return Batch(z, one_hot(labels, self.c_dim) if self.c_dim else None, images, mix)

    def generator(self, nimg: int, batch_size: int) -> Batch:
        """For the generator's update: new latents, with the labels of random images."""
        draw = random(self.seed, "generator", nimg)
        z = self.mine(draw.standard_normal((batch_size, self.z_dim), dtype=np.float32))
        if not self.c_dim:
            return Batch(z, None)
        pyramid = self.stream.pyramid
        labels = pyramid.labels[draw.integers(pyramid.count, size=batch_size)]
        return Batch(z, one_hot(self.mine(labels), self.c_dim))

    def mine(self, values: np.ndarray) -> Tensor:
        """This process's share of a global draw, on the device."""
        part = share(len(values), self.stream.rank, self.stream.processes)
        return torch.from_numpy(values[part]).to(self.stream.device)
