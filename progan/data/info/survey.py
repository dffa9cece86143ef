"""Sizes and kinds of a source's images, and which are bad."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from progan.data.colour import Profile, has_clear_parts, profile_of
from progan.data.decode import BadImage, Content, Square, open_image, read_square
from progan.data.depth import Values, deep_pixels, extremes, kind_of, to_8_bits
from progan.data.info.copies import repeats_in
from progan.data.metadata import has_more_frames, is_generated, orientation, upright_size
from progan.data.pyramid.repeats import Repeats
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
    small: bytes = b""  # its pixels at 4x4
    profile: Profile | None = None  # without its transform
    clear: bool = False  # whether parts of it are transparent
    more: bool = False  # whether its file has more pages or frames
    generated: bool = False  # whether it says that a model has drawn it
    # Smallest and largest, by kind, of arrays and of decoded images of more than 8 bits.
    values: dict[str, tuple[float, float]] = {}


def look_at_some(source: Source, decode: bool, indices: Sequence[int]) -> list[Look]:
    """A worker's job. decode: read images to their ends, to know that they can be used."""
    return [look_at(source, i, decode) for i in indices]


def look_at(source: Source, i: int, decode: bool) -> Look:
    look = Look()
    try:
        content = source.load(i)
        try:
            image = open_image(content, source.values)
            turned = orientation(image) > 1
            maker = content.dtype.name if isinstance(content, np.ndarray) else image.format
            look = Look(upright_size(image), f"{maker or 'image'} {image.mode}", turned)
        except Exception:  # of any type; `read_square` says in words what is wrong
            read_square(content, ANY_SIZE, source.values)
            raise
        if decode:
            small = read_square(image, ANY_SIZE, source.values).tobytes()
            look = look._replace(small=small, **look_within(content, image, source.values))
    except BadImage as error:
        return look._replace(bad=str(error))
    return look


def look_within(content: Content, image: Image.Image, ranges: Values | None) -> dict[str, Any]:
    """What a decoded image shows."""
    profile, more, values = profile_of(image), has_more_frames(image), {}
    generated = is_generated(image)
    if isinstance(content, np.ndarray):
        kind = kind_of(content.dtype)
        values = {kind.name if kind else "bytes": extremes(content)}
    elif kind := kind_of(image.mode):
        values = {kind.name: extremes(deep_pixels(image))}
        image = to_8_bits(image, ranges)
    return {
        "profile": profile and profile._replace(transform=None),
        "clear": has_clear_parts(image),
        "more": more,
        "generated": generated,
        "values": values,
    }


@dataclass(frozen=True)
class Survey:
    """What was seen of `seen` images."""

    seen: int
    sizes: Counter[tuple[int, int]]  # how many good images have a width and height
    kinds: Counter[str]  # how many good images are of a kind
    turned: int  # good images that EXIF turns
    bad: dict[int, str]  # why, by index
    headers: dict[int, tuple[int, int]]  # sizes, by index, that a resolution is chosen by
    profiles: Counter[Profile]  # how many good images have each
    clear: int  # good images of which parts are transparent
    more: int  # good images whose files have more pages or frames
    generated: int  # good images that say that a model has drawn them
    values: dict[str, tuple[float, float]]  # as in `Look`, of all good images
    repeats: Repeats = Repeats()

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
    sizes, small = [look.size for look in looks], [look.small for look in looks]
    jpeg = [look.kind.startswith(("JPEG ", "MPO ")) for look in looks]
    repeats = repeats_in(source, sizes, small, jpeg, workers)
    return replace(summed_up(range(len(source)), looks), repeats=repeats)


def survey_headers(source: Source, limit: int = HEADERS) -> Survey:
    """Reads the headers of some images, spread evenly over the source."""
    indices = evenly(len(source), limit)
    with without_pil_warnings():
        return summed_up(indices, look_at_some(source, False, indices))


def summed_up(indices: Sequence[int], looks: list[Look]) -> Survey:
    good = [look for look in looks if not look.bad]
    chosen = evenly(len(looks), HEADERS)  # bad ones too: a header does not show a damaged body
    values: dict[str, tuple[float, float]] = {}
    for kind, (low, high) in (item for look in good for item in look.values.items()):
        least, most = values.get(kind, (low, high))
        values[kind] = min(low, least), max(high, most)
    return Survey(
        len(looks),
        Counter(look.size for look in good if look.size),
        Counter(look.kind for look in good),
        sum(look.turned for look in good),
        {i: look.bad for i, look in zip(indices, looks, strict=True) if look.bad},
        {indices[k]: size for k in chosen if (size := looks[k].size)},
        Counter(look.profile for look in good if look.profile),
        sum(look.clear for look in good),
        sum(look.more for look in good),
        sum(look.generated for look in good),
        values,
    )
