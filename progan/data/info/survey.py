"""What the images of a source are: sizes, kinds, labels, which are bad. Nothing is printed here."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
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
from progan.data.pyramid.plan import Plan, make_plan
from progan.data.sources.source import Source, evenly
from progan.data.workers import Workers, cores
from progan.runtime.progress import progress_bar

HEADERS = 1000  # images whose size is looked at to choose a resolution
PIECE = 16  # images that a worker looks at before it reports
FEW = 64  # images are looked at here before workers have even started
ANY_SIZE = Square(4, 3, "crop", upscale=True)  # what any image that can be used can be made into


class Look(NamedTuple):
    """One image: why it is bad, if it is; upright size and kind (`JPEG RGB`) if it has them.

    values: smallest, largest and possible, of arrays and of images of 16 bits that were decoded.
    """

    bad: str
    size: tuple[int, int] | None = None
    kind: str = ""
    turned: bool = False
    values: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Looker:
    """A worker's job. decode: read images to their ends, to know that they can be used."""

    source: Source
    decode: bool = True

    def __call__(self, indices: Sequence[int]) -> list[Look]:
        return [self._look(i) for i in indices]

    def _look(self, i: int) -> Look:
        try:
            return look_at(self.source.load(i), self.decode)
        except BadImage as error:
            return Look(str(error))


def look_at(content: Content, decode: bool) -> Look:
    """See `Looker`. Raises BadImage if it cannot even be opened."""
    try:
        image = open_image(content)
        turned = image.getexif().get(ORIENTATION, 1) > 1
        maker = content.dtype.name if isinstance(content, np.ndarray) else image.format
        look = Look("", upright_size(image), f"{maker or 'image'} {image.mode}", turned)
    except Exception:  # as broken files have it; what follows says it in words
        read_square(content, ANY_SIZE)
        raise
    try:
        if decode:
            read_square(image, ANY_SIZE)
            look = look._replace(values=_range(content, image))
    except BadImage as error:
        return look._replace(bad=str(error))
    return look


def _range(content: Content, image: Image.Image) -> tuple[int, int, int] | None:
    array = isinstance(content, np.ndarray)
    if not array and not image.mode.startswith("I"):
        return None
    x = content if array else np.asarray(image)
    return int(x.min()), int(x.max()), 255 if x.dtype == np.uint8 else 65535


@dataclass(frozen=True)
class Survey:
    """What was seen of images: counts of (width, height) and of kinds, of those that are good.

    turned: images that EXIF turns. bad: why, by index. headers: the sizes, by index, that preparing
    looks at to choose a resolution. values: smallest, largest and possible; see `Look`.
    """

    seen: int
    sizes: Counter[tuple[int, int]]
    kinds: Counter[str]
    turned: int
    bad: dict[int, str]
    headers: dict[int, tuple[int, int]] = field(default_factory=dict)
    values: tuple[int, int, int] | None = None

    @property
    def not_square(self) -> int:
        return sum(n for (width, height), n in self.sizes.items() if width != height)


def survey(
    source: Source, workers: int | None = None, say: Callable[[str], None] | None = None
) -> Survey:
    """Every image, decoded. workers: processes that do it; None: one a core."""
    ranges = [
        range(start, min(start + PIECE, len(source))) for start in range(0, len(source), PIECE)
    ]
    if workers is None:
        workers = 0 if len(source) <= FEW else min(cores(), len(ranges))
    looks: list[Look] = []
    with (
        progress_bar(f"looking at {source.name}", len(source), 0, say) as advance,
        Workers(Looker(replace(source, labels=None)), workers) as pool,
    ):
        for piece in pool.map(ranges):
            looks += piece
            advance(len(piece))
    return _sum_up(range(len(source)), looks)


def survey_headers(source: Source, limit: int = HEADERS) -> Survey:
    """Some images, spread evenly over the source, as far as their first bytes tell."""
    indices = evenly(len(source), limit)
    with Workers(Looker(source, decode=False), 0) as here:
        return _sum_up(
            indices, [look for looks in here.map([[i] for i in indices]) for look in looks]
        )


def _sum_up(indices: Sequence[int], looks: list[Look]) -> Survey:
    good = [look for look in looks if not look.bad]
    chosen = evenly(len(looks), HEADERS)  # of a bad file's body nothing can be seen in its header
    values = list(zip(*(look.values for look in good if look.values), strict=True))
    return Survey(
        len(looks),
        Counter(look.size for look in good),
        Counter(look.kind for look in good),
        sum(look.turned for look in good),
        {i: look.bad for i, look in zip(indices, looks, strict=True) if look.bad},
        {indices[k]: looks[k].size for k in chosen if looks[k].size},
        (min(values[0]), max(values[1]), max(values[2])) if values else None,
    )


def plans(source: Source, resolution: int, channels: int) -> tuple[Plan, Plan]:
    """What a pyramid would take with all levels as arrays, and with PNG records."""
    square = Square(resolution, channels, "crop", upscale=True)
    return make_plan(source, square, "raw", 0), make_plan(source, square, "png", 0)
