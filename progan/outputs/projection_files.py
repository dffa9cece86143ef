"""What was found for an image as files: a picture, the way there, the images and their latents."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from progan.data.decode import box_levels
from progan.model.grid import save_picture
from progan.outputs.projection import Projection, as_c, psnr
from progan.outputs.video_file import write_video
from progan.runs.snapshot import Snapshot
from progan.runtime.disk import write_atomically
from progan.runtime.pictures import GAP, PAPER, enlarged, font, in_colour, shortened

SMALLEST_TILE, LARGEST_TILE = 128, 256  # pixels
COLUMNS = 8
FRAMES, FPS, HOLD = 60, 20, 2  # of the way; the result is shown for two seconds
TEXT = (30, 30, 30)

Tile = tuple[np.ndarray, str]  # an image uint8 [C, s, s], and the text below it


def paths_of(out: Path, name: str, count: int) -> list[Path]:
    """The picture, the way, the latents, and the image of each of `count` results."""
    numbers = [""] if count == 1 else [f"-{i + 1}" for i in range(count)]
    files = ["projected.png", "way.webp", "latents.npz", *(f"result{n}.png" for n in numbers)]
    return [out / f"{name}-{file}" for file in files]


def write_projection(
    paths: Sequence[Path], target: np.ndarray, found: Projection, snapshot: Snapshot
) -> np.ndarray:
    """Write all files of a projection; returns the PSNR of each result in dB.

    Args:
        paths: as `paths_of` gives them for as many results.
        target: uint8 [C, s, s].
    """
    picture, way, latents, *results = paths
    images = found.images(snapshot)
    quality = psnr(images, target)
    captions = [decibels(value) for value in quality]
    steps = moments(found.steps[0], 5)[:-1] or [0]
    tiles: list[Tile | None] = [(target, "target"), *zip(images, captions, strict=True)]
    if len(images) > 1:  # the way begins a row
        tiles += [None] * (-len(tiles) % COLUMNS)
    names = [f"step {step}" if step else f"seed {found.seeds[0]}" for step in steps]
    tiles += zip(found.images_of_way(snapshot, steps), names, strict=True)
    made_by = snapshot.provenance(composite=True)
    save_picture(draw(tiles), picture, made_by)
    write_way(way, target, found, snapshot, images[0])
    for path, image in zip(results, images, strict=True):
        save_picture(image, path, snapshot.provenance())
    content = io.BytesIO()
    np.savez(content, **arrays(found, snapshot, quality))
    write_atomically(latents, lambda temporary: temporary.write_bytes(content.getvalue()))
    return quality


def arrays(found: Projection, snapshot: Snapshot, quality: np.ndarray) -> dict[str, Any]:
    """z [S, z_dim], c [S, c_dim] with labels, loss [S] and PSNR in dB [S]."""
    known = {"z": found.z.numpy(), "loss": found.losses, "psnr": quality}
    if found.labels is not None:
        known["c"] = as_c(found.labels, snapshot, found.z.device).numpy()
    return known


def decibels(value: float) -> str:
    """A PSNR."""
    return "equal" if np.isinf(value) else f"{value:.1f} dB"


def moments(steps: int, count: int) -> list[int]:
    """Steps 0 and, denser at the beginning, `count` up to the last; fewer if they would repeat."""
    later = np.geomspace(min(3, max(1, steps)), max(1, steps), count).round().astype(int)
    return [0, *np.unique(later).tolist()][: steps + 1]


def pixels_of(image: np.ndarray, side: int) -> np.ndarray:
    """uint8 [C, s, s] enlarged pixel by pixel, or averaged, to uint8 [side, side, 3]."""
    if image.shape[-1] > side:
        image = box_levels(image[None], side)[side][0]
    return in_colour(enlarged(image, side))


def side_of(resolution: int) -> int:
    """Of a tile, in pixels."""
    return min(max(resolution, SMALLEST_TILE), LARGEST_TILE)


def draw(tiles: Sequence[Tile | None]) -> np.ndarray:
    """Images in rows, each with its text below; None leaves a gap: uint8 [3, H, W].

    Sizes are powers of two; all are shown in one.
    """
    side = side_of(max(tile[0].shape[-1] for tile in tiles if tile))
    face = font("DejaVuSans", side // 9)
    line = round(1.6 * face.size)
    columns, rows = min(COLUMNS, len(tiles)), -(-len(tiles) // COLUMNS)
    size = columns * (side + GAP) + GAP, rows * (side + line + GAP) + GAP
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)
    for i, (image, text) in ((i, tile) for i, tile in enumerate(tiles) if tile):
        x = GAP + i % COLUMNS * (side + GAP)
        y = GAP + i // COLUMNS * (side + line + GAP)
        canvas.paste(Image.fromarray(pixels_of(image, side)), (x, y))
        middle = x + side // 2, y + side + line // 2
        pen.text(middle, shortened(text, face, side), TEXT, face, anchor="mm")
    return np.asarray(canvas).transpose(2, 0, 1)


def write_way(
    path: Path, target: np.ndarray, found: Projection, snapshot: Snapshot, result: np.ndarray
) -> None:
    """Write an animation: the target, and beside it the image that becomes the result."""
    side = side_of(snapshot.resolution)
    left = np.hstack([pixels_of(target, side), np.full((side, GAP, 3), PAPER, np.uint8)])
    images = found.images_of_way(snapshot, moments(found.steps[0], FRAMES))
    frames = [(np.hstack([left, pixels_of(image, side)]), 1) for image in images]
    frames.append((np.hstack([left, pixels_of(result, side)]), HOLD * FPS))
    write_video(path, frames, FPS, snapshot.provenance(composite=True))
