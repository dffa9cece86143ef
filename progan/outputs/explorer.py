"""What the latent explorer computes: the image of a place in latent space, at a moment of a run."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from progan.config.resolutions import START_RESOLUTION
from progan.metrics.evaluate import batch_size
from progan.model.grid import encoded
from progan.model.networks import conditions
from progan.model.sampling import example_rows, images_of, in_batches, latents
from progan.outputs.latent_space import (
    MOST_CORNERS,
    first_features,
    label_direction,
    moved,
    on_plane,
    principal_directions,
)
from progan.runs.folder import base_name
from progan.runs.snapshot import Snapshot, check_seeds, label_value
from progan.runs.snapshot_file import load_snapshot
from progan.runs.which_snapshot import by_kimg, find_snapshot, snapshots_of, split
from progan.runtime.errors import UserError
from progan.runtime.progress import Say, progress_bar
from progan.runtime.text import for_file_names, kimg_of, percent, printable, stage_text

PRINCIPAL = 8  # directions
LATENTS = 2048  # from which directions are learned: several times `z_dim`, which is 512 at most
KEPT = 4  # snapshots in memory, so that the slider over a run moves quickly
FEWEST_EACH = 25  # latents with a label, and without: fewer give no direction
LEAST_RIGHT = 0.6  # of `label_direction`: below, the direction is hardly better than chance


@dataclass(frozen=True)
class View:
    """What is looked at.

    Args:
        seeds: one to four, the corners of a plane.
        x, y: the place on it, from 0 to 1.
        growth: how far the network has grown: 2 is 4x4, 3 is 8x8, and between them 8x8 fades in.
            Beyond what a snapshot has reached, all of it.
        moment: which of the run's snapshots, from 0.
        label: the number of a class, or those of all attributes that are on; None without labels.
        steps: in each of the explorer's directions.
    """

    seeds: tuple[int, ...]
    x: float = 0.0
    y: float = 0.0
    growth: float = math.inf
    moment: int = 0
    label: tuple[int, ...] | None = None
    steps: tuple[float, ...] = ()


def stage_at(growth: float) -> tuple[int, float | None]:
    """Resolution and alpha: 4.25 is 32x32 with a quarter faded in; None where nothing fades."""
    above = math.ceil(growth)
    alpha = growth - (above - 1)
    return 2**above, alpha if alpha < 1 else None


def growth_of(resolution: int, alpha: float | None) -> float:
    """The inverse of `stage_at`."""
    return math.log2(resolution) - (0 if alpha is None else 1 - alpha)


def moments_of(path: Path) -> tuple[list[Path], int]:
    """The snapshots to look at, oldest first, and the one to begin with.

    Args:
        path: a run, with averages that were made later; a run at a snapshot, RUN@best; or a file.

    Raises:
        UserError: there is none.
    """
    chosen = find_snapshot(path)
    run, _ = split(path)
    if not run.is_dir() or chosen.parent == run:
        return [chosen], 0
    known = sorted([*by_kimg(run).values(), *snapshots_of(run, "average")], key=kimg_of)
    # A best snapshot is the same as the run's own at that time.
    same = [kimg_of(file) == kimg_of(chosen) and "average" not in file.name for file in known]
    return known, same.index(True)


class Explorer:
    """Makes images of views. Its directions are found in the snapshot that it begins with.

    Args:
        path: see `moments_of`.
        device: where images are made.

    Raises:
        UserError: there is no snapshot, or it cannot be read.
    """

    def __init__(self, path: Path, device: torch.device):
        self.files, self.start = moments_of(path)
        self.device = device
        self.name = printable(base_name(split(path)[0].resolve()).removesuffix(".safetensors"))
        self.snapshot = lru_cache(KEPT)(self.read)  # by moment
        self.first = self.snapshot(self.start)
        z_dim = self.first.G.z_dim
        self.names: list[str] = []  # of directions
        self.directions = torch.zeros(0, z_dim)

    def read(self, moment: int) -> Snapshot:
        """The snapshot of a moment, on the device.

        Raises:
            UserError: it cannot be read, or is of another network than the first.
        """
        snapshot = load_snapshot(self.files[moment])
        if moment != self.start:
            kinds = [(s.G.z_dim, s.labels and s.labels.names) for s in (snapshot, self.first)]
            if kinds[0] != kinds[1]:
                raise UserError(
                    f"{snapshot.file} has other latents or labels than {self.first.file}; it is "
                    "of another run: look at it by itself"
                )
        snapshot.G.to(self.device)
        return snapshot

    def known(self, count: int) -> tuple[Tensor, np.ndarray | None]:
        """Latents [count, z_dim] of the seeds from 0 to learn directions from, and labels.

        All have one label, or directions would only lead from one to the others.
        """
        labels = self.first.labels
        rows = None if labels is None else example_rows([0] * count, labels.values)
        return latents(range(count), self.first.G.z_dim), rows

    def find_principal(self) -> None:
        """Adds the directions in which the first block's features vary most."""
        G = self.first.G
        count = min(LATENTS, max(512, 4 * G.z_dim))  # the time grows with its cube
        z, labels = self.known(count)
        c = None if labels is None else conditions(torch.as_tensor(labels), G.c_dim)
        found = principal_directions(z, first_features(G, z, c), min(PRINCIPAL, G.z_dim))
        self.names += [f"Direction {k + 1}" for k in range(len(found))]
        self.directions = torch.cat([self.directions, found])

    def find_labels(
        self, see: Callable[[Tensor], np.ndarray], names: Sequence[str], say: Say = None
    ) -> None:
        """Adds a direction for each label that a classifier sees often enough.

        Args:
            see: from images uint8 [n, C, r, r] to the labels in them, bool [n, K].
            names: of the labels.
            say: shows progress.
        """
        z, labels = self.known(LATENTS)
        seen, size = [], batch_size(self.first.resolution)
        with progress_bar("images to find labels in", LATENTS, 0, say) as done:
            for start in range(0, LATENTS, size):
                part = slice(start, start + size)
                some = None if labels is None else labels[part]
                stage = self.first.resolution, self.first.alpha
                seen.append(see(images_of(self.first.G, z[part], some, *stage)))
                done(len(seen[-1]))
        for name, has in zip(names, torch.from_numpy(np.concatenate(seen)).T, strict=True):
            direction, right = label_direction(z, has)
            if min(has.sum(), (~has).sum()) >= FEWEST_EACH and right >= LEAST_RIGHT:
                self.names.append(f"{printable(name)} ({percent(right, 0)})")
                self.directions = torch.cat([self.directions, direction[None]])

    @property
    def growths(self) -> tuple[float, float]:
        """The least and the most that the network can have grown, at the newest moment."""
        newest = self.first if self.start == len(self.files) - 1 else self.snapshot(-1)
        least = max(newest.config.start_resolution, START_RESOLUTION)
        return growth_of(least, None), growth_of(newest.resolution, newest.alpha)

    def stage(self, view: View) -> tuple[int, float | None]:
        """The resolution and alpha of a view: exactly the snapshot's if all of it is shown."""
        snapshot = self.snapshot(view.moment)
        reached = growth_of(snapshot.resolution, snapshot.alpha)
        if view.growth >= reached - 1e-6:
            return snapshot.resolution, snapshot.alpha
        return stage_at(max(view.growth, growth_of(snapshot.config.start_resolution, None)))

    def latent(self, view: View) -> Tensor:
        """[z_dim]"""
        corners = latents(check_corners(view.seeds), self.first.G.z_dim)
        return moved(on_plane(corners, view.x, view.y), self.directions, view.steps)

    def image(self, view: View) -> np.ndarray:
        """uint8 [C, r, r]. Of a single seed, as `progan sample` makes it, bit for bit.

        Raises:
            UserError: there is no such seed, or the moment's snapshot cannot be read.
        """
        snapshot = self.snapshot(view.moment)
        z = self.latent(view)[None]
        label = None
        if snapshot.labels is not None:
            label = label_value(list(view.label or ()), snapshot.labels)[None]
        return in_batches(snapshot.G, z, label, *self.stage(view))[0]

    def png(self, view: View) -> bytes:
        """The image as a file that says that it was generated, and where this place is."""
        made_by = self.snapshot(view.moment).provenance(**self.facts(view))
        return encoded(self.image(view), "PNG", made_by)

    def facts(self, view: View) -> dict[str, Any]:
        """By what a view can be found again, in words."""
        resolution, alpha = self.stage(view)
        place = {"x": f"{view.x:g}", "y": f"{view.y:g}"} if len(view.seeds) > 1 else {}
        moves = zip(self.names, view.steps, strict=False)
        steps = ", ".join(f"{name} {step:+g}" for name, step in moves if step)
        names = self.first.labels.shown if self.first.labels else []
        found = {
            "seed" if len(view.seeds) == 1 else "seeds": ", ".join(map(str, view.seeds)),
            **place,
            "class": ", ".join(names[k] for k in view.label or ()),
            "resolution": str(resolution),
            "alpha": "" if alpha is None else f"{alpha:g}",
            "steps": steps,
        }
        return {name: fact for name, fact in found.items() if fact}

    def file_name(self, view: View) -> str:
        """For the saved picture: demo-36kimg-seeds-0-1.png"""
        kimg = f"{self.snapshot(view.moment).nimg / 1000:g}kimg"
        seeds = "-".join(["seed" if len(view.seeds) == 1 else "seeds", *map(str, view.seeds)])
        return f"{for_file_names([self.name])[0]}-{kimg}-{seeds}.png"

    def caption(self, view: View) -> str:
        """What is shown, in a line."""
        snapshot = self.snapshot(view.moment)
        resolution, alpha = self.stage(view)
        words = [
            self.name,
            stage_text(resolution, alpha),
        ]
        if snapshot.length is not None:
            words.append(f"average of length {snapshot.length:g}")
        words.append(f"after {snapshot.nimg / 1000:g} kimg")
        return ", ".join(words)


def check_corners(seeds: Sequence[int]) -> list[int]:
    """One to four seeds.

    Raises:
        UserError: they are none, or more.
    """
    if len(seeds) > MOST_CORNERS:
        raise UserError(f"{len(seeds)} seeds; a plane has {MOST_CORNERS} corners at most")
    return check_seeds(seeds)
