"""Images to find in a generator, read from files as training reads its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from progan.data.decode import BadImage, Square, open_image, read_square, region
from progan.data.metadata import upright_size
from progan.data.opening import square_of
from progan.data.sources.readers import FolderReader
from progan.runs.snapshot import Snapshot
from progan.runtime.errors import UserError


def read_target(path: Path, snapshot: Snapshot) -> np.ndarray:
    """An image as training prepares it: uint8 [C, r, r].

    One that has just the generator's size, such as a sample, is taken whole, even if the run cuts
    a square out of its images.

    Raises:
        UserError: it cannot be read, or is too small.
    """
    content, square = read_bytes(path), square_of_run(snapshot)
    try:
        image = read_square(content, replace(square, fit="crop", upscale=True))
        if upright_size(open_image(content)) != image.shape[:0:-1]:
            image = read_square(content, square)
    except BadImage as error:
        r = square.resolution
        remedy = f"give an image of {r}x{r} or more pixels"
        if isinstance(square.fit, tuple):
            x, y, side = square.fit
            remedy = f"as the run cuts out {side}x{side} at {x},{y}, give one that has these, or "
            remedy += f"a square of {r}x{r}, which is taken whole"
        raise UserError(f"{path} cannot be projected: {error}; {remedy}") from None
    return image


def read_small(path: Path, snapshot: Snapshot) -> np.ndarray:
    """An image of which the generator is to make a larger one, in its own size: uint8 [C, s, s].

    Its centre square is taken, or it is padded, as in training.

    Raises:
        UserError: it cannot be read, or the generator's images cannot be averaged to its size.
    """
    content, square = read_bytes(path), square_of_run(snapshot)
    r, fit = square.resolution, square.fit if square.fit == "pad" else "crop"
    try:
        read_square(content, replace(square, fit=fit, upscale=True))  # is there an image in it?
        side = region(upright_size(open_image(content)), fit)[2]
        if side >= r or r % side:
            sides = [str(r >> k) for k in range(r.bit_length() - 1, 0, -1)]
            raise UserError(
                f"--from {path} is {side} pixels wide, and images of {r}x{r} are averaged over "
                f"boxes to {', '.join(sides)}: resize it to one of these"
                + ("" if side < r else "; to find an image of that size, give it without --from")
            )
        return read_square(content, replace(square, resolution=side, fit=fit))
    except BadImage as error:
        raise UserError(f"--from {path} cannot be read: {error}; give another image") from None


def square_of_run(snapshot: Snapshot) -> Square:
    """What the run makes its images into, in the size that the snapshot has reached."""
    config = snapshot.config
    return square_of(config.data, snapshot.resolution, config.network.channels)


def read_bytes(path: Path) -> bytes:
    """A file's content, if it is one and no larger than images are."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; give image files, such as {path}/*.png")
    try:
        return FolderReader(path.parent)(path.name)
    except BadImage as error:
        raise UserError(f"{path} cannot be read: {error}; give an image") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; give an image") from None
