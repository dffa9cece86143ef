"""Samples of a snapshot: which images are wanted, what they are called, and how they are made."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from progan.model.sampling import BATCH, grid_layout, in_batches, latents
from progan.runs.best_of import BestOf
from progan.runs.latents_file import GivenLatents
from progan.runs.snapshot import Snapshot, label_indices
from progan.runtime.errors import UserError
from progan.runtime.provenance import Provenance
from progan.runtime.text import for_file_names, joined_for_files

MOST_IMAGES = 1_000_000
LARGEST_SIDE = 16_383  # pixels of a picture: the most that WEBP takes


class Samples:
    """Images of seeds, with classes each seed once for every class. They are made when asked for.

    Args:
        seeds: None for those of the grids in training.
        class_name: a class, or the attributes to switch on.
        resolution: of an earlier stage, see `Snapshot.sample`. None: what the snapshot has reached.
        scale: each pixel becomes a square with this side.
        batch: images in a pass on a GPU.
        best_of: chooses each seed's latent. None: its own.
        given: latents in place of those of seeds; the numbers of its rows are called seeds here.
            Its labels are used, unless a class is given.

    Raises:
        UserError: there is no such class or resolution, or the images are too large or too many.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        seeds: Sequence[int] | None = None,
        class_name: str | None = None,
        *,
        resolution: int | None = None,
        scale: int = 1,
        batch: int = BATCH,
        best_of: BestOf | None = None,
        given: GivenLatents | None = None,
    ):
        self.snapshot, self.scale, self.batch = snapshot, scale, batch
        self.best_of, self.given = best_of, given
        self.resolution, self.alpha = snapshot.stage(resolution)
        self.side = self.resolution * scale
        if self.side > LARGEST_SIDE:
            most = LARGEST_SIDE // self.resolution
            raise UserError(f"--scale {scale} makes images too large; give at most {most}")
        examples = None if snapshot.labels is None else snapshot.labels.values
        layout, _, self.columns = grid_layout(self.resolution, examples)
        if given is not None:
            seeds = range(len(given.z))
        # A seed that is named twice would be two results under one name.
        self.seeds = list(dict.fromkeys(layout if seeds is None else seeds))
        own = given.labels if given is not None and class_name is None else None
        self.endings = list(labels_to_make(snapshot, [0], class_name)) if own is None else [""]
        if len(self) > MOST_IMAGES:
            raise UserError(
                f"{len(self.seeds):,} seeds of {len(self.endings):,} classes are {len(self):,} "
                f"images; ask for at most {MOST_IMAGES:,} at a time"
            )
        self.labels = self.all_labels(class_name) if own is None else own

    def all_labels(self, class_name: str | None) -> np.ndarray | None:
        """Labels of all images, int64 [N] or uint8 [N, K]; None without labels."""
        made_of = labels_to_make(self.snapshot, self.seeds, class_name)
        rows = [row for row in made_of.values() if row is not None]
        return np.concatenate(rows) if rows else None

    def __len__(self) -> int:
        return len(self.seeds) * len(self.endings)

    @property
    def counted(self) -> str:
        """`3 images of 32x32`"""
        word = "image" if len(self) == 1 else "images"
        return f"{len(self):,} {word} of {self.side}x{self.side}"

    def arrays(self) -> dict[str, np.ndarray]:
        """Of all images: seeds, int64 [N], or z, float32 [N, z_dim], if latents were given; and
        labels, if any, int64 [N] or uint8 [N, K]."""
        seeds = np.array([self.seed(i) for i in range(len(self))])
        made_of = {"seeds": seeds} if self.given is None else {"z": self.given.z[seeds].numpy()}
        return made_of | ({} if self.labels is None else {"labels": self.labels})

    def seed(self, i: int) -> int:
        return self.seeds[i % len(self.seeds)]

    @property
    def word(self) -> str:
        """What the numbers in file names count."""
        return "seed" if self.given is None else "latent"

    def stem(self, i: int) -> str:
        """The name of image `i` as a file, without a suffix."""
        return f"{self.word}{self.seed(i):04d}{self.endings[i // len(self.seeds)]}"

    def made_by(self, **facts: Any) -> Provenance:
        """What the images, or one of them, say of themselves."""
        size = f"{self.resolution}x{self.resolution}"
        if self.resolution < self.snapshot.resolution:
            size += f", an earlier stage of {self.snapshot.resolution}x{self.snapshot.resolution}"
        scale = self.scale if self.scale > 1 else None
        best_of = self.best_of and self.best_of.described
        facts["latents"] = self.given and self.given.described
        facts |= {"resolution": size, "enlarged": scale, "best of": best_of}
        return self.snapshot.provenance(**facts)

    def made_by_each(self, i: int) -> Provenance:
        """What image `i` says of itself: its seed and its label, too."""
        labels, facts = self.snapshot.labels, {self.word: self.seed(i)}
        if labels is None or self.labels is None:
            return self.made_by(**facts)
        if labels.kind == "classes":
            return self.made_by(**facts, **{"class": labels.names[self.labels[i]]})
        on = [name for name, value in zip(labels.names, self.labels[i], strict=True) if value]
        return self.made_by(**facts, attributes=", ".join(on) or "none")

    def make(self, places: Sequence[int]) -> np.ndarray:
        """The images at these places, uint8 [N, C, s, s]."""
        G, seeds = self.snapshot.G, [self.seed(i) for i in places]
        labels = None if self.labels is None else self.labels[list(places)]
        if self.given is not None:
            z = self.given.z[seeds]
        else:
            best = self.best_of
            z = best.latents(seeds, labels) if best else latents(seeds, G.z_dim)
        images = in_batches(G, z, labels, self.resolution, self.alpha, self.batch)
        return images.repeat(self.scale, axis=2).repeat(self.scale, axis=3)


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
