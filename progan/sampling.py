"""Seeds to latents to images to grids."""

import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from progan.checkpoint import Snapshot, stamp, write_atomically
from progan.distributed import random
from progan.errors import UserError, nearest
from progan.networks import Generator, one_hot

SMALLEST_CELL = 64  # grids show smaller images enlarged, pixel by pixel, so that one can see them
WIDEST_GRID = 2048  # pixels


def parse_seeds(text: str) -> list[int]:
    """`"0-3,17"` -> [0, 1, 2, 3, 17]."""
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            seeds.extend(range(int(first), int(last if dash else first) + 1))
    except ValueError:
        seeds = []
    if not seeds:
        raise UserError(f"seeds are numbers and ranges like 0-63 or 1,5,8-11; got '{text}'")
    return seeds


def latents(seeds: Sequence[int], z_dim: int) -> Tensor:
    """One latent a seed, the same in any company and on any machine: [N, z_dim]."""
    rows = [random(seed, "samples").standard_normal(z_dim, dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


@torch.no_grad()
def generate(
    G: Generator,
    seeds: Sequence[int],
    labels: Sequence[int] | None,
    resolution: int,
    alpha: float | None,
    batch_size: int = 16,
) -> np.ndarray:
    """Images of seeds (and class indices): uint8 [N, C, r, r]."""
    device = next(G.parameters()).device
    alpha = None if alpha is None else torch.tensor(alpha, device=device)
    images = []
    for start in range(0, len(seeds), batch_size):
        part = slice(start, start + batch_size)
        z = latents(seeds[part], G.z_dim).to(device)
        c = one_hot(torch.tensor(labels[part], device=device), G.c_dim) if labels else None
        images.append(to_uint8(G(z, c, resolution=resolution, alpha=alpha)))
    return np.concatenate(images)


def to_uint8(images: Tensor) -> np.ndarray:
    """[-1, 1] -> 0 … 255, the inverse of how reals are read."""
    return images.float().mul(127.5).add(127.5).round().clamp(0, 255).byte().cpu().numpy()


def grid_layout(resolution: int, c_dim: int) -> tuple[list[int], list[int] | None, int]:
    """Seeds, labels and columns of the grid that training shows: 8 x 8, fewer of large images.

    With classes, a row a class, the same seeds in every row.
    """
    columns = min(8, max(2, WIDEST_GRID // max(resolution, SMALLEST_CELL)))
    if c_dim:
        return (
            list(range(columns)) * c_dim,
            [k for k in range(c_dim) for _ in range(columns)],
            columns,
        )
    return list(range(columns * columns)), None, columns


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """uint8 [N, C, r, r] -> one image [C, rows * cell, columns * cell] with cells of 64 or more."""
    n, c, r, _ = images.shape
    zoom = max(1, SMALLEST_CELL // r)
    rows = -(-n // columns)
    canvas = np.zeros((rows * columns, c, r, r), np.uint8)
    canvas[:n] = images
    canvas = canvas.reshape(rows, columns, c, r, r).transpose(2, 0, 3, 1, 4)
    canvas = canvas.reshape(c, rows * r, columns * r)
    return canvas.repeat(zoom, axis=1).repeat(zoom, axis=2)


def save_png(image: np.ndarray, path: Path) -> None:
    """uint8 [C, H, W] with 1 or 3 channels, written whole or not at all."""
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG")
    write_atomically(path, lambda temporary: temporary.write_bytes(data.getvalue()))


def class_index(name: str, classes: Sequence[str]) -> int:
    """The class of a name or number.

    Raises:
        UserError: the snapshot has no classes, or not this one.
    """
    if not classes:
        raise UserError("--class: this snapshot was trained without labels (data.labels)")
    if name in classes:
        return list(classes).index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    listing = ", ".join(f"{i} {known}" for i, known in enumerate(classes))
    raise UserError(f"--class '{name}' is unknown{nearest(name, classes)}; classes: {listing}")


def write_samples(
    snapshot: Snapshot, seeds: list[int], class_name: str | None, out: Path, as_grid: bool
) -> Iterator[str]:
    """One PNG a seed (and class), or one grid; yields a line for the user a file or folder."""
    chosen = range(len(snapshot.classes))
    if class_name is not None:
        chosen = [class_index(class_name, snapshot.classes)]
    labels = [k for k in chosen for _ in seeds] or None
    every_seed = seeds * max(1, len(chosen))
    make = partial(generate, snapshot.G, resolution=snapshot.resolution, alpha=snapshot.alpha)
    if as_grid:
        one_row = len(seeds) if len(chosen) > 1 and len(seeds) <= 16 else 8
        columns = min(len(seeds), one_row)
        path = out / f"grid-{stamp(snapshot.nimg)}.png"
        save_png(grid(make(every_seed, labels), columns), path)
        yield f"{len(every_seed)} images of {snapshot.resolution}x{snapshot.resolution} in {path}"
        return
    for i, seed in enumerate(every_seed):
        part = labels and labels[i : i + 1]
        suffix = f"-class{part[0]:03d}" if part else ""
        save_png(make([seed], part)[0], out / f"seed{seed:04d}{suffix}.png")
    yield f"{len(every_seed)} images of {snapshot.resolution}x{snapshot.resolution} in {out}"
