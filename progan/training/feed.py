"""What each update consumes, a pure function of seed and images shown: reals, labels, latents.

Everything is drawn for the global batch and sliced by rank, so one process and many see the same.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from progan.data.ahead import Ahead
from progan.data.stream import Stream
from progan.model.networks import conditions
from progan.runtime.device import pinned, upload
from progan.runtime.distributed import share
from progan.runtime.randomness import make_rng
from progan.training.augment import DRAWS


@dataclass(frozen=True)
class Batch:
    """What one forward pass of an update consumes, on the device."""

    z: Tensor  # [N, z_dim] latents
    c: Tensor | None  # [N, c_dim] labels, of reals and fakes alike
    reals: Tensor | None = None  # [N, C, r, r] in [-1, 1]; the critic's update only
    # [N] in [0, 1], for the penalty; the critic's update only. It requires a gradient, so that
    # the images made with it do: inside a compiled graph nothing can begin to (torch 2.11).
    mix: Tensor | None = None
    real_draws: Tensor | None = None  # [N, DRAWS] in [0, 1), if they are augmented
    fake_draws: Tensor | None = None  # [N, DRAWS] in [0, 1), if they are augmented

    def of_fakes(self) -> "Batch":
        """The part that a generator's update consumes."""
        return Batch(self.z, self.c, fake_draws=self.fake_draws)

    def on(self, device: torch.device) -> "Batch":
        """What has been pinned, on the device; nothing is waited for."""
        columns = (getattr(self, field.name) for field in fields(self))
        return Batch(*(None if x is None else upload(x, device) for x in columns))

    def split(self, size: int) -> "list[Batch]":
        """Batches of `size` images, in order."""
        columns = (getattr(self, field.name) for field in fields(self))
        starts = range(0, len(self.z), size)
        parts = ([None if x is None else part(x, i, size) for i in starts] for x in columns)
        return [Batch(*part) for part in zip(*parts, strict=True)]


def part(x: Tensor, start: int, size: int) -> Tensor:
    """A slice that requires a gradient of its own if `x` does, as compiled functions need it."""
    return x[start : start + size].detach().requires_grad_(x.requires_grad)


def noise(
    n: int, r: int, channels: int, z_dim: int, c_dim: int, augmented: bool, device: torch.device
) -> Batch:
    """What a critic's update could consume, to try and measure one with: n images of r x r."""
    draws = torch.rand(2, n, DRAWS, device=device) if augmented else (None, None)
    return Batch(
        z=torch.randn(n, z_dim, device=device),
        c=torch.full((n, c_dim), 1 / c_dim, device=device) if c_dim else None,
        reals=torch.randn(n, channels, r, r, device=device),
        mix=torch.rand(n, device=device, requires_grad=True),
        real_draws=draws[0],
        fake_draws=draws[1],
    )


class Feed:
    """This process's part of what the updates at `nimg` consume.

    All that is drawn is drawn ahead, as batches are read ahead.

    Args:
        seed: of latents, mixing factors and the generator's labels.
        z_dim, c_dim: sizes of a latent and of its labels; `c_dim=0` is unconditional.
        augmented: draw what `progan.training.augment` needs.
    """

    def __init__(
        self, stream: Stream, *, seed: int, z_dim: int, c_dim: int, augmented: bool = False
    ):
        self.stream = stream
        self.seed = seed
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.augmented = augmented
        self._for_critic = Ahead(self.draw_for_critic, stream.threads)
        self._for_generator = Ahead(self.draw_for_generator, stream.threads)

    def critic_batch(self, nimg: int, batch_size: int, resolution: int) -> Batch:
        """For the critic's update; fakes have the labels of the reals beside them, as in the
        official code."""
        drawn = self._for_critic.take(nimg, batch_size).on(self.stream.device)
        images, labels = self.stream.batch(nimg, batch_size, resolution)
        c = conditions(labels, self.c_dim) if self.c_dim else None
        return replace(drawn, c=c, reals=images, mix=drawn.mix.requires_grad_())

    def generator_batch(self, nimg: int, batch_size: int) -> Batch:
        """For the generator's update: new latents, with the labels of random images.

        Whole rows of attributes, so that combinations have the shares they have in the data.
        """
        return self._for_generator.take(nimg, batch_size).on(self.stream.device)

    def draw_for_critic(self, nimg: int, batch_size: int) -> Batch:
        """What `critic_batch` draws, pinned in the host's memory."""
        draw = make_rng(self.seed, "critic", nimg)
        z = self.mine(draw.standard_normal((batch_size, self.z_dim), dtype=np.float32))
        mix = self.mine(draw.random(batch_size, dtype=np.float32))
        return Batch(z, None, None, mix, *self.augmentation(2 * nimg, batch_size, sets=2))

    def draw_for_generator(self, nimg: int, batch_size: int) -> Batch:
        """What `generator_batch` consumes, pinned in the host's memory."""
        draw = make_rng(self.seed, "generator", nimg)
        z = self.mine(draw.standard_normal((batch_size, self.z_dim), dtype=np.float32))
        (fake_draws,) = self.augmentation(2 * nimg + 1, batch_size, sets=1)
        if not self.c_dim:
            return Batch(z, None, fake_draws=fake_draws)
        data = self.stream.data
        labels = torch.from_numpy(data.labels.values[draw.integers(data.count, size=batch_size)])
        c = self.mine(conditions(labels, self.c_dim))
        return Batch(z, c, fake_draws=fake_draws)

    def augmentation(self, position: int, batch_size: int, sets: int) -> list[Tensor | None]:
        """Draws for `sets` times a batch of images, if they are augmented.

        Even positions are those of the critic's updates, odd ones of the generator's.
        """
        if not self.augmented:
            return [None] * sets
        draw = make_rng(self.seed, "augment", position)
        return [self.mine(draw.random((batch_size, DRAWS), np.float32)) for _ in range(sets)]

    def mine(self, values: np.ndarray | Tensor) -> Tensor:
        """This process's share of a global draw, pinned."""
        part = share(len(values), self.stream.rank, self.stream.processes)
        return pinned(values[part], self.stream.device)
