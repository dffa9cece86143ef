"""Samples of a snapshot as one picture, with seeds and names of classes beside them."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from progan.model.grid import cell_of, save_picture
from progan.runs.sample_files import FEW, is_picture
from progan.runs.samples import LARGEST_SIDE, Samples
from progan.runtime.disk import replacing
from progan.runtime.errors import UserError
from progan.runtime.pictures import GAP, NOTE, arrange, captions
from progan.runtime.progress import Say, progress_bar
from progan.runtime.text import stamp

COLUMNS_OF_CLASSES = 16


def make_grid(samples: Samples, say: Say = None) -> np.ndarray:
    """All images as one picture, uint8 [C, H, W]: with several classes a row or more for each.

    Args:
        say: shows the progress of many images.

    Raises:
        UserError: it would be too large.
    """
    each, names = len(samples.seeds), names_of(samples)
    square = max(samples.columns, math.ceil(math.sqrt(each)))
    columns = min(each, COLUMNS_OF_CLASSES if len(names) > 1 else square)
    cell = samples.side if samples.scale > 1 else cell_of(samples.side)
    most = LARGEST_SIDE // (cell + GAP + NOTE) - 1
    rows = math.ceil(each / columns) * len(samples.endings)
    if max(columns, rows) > most:
        raise UserError(
            f"--grid: {rows:,} rows of {columns:,} images make too large a picture; at this size "
            f"it has room for {most:,} in each direction: ask for fewer seeds"
        )
    images: list[np.ndarray] = []
    shown = say if len(samples) > FEW else None
    if shown:
        shown(f"{samples.counted} in one picture")
    with progress_bar("samples", len(samples), 0, shown) as done:
        for start in range(0, len(samples), samples.batch):
            made = samples.make(range(start, min(start + samples.batch, len(samples))))
            images += list(made)
            done(len(made))
    return grid_of(images, each, columns, names, cell, [str(seed) for seed in samples.seeds])


def names_of(samples: Samples) -> list[str]:
    """The class of each row, or of the first one if all have the same; none for attributes."""
    known = samples.snapshot.labels
    if known is None or known.kind != "classes" or samples.labels is None or not samples.endings[0]:
        return []
    shown = captions(known.names)
    return [shown[label] for label in samples.labels[:: len(samples.seeds)]]


def grid_of(
    images: Sequence[np.ndarray],
    each: int,
    columns: int,
    names: Sequence[str],
    cell: int,
    notes: Sequence[str] = (),
) -> np.ndarray:
    """One picture of images in rows. With names of classes, `each` of them begins a row.

    notes: below the images of each class, `each` of them; empty for none.
    """
    starts = [k + i for k in range(0, len(images), each) for i in range(0, each, columns)]
    ends = [min(start + columns, start - start % each + each) for start in starts]
    rows = [images[start:end] for start, end in zip(starts, ends, strict=True)]
    shown = [names[k // each] if k % each == 0 else "" for k in starts] if names else []
    below = [notes[k % each :][:columns] for k in starts] if notes else []
    return arrange(rows, columns, cell, shown, below)


def write_grid(samples: Samples, out: Path, suffix: str, say: Say = None) -> str:
    """Write the grid into a folder, or as the picture `out`; returns a line for the user."""
    ending = samples.endings[0] if len(samples.endings) == 1 else ""
    name = f"grid-{stamp(samples.snapshot.nimg)}{ending}{suffix}"
    path = out if is_picture(out) else out / name
    note = replacing([path])
    seeds = ", ".join(map(str, samples.seeds)) if samples.given is None else None
    save_picture(make_grid(samples, say), path, samples.made_by(seeds=seeds))
    return f"{samples.counted} in {path}{note}"
