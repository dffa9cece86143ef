"""From seeds to latents to images; the layout of training's grids."""

import logging
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from progan.model.grid import SMALLEST_CELL
from progan.model.networks import Generator, conditions, quantized
from progan.runtime.errors import UserError
from progan.runtime.numerics import float32_as
from progan.runtime.randomness import make_rng

log = logging.getLogger("progan")

WIDEST_GRID = 2048  # pixels
MOST_ROWS = 32  # classes in a grid; of more, the first
BATCH = 16  # images at a time


class TrainedGenerator(nn.Module):
    """A generator at the resolution and alpha that it has reached: takes z, and c with labels.

    Args:
        alpha: weight of the newest block while it fades in, else `None`.
    """

    alpha: Tensor | None

    def __init__(self, G: Generator, resolution: int, alpha: float | None):
        super().__init__()
        self.G = G
        self.resolution = resolution
        self.z_dim = G.z_dim
        self.c_dim = G.c_dim
        self.register_buffer("alpha", None if alpha is None else torch.tensor(alpha))

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """[N, z_dim], labels [N, c_dim] -> [N, channels, resolution, resolution], about [-1, 1].

        Raises:
            UserError: z or c has another shape, or c is missing or not wanted.
        """
        widths = [tuple(x.shape[1:]) for x in (z, c) if x is not None]
        if widths != [(dim,) for dim in (self.z_dim, self.c_dim) if dim]:
            labels = f" and c [N, {self.c_dim}]" if self.c_dim else ""
            given = " and ".join(str(tuple(x.shape)) for x in (z, c) if x is not None)
            raise UserError(f"this generator takes z [N, {self.z_dim}]{labels}; got {given}")
        return self.G(z, c, resolution=self.resolution, alpha=self.alpha)


def latents(seeds: Sequence[int], z_dim: int, position: int = 0) -> Tensor:
    """One latent for each seed, the same on any machine: [N, z_dim].

    position: 0 for the seed's own; others give further latents of the same seed.
    """
    draws = [make_rng(seed, "samples", position) for seed in seeds]
    rows = [draw.standard_normal(z_dim, dtype=np.float32) for draw in draws]
    return torch.from_numpy(np.stack(rows))


@torch.no_grad()
def images_of(
    G: Generator, z: Tensor, labels: np.ndarray | None, resolution: int, alpha: float | None
) -> Tensor:
    """Images of latents [N, z_dim] (and labels, int64 [N] or uint8 [N, K]), in one pass.

    Returns:
        uint8 [N, C, r, r] on the generator's device.
    """
    device = next(G.parameters()).device
    c = None if labels is None else conditions(torch.as_tensor(labels, device=device), G.c_dim)
    weight = None if alpha is None else torch.tensor(alpha, device=device)
    with float32_as("ieee"):  # whatever precision training has, so that images are always the same
        images = G(z.to(device), c, resolution=resolution, alpha=weight)
    if has_nan(images):
        warn_of_nan()
    return quantized(images)


def has_nan(images: Tensor) -> bool:
    """Waits for the device, as the copy of the images to the host does next."""
    return bool(images.isnan().any())


@cache  # once is enough
def warn_of_nan() -> None:
    log.warning(
        "images that the generator makes hold NaN, which is shown as black: training has diverged "
        "and its weights are of no use; take an earlier snapshot"
    )


def slerp(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Points from latent `a` to latent `b`, both included, along the sphere: [steps, z_dim]."""
    return slerp_at(a, b, torch.linspace(0, 1, steps, dtype=torch.float64))


def slerp_at(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """The points at t, float64 [N] from 0 to 1, on the way from `a` to `b`: [N, z_dim]."""
    ends = torch.stack([a, b]).double()
    unit = ends / ends.norm(dim=1, keepdim=True)
    angle = (unit[0] @ unit[1]).clamp(-1, 1).arccos()
    t = t[:, None]
    # The same latent twice has no angle: then the weights are 1 - t and t.
    first, last = ((x * angle).sin() / angle.sin() if angle > 1e-6 else x for x in (1 - t, t))
    return (first * ends[0] + last * ends[1]).to(a.dtype)


def generate(
    G: Generator,
    seeds: Sequence[int],
    labels: np.ndarray | None,
    resolution: int,
    alpha: float | None,
) -> np.ndarray:
    """Images of seeds (and labels, int64 [N] or uint8 [N, K]): uint8 [N, C, r, r].

    A seed's image does not depend on the others: not at all on a CPU, to a grey level on a GPU.
    """
    return in_batches(G, latents(seeds, G.z_dim), labels, resolution, alpha)


def in_batches(
    G: Generator,
    z: Tensor,
    labels: np.ndarray | None,
    resolution: int,
    alpha: float | None,
    batch: int = BATCH,
) -> np.ndarray:
    """`generate` from latents [N, z_dim], at most `batch` in a pass; on a CPU one by one."""
    # Batches of one size; on a CPU one image, as its kernels round differently in other batches.
    size = 1 if next(G.parameters()).device.type == "cpu" else batch
    images = []
    for start in range(0, len(z), size):
        part = slice(start, start + size)
        some = None if labels is None else labels[part]
        images.append(images_of(G, z[part], some, resolution, alpha).cpu().numpy())
    return np.concatenate(images)


def example_rows(seeds: Sequence[int], examples: np.ndarray) -> np.ndarray:
    """Labels for seeds: a seed always has those of the same example."""
    return examples[[seed % len(examples) for seed in seeds]]


def grid_layout(
    resolution: int, examples: np.ndarray | None
) -> tuple[list[int], np.ndarray | None, int]:
    """Seeds, labels and columns of the grid that training shows: 8 x 8, fewer of large images.

    examples: labels to show. With classes, int64 [K], a row a class, the same seeds in every row;
    with attributes, uint8 [n, K], those of the examples in turn.
    """
    columns = min(8, max(2, WIDEST_GRID // max(resolution, SMALLEST_CELL)))
    if examples is not None and examples.ndim == 1:
        examples = examples[:MOST_ROWS]
        return list(range(columns)) * len(examples), examples.repeat(columns), columns
    seeds = list(range(columns * columns))
    return seeds, None if examples is None else example_rows(seeds, examples), columns
