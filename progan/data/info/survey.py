"""Sizes and kinds of a source's images, and which are bad."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image

from progan.data.decode import (
    ORIENTATION,
    BadImage,
    Content,
    Square,
    open_image,
    read_square,
    upright_size,
)
from progan.data.sources.source import Source, evenly
from progan.data.workers import Workers, cores, without_pil_warnings
from progan.runtime.progress import Say, progress_bar

HEADERS = 1000  # images whose size is read to choose a resolution
PIECE = 16  # images that a worker reads before it reports
FEW = 64  # images are read here before workers have even started
ANY_SIZE = Square(4, 3, "crop", upscale=True)  # every usable image can be made into this


class Look(NamedTuple):
    """What was seen of one image."""

    size: tuple[int, int] | None = None  # upright, if the header could be read
    kind: str = ""  # such as `JPEG RGB`
    turned: bool = False  # by EXIF
    bad: str = ""  # why, if it is
    # Smallest, largest and largest possible, of arrays and of decoded images of 16 bits.
    values: tuple[int, int, int] | None = None


def look_at_some(source: Source, decode: bool, indices: Sequence[int]) -> list[Look]:
    """A worker's job. decode: read images to their ends, to know that they can be used."""
    return [look_at(source, i, decode) for i in indices]


def look_at(source: Source, i: int, decode: bool) -> Look:
    look = Look()
    try:
        content = source.load(i)
        try:
            image = open_image(content)
            turned = image.getexif().get(ORIENTATION, 1) > 1
            maker = content.dtype.name if isinstance(content, np.ndarray) else image.format
            look = Look(upright_size(image), f"{maker or 'image'} {image.mode}", turned)
        except Exception:  # of any type; `read_square` says in words what is wrong
            read_square(content, ANY_SIZE)
            raise
        if decode:
            read_square(image, ANY_SIZE)
            look = look._replace(values=value_range(content, image))
    except BadImage as error:
        return look._replace(bad=str(error))
    return look


def value_range(content: Content, image: Image.Image) -> tuple[int, int, int] | None:
    """See `Look.values`."""
    if not isinstance(content, np.ndarray):
        if not image.mode.startswith("I"):
            return None
        content = np.asarray(image)
    return int(content.min()), int(content.max()), 255 if content.dtype == np.uint8 else 65535


@dataclass(frozen=True)
class Survey:
    """What was seen of `seen` images."""

    seen: int
    sizes: Counter[tuple[int, int]]  # how many good images have a width and height
    kinds: Counter[str]  # how many good images are of a kind
    turned: int  # good images that EXIF turns
    bad: dict[int, str]  # why, by index
    headers: dict[int, tuple[int, int]]  # sizes, by index, that a resolution is chosen by
    values: tuple[int, int, int] | None  # as in `Look`, of all good images

    @property
    def not_square(self) -> int:
        return sum(n for (width, height), n in self.sizes.items() if width != height)


def survey(source: Source, workers: int | None = None, say: Say = None) -> Survey:
    """Decodes every image, in `workers` processes; None: one for each core."""
    ranges = [
        range(start, min(start + PIECE, len(source))) for start in range(0, len(source), PIECE)
    ]
    if workers is None:
        workers = 0 if len(source) <= FEW else min(cores(), len(ranges))
    looks: list[Look] = []
    with (
        progress_bar(f"looking at {source.name}", len(source), 0, say) as advance,
        Workers(partial(look_at_some, replace(source, labels=None), True), workers) as pool,
    ):
        for piece in pool.map(ranges):
            looks += piece
            advance(len(piece))
    return summed_up(range(len(source)), looks)


def survey_headers(source: Source, limit: int = HEADERS) -> Survey:
    """Reads the headers of some images, spread evenly over the source."""
    indices = evenly(len(source), limit)
    with without_pil_warnings():
        return summed_up(indices, look_at_some(source, False, indices))


def summed_up(indices: Sequence[int], looks: list[Look]) -> Survey:
    good = [look for look in looks if not look.bad]
    chosen = evenly(len(looks), HEADERS)  # bad ones too: a header does not show a damaged body
    values = list(zip(*(look.values for look in good if look.values), strict=True))
    return Survey(
        len(looks),
        Counter(look.size for look in good if look.size),
        Counter(look.kind for look in good),
        sum(look.turned for look in good),
        {i: look.bad for i, look in zip(indices, looks, strict=True) if look.bad},
        {indices[k]: size for k in chosen if (size := looks[k].size)},
        (min(values[0]), max(values[1]), max(values[2])) if values else None,
    )
