"""Samples of a snapshot as files, by seed and class."""

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from progan.data.labels import Labels
from progan.model.grid import grid, save_png
from progan.model.sampling import BATCH, example_rows, generate, grid_layout
from progan.runs.snapshot import Snapshot
from progan.runtime.errors import UserError, nearest
from progan.runtime.text import stamp

MOST_COLUMNS = 16


def label_index(name: str, labels: Labels) -> int:
    """The class or attribute of a name or number.

    Raises:
        UserError: there is none.
    """
    names = labels.names
    if name in names:
        return names.index(name)
    if re.fullmatch(r"\d{1,9}", name) and int(name) < len(names):
        return int(name)
    listing = ", ".join(f"{i} {known}" for i, known in enumerate(names))
    raise UserError(f"--class '{name}' is unknown{nearest(name, names)}; {labels.kind}: {listing}")


def labels_to_make(
    labels: Labels | None, seeds: Sequence[int], class_name: str | None
) -> dict[str, np.ndarray | None]:
    """Labels of all seeds, once for each class, under the ending of their files' names.

    Raises:
        UserError: the snapshot has no labels, or not this one.
    """
    if labels is None:
        if class_name is not None:
            raise UserError("--class: this snapshot was trained without labels (data.labels)")
        return {"": None}
    if labels.kind == "classes":
        classes = labels.values if class_name is None else [label_index(class_name, labels)]
        return {f"-class{k:03d}": np.full(len(seeds), k) for k in classes}
    if class_name is None:
        return {"": example_rows(seeds, labels.values)}
    present = sorted({label_index(name.strip(), labels) for name in class_name.split(",")})
    row = np.zeros(len(labels.names), np.uint8)
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
    known = snapshot.labels
    default_seeds, _, columns = grid_layout(snapshot.resolution, known and known.values)
    seeds = seeds or list(dict.fromkeys(default_seeds))
    made_of = labels_to_make(known, seeds, class_name)
    if len(made_of) > 1 and len(seeds) <= MOST_COLUMNS:
        columns = len(seeds)  # a row a class
    rows = [row for row in made_of.values() if row is not None]
    labels = np.concatenate(rows) if rows else None
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
