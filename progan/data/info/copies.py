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
NEAR = 24  # levels by which copies may differ at 4x4, if one is a JPEG; 20 were seen

Size = tuple[int, int]


def repeats_in(
    source: Source,
    sizes: Sequence[Size | None],
    small: Sequence[bytes],
    jpeg: Sequence[bool],
    workers: int,
) -> Repeats:
    """Which images are equal as squares of the largest resolution that they have, or blank.

    Only those that are equal or of one colour at 4x4 are read again, to be sure, and a JPEG and
    another image that are nearly equal: JPEGs are decoded at 1/8 for 4x4, and rounded otherwise.

    Args:
        sizes: width and height of each image.
        small: the pixels of each at 4x4; empty for bad images.
        jpeg: whether each is a JPEG.
    """
    alike = Counter(zip(sizes, small, strict=True))
    mixed = nearly_equal(sizes, small, jpeg)
    again = [
        (i, largest_in(size))
        for i, (size, pixels) in enumerate(zip(sizes, small, strict=True))
        if size and pixels
        if alike[size, pixels] > 1 or i in mixed or is_blank(np.frombuffer(pixels, "u1"))
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


def nearly_equal(
    sizes: Sequence[Size | None], small: Sequence[bytes], jpeg: Sequence[bool]
) -> set[int]:
    """JPEGs that are nearly equal to other images of their size at 4x4, and these."""
    groups: dict[Size, tuple[list[int], list[int]]] = {}
    for i, (size, pixels) in enumerate(zip(sizes, small, strict=True)):
        if size and pixels:
            groups.setdefault(size, ([], []))[jpeg[i]].append(i)
    found: set[int] = set()
    for few, many in (sorted(pair, key=len) for pair in groups.values() if all(pair)):
        one, other = (np.array([[*small[i]] for i in part], np.int16) for part in (few, many))
        order = np.argsort(other.mean(1))
        places, other = np.array(many)[order], other[order]
        means = other.mean(1)
        starts, ends = (np.searchsorted(means, one.mean(1) + d) for d in (-NEAR / 2, NEAR / 2))
        for i, x, start, end in zip(few, one, starts, ends, strict=True):
            near = places[start:end][(abs(other[start:end] - x) <= NEAR).all(1)]
            found.update(near.tolist(), [i] * bool(len(near)))
    return found


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
