"""What each update consumes, a pure function of seed and images shown: reals, labels, latents.

All draws are made for the global batch and sliced by rank: one process and many see the same.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from progan.data.ahead import Ahead
from progan.data.stream import Reals, Stream
from progan.model.networks import Generator, conditions
from progan.runtime.device import pinned, upload
from progan.runtime.distributed import share
from progan.runtime.randomness import make_rng
from progan.training.augment import DRAWS


@dataclass(frozen=True)
class Latents:
    """What the generator's update consumes, on the device."""

    z: Tensor  # [N, z_dim]
    c: Tensor | None = None  # [N, c_dim] labels, of the reals too if there are any
    fake_draws: Tensor | None = None  # [N, DRAWS] in [0, 1), if images are augmented
    reals: Tensor | None = None  # [N, C, r, r] in [-1, 1], if the loss is relativistic
    real_draws: Tensor | None = None  # as fake_draws, with reals only


@dataclass(frozen=True)
class Batch:
    """What the critic's update consumes, on the device."""

    z: Tensor  # [N, z_dim] latents
    c: Tensor | None  # [N, c_dim] labels, of reals and fakes alike
    reals: Tensor  # [N, C, r, r] in [-1, 1]
    # [N] in [0, 1], for the penalty. It requires a gradient, so that the images made with it do:
    # inside a compiled graph nothing can begin to (torch 2.11).
    mix: Tensor
    real_draws: Tensor | None = None  # [N, DRAWS] in [0, 1), if images are augmented
    fake_draws: Tensor | None = None  # likewise

    def for_generator(self, relativistic: bool = False) -> Latents:
        """What a generator's update consumes."""
        latents = Latents(self.z, self.c, self.fake_draws)
        if not relativistic:
            return latents
        return replace(latents, reals=self.reals, real_draws=self.real_draws)


Consumed = TypeVar("Consumed", Latents, Batch)


def split(whole: Consumed, size: int) -> list[Consumed]:
    """Parts of `size` images, in order."""
    columns = {name: x for name, x in vars(whole).items() if x is not None}
    return [
        replace(whole, **{name: part(x, start, size) for name, x in columns.items()})
        for start in range(0, len(whole.z), size)
    ]


def part(x: Tensor, start: int, size: int) -> Tensor:
    """A slice that requires a gradient of its own if `x` does, as compiled functions need it."""
    return x[start : start + size].detach().requires_grad_(x.requires_grad)


def noise(G: Generator, n: int, r: int, augmented: bool) -> Batch:
    """A batch of n images of r x r on the generator's device, to try or measure updates with."""
    device = next(G.parameters()).device
    draws = torch.rand(2, n, DRAWS, device=device) if augmented else (None, None)
    return Batch(
        z=torch.randn(n, G.z_dim, device=device),
        c=torch.full((n, G.c_dim), 1 / G.c_dim, device=device) if G.c_dim else None,
        reals=torch.randn(n, G.channels, r, r, device=device),
        mix=torch.rand(n, device=device, requires_grad=True),
        real_draws=draws[0],
        fake_draws=draws[1],
    )


