"""Which values are black and white in the images of a source that are deeper than 8 bits."""

import logging
from collections import Counter
from dataclasses import replace
from typing import TypeVar

import numpy as np
from PIL import Image

from progan.data.decode import Content, open_image
from progan.data.depth import (
    FLOATS,
    INTEGERS,
    MIN_IS_WHITE,
    NEARLY_BLACK,
    BadImage,
    Kind,
    Range,
    Values,
    deep_pixels,
    extremes,
    find_range,
    kind_of,
)
from progan.data.sources.source import Source, evenly
from progan.data.workers import without_pil_warnings
from progan.runtime.launch import prints_errors

MANY = 20  # one image in so many is worth a word
NARROWED = ("LA", "RGB", "RGBA", "CMYK")

log = logging.getLogger("progan")

S = TypeVar("S", bound=Source)


def with_values(source: S) -> S:
    """The source, its `values` known."""
    if source.values is not None:
        return source
    found: dict[str, list[tuple[float, float]]] = {FLOATS.name: [], INTEGERS.name: []}
    inverted = Counter[str]()
    with without_pil_warnings():
        for content in source.load_some(evenly(len(source), source.looked_at)):
            kind, ends, is_inverted = look(content)
            if kind and ends:
                found[kind.name].append(ends)
                inverted[kind.name] += is_inverted
    ranges: list[Range | str | None] = []
    for kind in (FLOATS, INTEGERS):
        some = found[kind.name]
        of = find_range(kind, some) if some else None
        if isinstance(of, Range):
            of = replace(of, inverted=2 * inverted[kind.name] > len(some))
        ranges.append(of)
    return replace(source, values=Values(*ranges))


def warn_of_darkness(source: Source) -> None:
    """Logs a warning if the source's images, or some, use so little of their range that they are
    dark; or light, where the smallest value is white."""
    values = with_values(source).values
    for kind, of in values.ranges.items() if values and prints_errors() else ():
        if of.is_dark:
            log.warning("%s: %s", source.name, darkness(kind, of))
        elif of.dim * MANY > of.looked_at:
            log.warning("%s: %s", source.name, dimness(of))


def look(content: Content | BadImage) -> tuple[Kind | None, tuple[float, float] | None, bool]:
    """Kind and extremes of an image, and whether the smallest value is white; None for 8 bits, and
    for a bad one."""
    if isinstance(content, BadImage):  # raised again where it is read
        return None, None, False
    try:
        if isinstance(content, np.ndarray):
            return kind_of(content.dtype), extremes(content), False
        image = open_image(content)
        kind = kind_of(image.mode)
        if is_narrowed(image):
            low, high = extremes(np.asarray(image))
            return INTEGERS, (257 * low, 257 * high), False
        ends = extremes(deep_pixels(image)) if kind else None
        return kind, ends, MIN_IS_WHITE in image.info
    except MemoryError:
        raise
    except Exception:  # of any type; raised again where it is read
        return None, None, False


def is_narrowed(image: Image.Image) -> bool:
    """Whether PIL keeps the upper 8 of 16 bits, as it does of RGB, CMYK and grey with alpha."""
    tiles = getattr(image, "tile", [])
    return image.mode in NARROWED and any(";16" in str(tile[3]) for tile in tiles)


def darkness(kind: str, of: Range) -> str:
    """A warning, and what helps."""
    largest, white = f"{of.seen[1]:,.6g}", f"{of.high:,}"
    helps = "scale them first"
    if of.low == 0 and of.seen[1] > 0:
        factor = f"({of.high} // {of.seen[1]:.0f})" if kind == INTEGERS.name else ""
        helps += f", for example x * {factor or f'({of.high} / {of.seen[1]:.6g})'}"
    part = (of.seen[1] - of.low) / (of.high - of.low)
    dark = "light" if of.inverted else "dark"
    if part < 1 / NEARLY_BLACK:
        dark = f"nearly {of.ends[0]}"
    bits = "16-bit images" if of.high == 65535 and kind == INTEGERS.name else f"images of {kind}"
    return (
        f"the largest value seen in its {bits} is {largest} of {white}, so they will be {dark}; "
        f"{helps}"
    )


def dimness(of: Range) -> str:
    """A warning of images that are black beside others, or pale."""
    return (
        f"{of.dim} of {of.looked_at} images of more than 8 bits looked at lie within a smaller "
        f"range than {of.low:,} … {of.high:,}, which the others need, so they will be "
        f"{f'nearly {of.ends[0]}' if of.low == 0 else 'pale'}; if that is wrong, scale them first"
    )
