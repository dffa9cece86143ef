"""Looping walks through latent space, and their pictures."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from progan.model.sampling import BATCH, in_batches, latents, slerp_at
from progan.outputs.video_file import MOST_SECONDS, check_size, check_video, counted, write_video
from progan.runs.snapshot import Snapshot, check_seeds
from progan.runtime.errors import UserError
from progan.runtime.progress import Say, progress_bar
from progan.runtime.randomness import make_rng

RATE = 60  # rows of noise a second
SIGMA = 45  # rows: of the Gaussian that smooths them, 0.75 s
REACH = 4 * SIGMA  # farther rows would weigh less than 1/2000 of the nearest

SHORTEST_SMOOTH = 3  # seconds; in less, noise that is smoothed over 0.75 s nearly stands still
STOPS = 8  # seeds of each tile, where none are given
SMOOTH_SECONDS = 10
TILE = 128  # pixels; smaller images are enlarged to it

Mode = Literal["slerp", "smooth"]
Walk = Callable[[int], Tensor]  # a frame's number to its latents, [tiles, z_dim]


def from_seed_to_seed(seeds: Sequence[int], tiles: int, frames: int, z_dim: int) -> Walk:
    """The way from seed to seed along the sphere (slerp), and from the last to the first.

    Args:
        seeds: the first `tiles` of them are those of the first frame, the next ones those of the
            next stop, and so on: a multiple of `tiles`.
        frames: of one round.
    """
    stops = latents(seeds, z_dim).view(-1, tiles, z_dim)

    def at(frame: int) -> Tensor:
        stop, rest = divmod(frame * len(stops), frames)
        start, end = stops[stop % len(stops)], stops[(stop + 1) % len(stops)]
        t = torch.tensor([rest / frames], dtype=torch.float64)
        return torch.cat([slerp_at(a, b, t) for a, b in zip(start, end, strict=True)])

    return at


def smoothed_noise(seeds: Sequence[int], seconds: float, frames: int, z_dim: int) -> Walk:
    """Noise in time, smoothed by a Gaussian, and scaled back to the sphere of latents.

    As for the videos of Karras et al. 2018 (appendix on CelebA-HQ, latent space interpolations):
    noise at 60 Hz, a sigma of 45 of its frames. Time goes round, so that the end meets the
    beginning. Another frame rate shows the same walk.

    Args:
        seeds: of the noise, one for each tile.
        seconds, frames: of one round.
    """
    rows = round(RATE * seconds)

    @lru_cache(2 * REACH + 2)  # all that a frame needs, whatever the length
    def noise(row: int) -> np.ndarray:
        draws = [make_rng(seed, "walks", row) for seed in seeds]
        return np.stack([rng.standard_normal(z_dim, dtype=np.float32) for rng in draws])

    def at(frame: int) -> Tensor:
        middle = frame * rows / frames
        near = np.arange(math.ceil(middle - REACH), math.floor(middle + REACH) + 1)
        weights = np.exp(-0.5 * ((near - middle) / SIGMA) ** 2)
        z = np.tensordot(weights, np.stack([noise(row) for row in (near % rows).tolist()]), 1)
        z *= math.sqrt(z_dim) / np.linalg.norm(z, axis=1, keepdims=True)
        return torch.from_numpy(z.astype(np.float32))

    return at


def pictures_of(
    snapshot: Snapshot,
    walk: Walk,
    frames: int,
    labels: np.ndarray | None,
    columns: int,
    scale: int,
    device: torch.device | None,
) -> Iterator[np.ndarray]:
    """The pictures of a walk, uint8 [H, W, 3], made as they are asked for.

    Args:
        labels: of the tiles, int64 [tiles] or uint8 [tiles, K]; None without labels.
        scale: images are enlarged by so much, pixel by pixel.
        device: makes the images. None: where the snapshot is.
    """
    G, r = snapshot.G if device is None else snapshot.G.to(device), snapshot.resolution
    at_once = max(1, BATCH // len(walk(0)))
    for start in range(0, frames, at_once):
        some = [walk(frame) for frame in range(start, min(start + at_once, frames))]
        repeated = None if labels is None else np.concatenate([labels] * len(some))
        images = in_batches(G, torch.cat(some), repeated, r, snapshot.alpha)
        for part in np.split(images, len(some)):
            yield tiled(part, columns, scale)


def tiled(images: np.ndarray, columns: int, scale: int) -> np.ndarray:
    """uint8 [N, C, r, r] -> one picture [H, W, 3] without gaps, row by row."""
    count, channels, r, _ = images.shape
    rows = images.reshape(count // columns, columns, channels, r, r).transpose(0, 3, 1, 4, 2)
    picture = rows.reshape(-1, columns * r, channels).repeat(scale, 0).repeat(scale, 1)
    return np.broadcast_to(picture, (*picture.shape[:2], 3))


def write_walk(
    snapshot: Snapshot,
    out: Path,
    seeds: Sequence[int] | None = None,
    *,
    mode: Mode = "slerp",
    grid: tuple[int, int] = (1, 1),
    seconds: float | None = None,
    fps: int = 30,
    classes: str | None = None,
    scale: int | None = None,
    device: torch.device | None = None,
    say: Say = None,
) -> None:
    """Write a walk that is a loop to an .mp4, .webp, .gif or .apng.

    Args:
        seeds: the first ones are those of the first frame, a seed a tile, the next ones those of
            the next stop; with "smooth" one of each tile. None: from 0 on, 8 for each tile, or 1.
        mode: "slerp" from seed to seed, or "smooth" along noise, as in the paper's videos.
        grid: columns and rows of tiles, each with a walk of its own.
        seconds: of the loop. None: 1 for each stop; with "smooth" 10.
        classes: of all tiles, as in `Snapshot.sample`. None: each tile keeps its first seed's.
        scale: images are enlarged by so much, pixel by pixel. None: to 128 pixels or more.
        device: makes the images. None: where the snapshot is.
        say: for a line beforehand, and the progress.

    Raises:
        UserError: the seeds do not fill the grid, or there is no such class, or `out` cannot be.
        DiskError: the video could not be written.
    """
    seeds, tiles = fitting(seeds, grid, mode), grid[0] * grid[1]
    seconds, frames = length(seeds, grid, mode, seconds, fps, out)
    scale = scale or max(1, TILE // snapshot.resolution)
    width, height = (side * snapshot.resolution * scale for side in grid)
    check_size(width, height)
    labels = snapshot.labels_of(seeds[:tiles], classes)
    if say:
        say(f"{frames:,} frames of {width}x{height}: {seconds:g} s at {fps} frames a second")
    if mode == "slerp":
        walk = from_seed_to_seed(seeds, tiles, frames, snapshot.G.z_dim)
    else:
        walk = smoothed_noise(seeds, seconds, frames, snapshot.G.z_dim)
    made_by = snapshot.provenance(walk=mode, seeds=",".join(map(str, seeds)), classes=classes)
    pictures = pictures_of(snapshot, walk, frames, labels, grid[0], scale, device)
    pictures = chain([next(pictures)], pictures)  # now: it needs as much memory as all others
    with progress_bar("walk", frames, 0, say, "frames") as done:
        write_video(out, counted(((picture, 1) for picture in pictures), done), fps, made_by)


def fitting(seeds: Iterable[int] | None, grid: tuple[int, int], mode: Mode) -> list[int]:
    """The seeds, as a list; of None the default ones.

    Raises:
        UserError: they do not fill the grid, or nothing would move.
    """
    tiles = grid[0] * grid[1]
    default = range(tiles * (STOPS if mode == "slerp" else 1))
    numbers = check_seeds(default if seeds is None else seeds)
    named = given(numbers, grid)
    if mode == "smooth" and len(numbers) != tiles:
        raise UserError(f"{named}: a smooth walk has one seed for each tile; give {tiles:,}")
    if mode == "slerp" and (len(numbers) % tiles or len(numbers) < 2 * tiles):
        raise UserError(
            f"{named}: all tiles need equally many, at least two; give a "
            f"multiple of {tiles:,} from {2 * tiles:,} on, such as --seeds 0-{4 * tiles - 1}"
        )
    return numbers


def given(seeds: Sequence[int], grid: tuple[int, int]) -> str:
    """`7 seeds for a grid of 3x2`"""
    seed = "seed" if len(seeds) == 1 else "seeds"
    return f"{len(seeds):,} {seed} for a grid of {grid[0]}x{grid[1]}"


def length(
    seeds: Sequence[int],
    grid: tuple[int, int],
    mode: Mode,
    seconds: float | None,
    fps: int,
    out: Path,
) -> tuple[float, int]:
    """Seconds and frames of a walk: each stop has a second if none are given, and a frame at least.

    Raises:
        UserError: the seeds are too many, or such a video cannot be.
    """
    smooth, tiles = mode == "smooth", grid[0] * grid[1]
    stops = len(seeds) // tiles
    if seconds is None and stops > MOST_SECONDS:
        raise UserError(
            f"{given(seeds, grid)}: at a second for each stop, a video has at most {MOST_SECONDS} "
            f"stops; give at most {MOST_SECONDS * tiles:,} seeds, or --seconds for a faster walk"
        )
    seconds = seconds or (SMOOTH_SECONDS if smooth else stops)
    frames = check_video(out, fps, seconds, SHORTEST_SMOOTH if smooth else 0)
    if stops > frames:
        raise UserError(
            f"{given(seeds, grid)}: in {seconds:g} s at {fps} frames a second, a video has at most "
            f"{frames:,} stops; give at most {frames * tiles:,} seeds, or more --seconds"
        )
    return seconds, frames