class Feed:
    """This process's part of what the updates at `nimg` consume.

    Random numbers are drawn ahead, as images are read ahead.

    Args:
        seed: of latents, mixing factors and the generator's labels.
        z_dim, c_dim: sizes of a latent and of its labels; `c_dim=0` is unconditional.
        augmented: whether to draw what `progan.training.augment` needs.
        relativistic: whether the generator's updates see reals.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        seed: int,
        z_dim: int,
        c_dim: int,
        augmented: bool = False,
        relativistic: bool = False,
    ):
        self.stream = stream
        self.seed = seed
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.augmented = augmented
        self.relativistic = relativistic
        self._shown: tuple[tuple[int, ...], Reals] | None = None  # the critic's, and their place
        self._for_critic = Ahead(self.draw_for_critic, stream.threads)
        self._for_generator = Ahead(self.draw_for_generator, stream.threads)

    def critic_batch(self, nimg: int, batch_size: int, resolution: int) -> Batch:
        """For the critic's update. Fakes have the labels of the batch's reals, as in the official
        code."""
        drawn = self.on_device(self._for_critic.take(nimg, batch_size))
        drawn["mix"].requires_grad_()
        reals = self.stream.batch(nimg, batch_size, resolution)
        if self.relativistic:
            self._shown = (nimg, batch_size, resolution), reals
        return Batch(c=self.conditions(reals), reals=reals.images, **drawn)

    def generator_batch(
        self, nimg: int, batch_size: int, resolution: int, critic_updates: int = 1
    ) -> Latents:
        """For the generator's update: new latents, with the labels of random images.

        Whole rows of attributes, so that combinations have the shares they have in the data.
        A relativistic loss gets the reals of the critic's update at `nimg`, too, and their labels.

        Args:
            critic_updates: so many batches lie between those of the generator.
        """
        stride = critic_updates * batch_size
        drawn = self.on_device(self._for_generator.take(nimg, batch_size, stride=stride))
        if not self.relativistic:
            return Latents(**drawn)
        place = nimg, batch_size, resolution
        if self._shown is None or self._shown[0] != place:
            self._shown = place, self.stream.batch(*place)
        _, reals = self._shown
        return Latents(c=self.conditions(reals), reals=reals.images, **drawn)

    def conditions(self, reals: Reals) -> Tensor | None:
        """Their labels, as networks take them."""
        if not self.c_dim or reals.labels is None:
            return None
        return conditions(reals.labels, self.c_dim)

    def draw_for_critic(self, nimg: int, batch_size: int) -> dict[str, Tensor]:
        """What `critic_batch` draws, pinned in the host's memory."""
        draw = make_rng(self.seed, "critic", nimg)
        z = self.mine(draw.standard_normal((batch_size, self.z_dim), dtype=np.float32))
        mix = self.mine(draw.random(batch_size, dtype=np.float32))
        more = self.augmentation(2 * nimg, batch_size, "real_draws", "fake_draws")
        return {"z": z, "mix": mix, **more}

    def draw_for_generator(self, nimg: int, batch_size: int) -> dict[str, Tensor]:
        """What `generator_batch` consumes, pinned in the host's memory."""
        draw = make_rng(self.seed, "generator", nimg)
        drawn = {"z": self.mine(draw.standard_normal((batch_size, self.z_dim), dtype=np.float32))}
        labels = self.stream.data.labels
        if self.c_dim and labels is not None and not self.relativistic:
            chosen = draw.integers(self.stream.data.count, size=batch_size)
            drawn["c"] = self.mine(conditions(torch.from_numpy(labels.values[chosen]), self.c_dim))
        names = ("fake_draws", "real_draws") if self.relativistic else ("fake_draws",)
        return drawn | self.augmentation(2 * nimg + 1, batch_size, *names)

    def augmentation(self, position: int, batch_size: int, *names: str) -> dict[str, Tensor]:
        """Draws for a batch of images by each name; none if images are not augmented.

        Even positions are those of the critic's updates, odd ones of the generator's.
        """
        if not self.augmented:
            return {}
        draw = make_rng(self.seed, "augment", position)
        changes = [draw.random((batch_size, DRAWS - 1), np.float32) for _ in names]
        # Whether there are any is drawn last, so that its share changes nothing else.
        drawn = [np.hstack([each, draw.random((batch_size, 1), np.float32)]) for each in changes]
        return {name: self.mine(each) for name, each in zip(names, drawn, strict=True)}

    def on_device(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """What has been pinned, on the device; nothing is waited for."""
        return {name: upload(x, self.stream.device) for name, x in drawn.items()}

    def mine(self, values: np.ndarray | Tensor) -> Tensor:
        """This process's share of a global draw, pinned."""
        part = share(len(values), self.stream.rank, self.stream.processes)
        return pinned(values[part], self.stream.device)
