"""The latents whose images are nearest to a given one: latents are trained instead of weights."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from progan.data.decode import box_levels
from progan.metrics.evaluate import batch_size
from progan.model.layers import pixel_norm
from progan.model.networks import conditions
from progan.model.sampling import TrainedGenerator, in_batches, latents
from progan.runs.snapshot import Choice, Snapshot
from progan.runtime.errors import UserError
from progan.runtime.numerics import float32_as
from progan.runtime.progress import Say, progress_bar

CANDIDATES = 128  # seeds tried for each start
EACH_CLASS = 4  # of them at least
RATE = 0.3  # Adam's first; it falls to 0 as a cosine

Distance = Callable[[Tensor], Tensor]  # images [N, C, r, r] to their distances [N] from a target


@dataclass(frozen=True)
class Projection:
    """What was found for one target: S latents, the nearest first.

    Args:
        z: float32 [S, z_dim], each of unit mean square.
        labels: int64 [S], or uint8 [S, K] of attributes; None without labels.
        losses: float32 [S], the distances of their images.
        seeds: int64 [S], where each began.
        steps: int64 [S], when each was found.
        way: float32 [T, S, z_dim], the latents of each step, the first ones as they began.
    """

    z: Tensor
    labels: np.ndarray | None
    losses: np.ndarray
    seeds: np.ndarray
    steps: np.ndarray
    way: Tensor

    def first(self, count: int) -> "Projection":
        """The nearest of them."""
        some = slice(count)
        labels = None if self.labels is None else self.labels[some]
        where = self.losses[some], self.seeds[some], self.steps[some]
        return Projection(self.z[some], labels, *where, self.way[:, some])

    def images(self, snapshot: Snapshot) -> np.ndarray:
        """Of the latents found: uint8 [S, C, r, r]."""
        return in_batches(snapshot.G, self.z, self.labels, snapshot.resolution, snapshot.alpha)

    def images_of_way(self, snapshot: Snapshot, steps: Iterable[int]) -> np.ndarray:
        """Of the way to the nearest: uint8 [len(steps), C, r, r]."""
        z = self.way[list(steps), 0]
        labels = None if self.labels is None else self.labels[:1].repeat(len(z), 0)
        return in_batches(snapshot.G, z, labels, snapshot.resolution, snapshot.alpha)


def project(
    snapshot: Snapshot,
    distance: Distance,
    *,
    steps: int = 500,
    starts: int = 4,
    classes: Choice | None = None,
    enough: float | None = None,
    say: Say = None,
) -> Projection:
    """Find latents whose images have a small distance.

    Each start begins at the nearest of many seeds' images, and Adam moves its latent. Without
    labels a latent's length means nothing to the generator, which normalizes it; with labels it is
    normalized together with them. So it always has the length that latents have in training.

    Args:
        distance: one of `distances`, on the generator's device.
        steps: of Adam.
        starts: latents to find, each from seeds of its own.
        classes: a class, or the attributes to switch on; None: a start takes the class of its
            first image, and all classes are among the images tried.
        enough: the first latent of a start with this distance is its result, if there is one. Then
            results differ in what the target leaves open, as in PULSE (Menon et al. 2020, Sec. 3);
            further steps would take them to the same few optima. None: the nearest is.
        say: shows progress; None: silence.

    Raises:
        UserError: there is no such class, or the images are NaN.
    """
    G = snapshot.generator
    device = next(G.parameters()).device
    found = []
    with float32_as("ieee"):  # as images are made
        seeds, labels = nearest_seeds(snapshot, distance, starts, classes, say)
        size = batch_size(snapshot.resolution)
        passes = -(-starts // size)  # of as many starts as memory has room for
        with progress_bar("steps", steps * passes, 0, say, unit="steps") as done:
            for first in range(0, starts, size):
                b = slice(first, first + size)
                z = latents(seeds[b].tolist(), G.z_dim).to(device)
                c = None if labels is None else as_c(labels[b], snapshot, device)
                found.append(descend(G, distance, z, c, steps, done))
    way, losses = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    return chosen(way, losses, seeds, labels, enough)


def chosen(
    way: Tensor,
    losses: Tensor,
    seeds: np.ndarray,
    labels: np.ndarray | None,
    enough: float | None,
) -> Projection:
    """The latent of each start that counts, see `enough` in `project`.

    Args:
        way: [T, S, z_dim], and `losses` [T, S], of each step and start.
    """
    losses = losses.nan_to_num(nan=math.inf)
    when = losses.argmin(dim=0)
    if enough is not None:
        near = losses <= enough
        when = near.int().argmax(dim=0).where(near.any(dim=0), when)
    best = losses.gather(0, when[None])[0]
    order = best.argsort(stable=True)
    when, places = when[order], order.numpy()
    return Projection(
        way[when, order],
        None if labels is None else labels[places],
        best[order].numpy(),
        seeds[places],
        when.numpy(),
        way[:, order],
    )


def as_c(labels: np.ndarray, snapshot: Snapshot, device: torch.device) -> Tensor:
    """The generator's c, float32 [N, c_dim]."""
    return conditions(torch.as_tensor(labels, device=device), snapshot.G.c_dim)


