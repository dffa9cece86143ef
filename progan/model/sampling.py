"""Seeds to latents to images to grids."""

import io
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from progan.model.networks import Generator, conditions, quantized
from progan.runs.snapshot import Snapshot
from progan.runtime.disk import write_atomically
from progan.runtime.distributed import random
from progan.runtime.errors import UserError, nearest
from progan.runtime.numerics import float32_as
from progan.runtime.text import stamp

SMALLEST_CELL = 64  # grids show smaller images enlarged, pixel by pixel, so that one can see them
WIDEST_GRID = 2048  # pixels
MOST_COLUMNS = 16
MOST_ROWS = 32  # of the first classes, where there are more
BATCH = 16  # images at a time
MOST_SEEDS = 1_000_000

Labels = Sequence[int] | np.ndarray  # class indices [N], or of attributes uint8 [N, K]


def parse_seeds(text: str) -> list[int]:
    """`"0-3,17"` -> [0, 1, 2, 3, 17]."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,15})(?:-(\d{1,15}))?", part.strip())
        first, last = match.groups() if match else ("1", "0")
        part_seeds = range(int(first), int(last or first) + 1)
        if not part_seeds:
            raise UserError(f"seeds are numbers and ranges like 0-63 or 1,5,8-11; got '{text}'")
        if len(seeds) + len(part_seeds) > MOST_SEEDS:
            raise UserError(f"--seeds {text} are more than {MOST_SEEDS:,}; ask for fewer at a time")
        seeds.extend(part_seeds)
    return seeds


def latents(seeds: Sequence[int], z_dim: int) -> Tensor:
    """One latent a seed, the same in any company and on any machine: [N, z_dim]."""
    rows = [random(seed, "samples").standard_normal(z_dim, dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


@torch.no_grad()
def generate(
    G: Generator,
    seeds: Sequence[int],
    labels: Labels | None,
    resolution: int,
    alpha: float | None,
) -> np.ndarray:
    """Images of seeds (and labels): uint8 [N, C, r, r].

    A seed's image does not depend on the others: not at all on a CPU, to a grey level on a GPU.
    """
    device = next(G.parameters()).device
    alpha = None if alpha is None else torch.tensor(alpha, device=device)
    # Batches of one size; on the CPU of one, since its kernels round otherwise in other company.
    batch_size = 1 if device.type == "cpu" else BATCH
    images = []
    with float32_as("ieee"):  # whatever training rounds, a seed's image is one
        for start in range(0, len(seeds), batch_size):
            part = slice(start, start + batch_size)
            z = latents(seeds[part], G.z_dim).to(device)
            c = None
            if labels is not None:
                c = conditions(torch.as_tensor(labels[part], device=device), G.c_dim)
            images.append(quantized(G(z, c, resolution=resolution, alpha=alpha)).cpu().numpy())
    return np.concatenate(images)


def example_rows(seeds: Sequence[int], examples: np.ndarray) -> np.ndarray:
    """Attributes for seeds: each seed always has the same example's, in any company."""
    return examples[np.array(seeds) % len(examples)]


def grid_layout(
    resolution: int, c_dim: int, examples: np.ndarray | None = None
) -> tuple[list[int], Labels | None, int]:
    """Seeds, labels and columns of the grid that training shows: 8 x 8, fewer of large images.

    With classes, a row a class, the same seeds in every row; with attributes, those of `examples`.
    """
    columns = min(8, max(2, WIDEST_GRID // max(resolution, SMALLEST_CELL)))
    if c_dim and examples is None:
        c_dim = min(c_dim, MOST_ROWS)
        return (
            list(range(columns)) * c_dim,
            [k for k in range(c_dim) for _ in range(columns)],
            columns,
        )
    seeds = list(range(columns * columns))
    return seeds, None if examples is None else example_rows(seeds, examples), columns


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


def label_index(name: str, snapshot: Snapshot) -> int:
    """The class or attribute of a name or number.

    Raises:
        UserError: the snapshot has no labels, or not this one.
    """
    names = snapshot.classes
    if not names:
        raise UserError("--class: this snapshot was trained without labels (data.labels)")
    if name in names:
        return names.index(name)
    if re.fullmatch(r"\d{1,9}", name) and int(name) < len(names):
        return int(name)
    kind = "classes" if snapshot.examples is None else "attributes"
    listing = ", ".join(f"{i} {known}" for i, known in enumerate(names))
    raise UserError(f"--class '{name}' is unknown{nearest(name, names)}; {kind}: {listing}")


def labels_to_make(
    snapshot: Snapshot, seeds: Sequence[int], class_name: str | None
) -> dict[str, Labels | None]:
    """Labels of all seeds, once for each class, under the ending of their files' names."""
    if snapshot.examples is None:
        named = class_name is not None
        classes = [label_index(class_name, snapshot)] if named else range(len(snapshot.classes))
        return {f"-class{k:03d}": [k] * len(seeds) for k in classes} or {"": None}
    if class_name is None:
        return {"": example_rows(seeds, snapshot.examples)}
    present = sorted({label_index(name.strip(), snapshot) for name in class_name.split(",")})
    row = np.zeros(len(snapshot.classes), np.uint8)
    row[present] = 1
    return {"-class" + "-".join(f"{k:03d}" for k in present): np.tile(row, (len(seeds), 1))}


def write_samples(
    snapshot: Snapshot,
    seeds: list[int] | None,
    class_name: str | None,
    out: Path,
    as_grid: bool,
    device: torch.device,
) -> Iterator[str]:
    """One PNG a seed (and class), or one grid; yields what to tell the user.

    `seeds=None`: those of training's grid, which the grid then equals.
    """
    default_seeds, _, columns = grid_layout(
        snapshot.resolution, len(snapshot.classes), snapshot.examples
    )
    seeds = seeds or list(dict.fromkeys(default_seeds))
    made_of = labels_to_make(snapshot, seeds, class_name)
    if len(made_of) > 1 and len(seeds) <= MOST_COLUMNS:
        columns = len(seeds)  # a row a class
    labels = np.concatenate(list(made_of.values())) if snapshot.classes else None
    names = [f"seed{seed:04d}{ending}" for ending in made_of for seed in seeds]
    seeds = seeds * len(made_of)

    G = snapshot.G.to(device)
    starts = range(0, len(seeds), BATCH)
    batches = (slice(i, i + BATCH) for i in tqdm(starts, unit="batch", disable=None, leave=False))
    made = (
        generate(
            G, seeds[b], None if labels is None else labels[b], snapshot.resolution, snapshot.alpha
        )
        for b in batches
    )
    size = f"{snapshot.resolution}x{snapshot.resolution}"
    if as_grid:
        path = out / f"grid-{stamp(snapshot.nimg)}.png"
        save_png(grid(np.concatenate(list(made)), min(columns, len(seeds))), path)
        yield f"{len(seeds)} images of {size} in {path}"
        return
    for name, image in zip(names, chain.from_iterable(made), strict=True):
        save_png(image, out / f"{name}.png")
    yield f"{len(seeds)} images of {size} in {out}"
