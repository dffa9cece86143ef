"""Samples of a snapshot as files, by seed and class."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from progan.model.grid import PICTURES, cell_of, grid, save_picture
from progan.model.sampling import BATCH, generate, grid_layout
from progan.runs.snapshot import Snapshot, label_indices
from progan.runtime.disk import replacing
from progan.runtime.errors import UserError
from progan.runtime.pictures import arrange, captions
from progan.runtime.progress import has_room
from progan.runtime.text import for_file_names, joined_for_files, stamp

MOST_COLUMNS = 16
SUFFIXES = tuple(PICTURES)
FOREIGN = (".svg", ".pdf", ".gif", ".eps")  # of pictures that are not written


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

    Args:
        seeds: None for those of the grids in training, which the grid then equals.
        out: a folder; or the file of a single picture, such as `x.png`.

    Raises:
        UserError: there is no such class, or `out` is one file and the pictures are several.
    """
    known = snapshot.labels
    default_seeds, _, columns = grid_layout(
        snapshot.resolution, None if known is None else known.values
    )
    seeds = seeds or list(dict.fromkeys(default_seeds))
    made_of = labels_to_make(snapshot, seeds, class_name)
    if as_grid:
        ending = "".join(made_of) if len(made_of) == 1 else ""
        files = [f"grid-{stamp(snapshot.nimg)}{ending}.png"]
    else:
        files = [f"seed{seed:04d}{ending}.png" for ending in made_of for seed in seeds]
    paths = places(out, files)
    note = replacing(paths)
    made = images_of_all(snapshot, seeds, made_of, device)
    if as_grid:
        names = captions(known.names if known and len(made_of) > 1 else ())
        most = MOST_COLUMNS if names else columns
        made = iter([grid_of(list(made), len(seeds), min(most, len(seeds)), names)])
    for path, image in zip(paths, made, strict=True):
        save_picture(image, path)
    size = f"{snapshot.resolution}x{snapshot.resolution}"
    where = paths[0] if as_grid else out
    count = len(seeds) * len(made_of)
    yield f"{count} {'image' if count == 1 else 'images'} of {size} in {where}{note}"


def is_picture(out: Path) -> bool:
    """Whether a path is meant as one picture, not as a folder: by its suffix."""
    return out.suffix.lower() in (*SUFFIXES, *FOREIGN) and not out.is_dir()


def places(out: Path, files: list[str]) -> list[Path]:
    """Where to write these files: in the folder `out`, or the only one as `out` itself."""
    if not is_picture(out):
        return [out / file for file in files]
    if len(files) > 1:
        raise UserError(
            f"--out {out} is one picture, and {len(files):,} would be written; add --grid to have "
            "all in one, or give a folder"
        )
    return [out]


def images_of_all(
    snapshot: Snapshot,
    seeds: Sequence[int],
    made_of: Mapping[str, np.ndarray | None],
    device: torch.device,
) -> Iterator[np.ndarray]:
    """Images uint8 [C, r, r] of all seeds, for each label in turn, made in batches."""
    G, r = snapshot.G.to(device), snapshot.resolution
    rows = [row for row in made_of.values() if row is not None]
    labels = np.concatenate(rows) if rows else None
    seeds = list(seeds) * len(made_of)
    starts = range(0, len(seeds), BATCH)
    for start in tqdm(starts, unit="batch", disable=not has_room(sys.stderr), leave=False):
        b = slice(start, start + BATCH)
        some = None if labels is None else labels[b]
        yield from generate(G, seeds[b], some, r, snapshot.alpha)


def grid_of(
    images: Sequence[np.ndarray], each: int, columns: int, names: Sequence[str]
) -> np.ndarray:
    """One picture of images in rows. With names of classes, `each` of them begins a row."""
    if not names:
        return grid(np.stack(images), columns)
    starts = [k + i for k in range(0, len(images), each) for i in range(0, each, columns)]
    ends = [min(start + columns, start - start % each + each) for start in starts]
    rows = [images[start:end] for start, end in zip(starts, ends, strict=True)]
    shown = [names[start // each] if start % each == 0 else "" for start in starts]
    return arrange(rows, columns, cell_of(images[0].shape[-1]), shown)