def candidates(snapshot: Snapshot) -> int:
    """How many seeds are tried for each start."""
    kinds = len(snapshot.labels.values) if snapshot.labels else 1
    return max(CANDIDATES, EACH_CLASS * kinds)


@torch.no_grad()
def nearest_seeds(
    snapshot: Snapshot, distance: Distance, starts: int, classes: Choice | None, say: Say
) -> tuple[np.ndarray, np.ndarray | None]:
    """The nearest seed of each start's own, and their labels, as in `Projection`.

    The seeds are those of `progan sample`, from 0 on, so a sample of one of them is found at once.
    """
    G, each = snapshot.generator, candidates(snapshot)
    device = next(G.parameters()).device
    count, size = starts * each, batch_size(snapshot.resolution)
    labels = snapshot.labels_of(range(count), classes)
    losses = []
    with progress_bar("images to begin with", count, 0, say) as done:
        for first in range(0, count, size):
            seeds = range(first, min(first + size, count))
            c = None if labels is None else as_c(labels[seeds.start : seeds.stop], snapshot, device)
            z = pixel_norm(latents(seeds, G.z_dim).to(device))
            losses.append(distance(G(z, c)).cpu())
            done(len(seeds))
    of_starts = torch.cat(losses).reshape(starts, each).nan_to_num(nan=math.inf)
    if of_starts.isinf().any():
        raise UserError(
            f"images of {snapshot.file} are no numbers (NaN): training has diverged, and its "
            "weights are of no use; take an earlier snapshot"
        )
    nearest = (of_starts.argmin(dim=1) + each * torch.arange(starts)).numpy()
    return nearest, None if labels is None else labels[nearest]


def descend(
    G: TrainedGenerator,
    distance: Distance,
    z: Tensor,
    c: Tensor | None,
    steps: int,
    done: Callable[[int], object],
) -> tuple[Tensor, Tensor]:
    """Adam on latents [N, z_dim], each on its own.

    Returns:
        The latents [steps + 1, N, z_dim] and distances [steps + 1, N] on the way, on the host.
    """
    z = pixel_norm(z).requires_grad_()
    adam = torch.optim.Adam([z])
    way, losses = [], []
    for step in range(steps + 1):
        loss = distance(G(z, c))
        way.append(z.detach().cpu().clone())
        losses.append(loss.detach().cpu())
        if step == steps:
            break
        (z.grad,) = torch.autograd.grad(loss.sum(), z)
        adam.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
        adam.step()
        with torch.no_grad():
            z.copy_(pixel_norm(z))
        done(1)
    return torch.stack(way), torch.stack(losses)


def psnr(images: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of each image, inf if equal: float64 [N].

    Args:
        images: uint8 [N, C, r, r].
        target: uint8 [C, s, s]; if it is smaller, so are box averages of the images.
    """
    side = target.shape[-1]
    reduced = box_levels(images, side)[side].astype(float)
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255**2 / np.square(reduced - target).mean(axis=(1, 2, 3)))
