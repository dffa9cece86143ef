"""Pieces of a pyramid, made by worker processes."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from progan.data.decode import BadImage, Square, TooSmall, box_levels
from progan.data.pyramid.layout import Layout
from progan.data.pyramid.records import to_png
from progan.data.sources.source import Items, Source
from progan.data.workers import Workers, cores

PIECE_BYTES = 2**20  # images a worker reads before it reports; more would take new memory
AT_ONCE_BYTES = 2**19  # images whose levels are made together, while a core's cache holds them
FEW_PIXELS = 200 * 64**2  # are done here before workers have even started

Bad = tuple[int, str, tuple[int, int] | None]  # index; why; width and height if they are why


@dataclass(frozen=True)
class Piece:
    """A worker's report on images start … stop - 1, whose arrays it has written itself."""

    start: int
    stop: int
    bad: list[Bad]
    records: dict[int, list[bytes]]  # PNG files by resolution, b"" for bad images


def pieces_of(
    source: Source, square: Square, layout: Layout, done: int, workers: int | None
) -> Generator[Piece, None, None]:
    """The pieces in order, from the first image that is not done."""
    pixels = square.channels * square.resolution**2
    size = min(max(PIECE_BYTES // pixels, 1), 64)
    ranges = [
        range(start, min(start + size, len(source))) for start in range(done, len(source), size)
    ]
    if workers is None:
        few = len(source) * square.resolution**2 <= FEW_PIXELS
        workers = 0 if few else min(cores(), len(ranges))
    with Workers(partial(make_piece, source.without_lists(), square, layout), workers) as pool:
        yield from pool.map((r, source.items[r.start : r.stop]) for r in ranges)


def make_piece(source: Source, square: Square, layout: Layout, piece: tuple[range, Items]) -> Piece:
    """A worker's job: read a range of images, write all their levels and report."""
    indices, items = piece
    found = replace(source, items=items).read_batch(range(len(items)), square)
    bad = [
        (i, str(x), x.size if isinstance(x, TooSmall) else None)
        for i, x in zip(indices, found, strict=True)
        if isinstance(x, BadImage)
    ]
    r = square.resolution
    blank = np.zeros((square.channels, r, r), np.uint8)  # keeps a bad image's place
    images = [blank if isinstance(x, BadImage) else x for x in found]
    step = max(1, AT_ONCE_BYTES // blank.size)
    parts = [box_levels(np.stack(images[k : k + step]), 4) for k in range(0, len(images), step)]
    levels = {r: np.concatenate([part[r] for part in parts]) for r in layout.levels}
    layout.write_digests(indices.start, levels)
    for r in layout.raw:
        layout.write(r, indices.start, levels[r])
    left_out = {i - indices.start for i, _, _ in bad}
    records = {
        r: [b"" if k in left_out else to_png(image) for k, image in enumerate(levels[r])]
        for r in layout.png
    }
    return Piece(indices.start, indices.stop, bad, records)
