"""Samples of a snapshot as files, by seed and class."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from progan.model.grid import grid, save_png
from progan.model.sampling import BATCH, generate, grid_layout
from progan.runs.snapshot import Snapshot, label_indices
from progan.runtime.text import for_file_names, joined_for_files, stamp

MOST_COLUMNS = 16


def labels_to_make(
    snapshot: Snapshot, seeds: Sequence[int], class_name: str | None
) -> dict[str, np.ndarray | None]:
    """Labels of all seeds, once for each class, under the ending of their files' names.

    Raises:
        UserError: the snapshot has no labels, or not this one.
    """
    labels = snapshot.labels
    parts = for_file_names(labels.names) if labels else []
    if class_name is None and labels and labels.kind == "classes":
        return {f"-class-{parts[k]}": np.full(len(seeds), k) for k in labels.values}
    rows = snapshot.labels_of(seeds, class_name)
    if class_name is None or labels is None:
        return {"": rows}
    chosen = [parts[k] for k in label_indices(class_name, labels)]
    return {f"-class-{joined_for_files(chosen)}": rows}


def write_samples(
    snapshot: Snapshot,
    seeds: list[int] | None,
    class_name: str | None,
    out: Path,
    as_grid: bool,
    device: torch.device,
) -> Iterator[str]:
    """Write one PNG for each seed (and class), or one grid; yields lines for the user.

    `seeds=None`: those of the grids in training, which the grid then equals.
    """
    known = snapshot.labels
    default_seeds, _, columns = grid_layout(
        snapshot.resolution, None if known is None else known.values
    )
    seeds = seeds or list(dict.fromkeys(default_seeds))
    made_of = labels_to_make(snapshot, seeds, class_name)
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
