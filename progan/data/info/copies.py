"""Copies and blank images of a source that has not been prepared."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np

from progan.config.resolutions import MAX_RESOLUTION, START_RESOLUTION, resolutions_to
from progan.data.decode import BadImage, Square
from progan.data.pyramid.digests import DTYPE, digests_of
from progan.data.pyramid.repeats import Repeats, find_repeats
from progan.data.sources.source import Source
from progan.data.workers import Workers

PIECE = 16  # images that a worker reads before it reports

Size = tuple[int, int]


def repeats_in(
    source: Source,
    sizes: Sequence[Size | None],
    small: Sequence[bytes],
    jpeg: Sequence[bool],
    workers: int,
) -> Repeats:
    """Which images are equal as squares of the largest resolution that they have, or blank.

    Only those that are equal or of one colour at 4x4 are read again, to be sure; of a size that
    JPEGs and others have all are, as JPEGs are decoded at 1/8 for 4x4, and rounded otherwise.

    Args:
        sizes: width and height of each image.
        small: the pixels of each at 4x4; empty for bad images.
        jpeg: whether each is a JPEG.
    """
    alike = Counter(zip(sizes, small, strict=True))
    kinds = {(size, is_jpeg) for size, is_jpeg in zip(sizes, jpeg, strict=True)}
    again = [
        (i, largest_in(size))
        for i, (size, pixels) in enumerate(zip(sizes, small, strict=True))
        if size and pixels
        if alike[size, pixels] > 1
        or {(size, True), (size, False)} <= kinds
        or is_blank(np.frombuffer(pixels, "u1"))
    ]
    parts = [again[k : k + PIECE] for k in range(0, len(again), PIECE)]
    digests, blank = np.arange(len(small), dtype=DTYPE), np.zeros(len(small), bool)
    job = partial(look_again, replace(source, labels=None))
    with Workers(job, workers if len(parts) > 1 else 0) as pool:
        found = chain.from_iterable(pool.map(parts))
        for (i, _), (digest, plain) in zip(again, found, strict=True):
            digests[i], blank[i] = digest, plain
    good = np.flatnonzero([bool(pixels) for pixels in small])
    return find_repeats(
        digests[good],
        source.labels and source.labels.take(good),
        np.flatnonzero(blank[good]),
        lambda k: source.item_name(int(good[k])),
        np.frombuffer(b"".join(small), np.uint8).reshape(len(good), 3, 4, 4),
    )


def look_again(source: Source, images: list[tuple[int, int]]) -> list[tuple[int, bool]]:
    """A worker's job: a digest of each image at a resolution, and whether it is blank."""
    found = []
    for i, resolution in images:
        square = Square(resolution, 3, "crop", upscale=True)
        (pixels,) = source.read_batch([i], square)
        if isinstance(pixels, BadImage):  # it has changed since
            found.append((i, False))
        else:
            found.append((int(digests_of(pixels[None])[0]), is_blank(pixels)))
    return found


def is_blank(pixels: np.ndarray) -> bool:
    """Whether an image, uint8 [3, …], is of one colour."""
    flat = pixels.reshape(3, -1)
    return bool((flat == flat[:, :1]).all())


def largest_in(size: Size) -> int:
    """The largest resolution that an image has."""
    return max(resolutions_to(min(MAX_RESOLUTION, *size)), default=START_RESOLUTION)
