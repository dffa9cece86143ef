"""Images deeper than 8 bits: which of their values are black and white, for a whole data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

DARK, NEARLY_BLACK = 2, 8  # less than these parts of a range leave images so
# Images of -1 … 1 that are just bright lie within 0 … 1, too, but do not begin so near to 0.
NEAR_ZERO = 0.15
FEW_OUTSIDE = 0.25  # of an image's values may lie outside of the range, and are clipped
MIN_IS_WHITE = "min-is-white"  # in the `info` of an image whose smallest value is white
TWELVE_BITS = "twelve-bits"  # in the `info` of an image whose values are 0 … 4095


class BadImage(Exception):
    """An image that cannot be used, and why."""


class Kind(NamedTuple):
    """Ranges that images of a kind come in, and how their values decide between them."""

    name: str
    ranges: tuple[tuple[float, float], ...]  # (black, white); the first that fits is taken
    slack: float  # values may lie so far outside, in widths of the range: Lanczos overshoots
    least: float  # part of the range that must be used, unless it is the first
    least_outside: float  # and if values lie outside of it


FLOATS = Kind("floats", ((0, 1), (-1, 1), (0, 255), (0, 65535)), 0.3, 1 / 64, 0)
# Only those with a sign overshoot: else 0 … 300 is not 0 … 255, but dark.
INTEGERS = Kind("integers", ((0, 255), (0, 65535), (0, 2**31 - 1)), 0.3, 1 / 256, 0.5)


@dataclass(frozen=True)
class Range:
    """Values of images: `low` becomes black, `high` white, what lies outside is clipped.

    Args:
        seen: the smallest and the largest value, of nearly all of the images looked at.
        dim: how many of the `looked_at` images fit a smaller range.
        inverted: whether most of them are MinIsWhite: there `low` becomes white, `high` black.
    """

    low: float
    high: float
    seen: tuple[float, float]
    dim: int = 0
    looked_at: int = 0
    inverted: bool = False

    def __str__(self) -> str:
        return f"{self.seen[0]:,.6g} … {self.seen[1]:,.6g}, of {self.low:,} … {self.high:,}"

    @property
    def ends(self) -> tuple[str, str]:
        """What `low` and `high` become."""
        return ("white", "black") if self.inverted else ("black", "white")

    @property
    def is_dark(self) -> bool:
        return self.seen[1] - self.low < (self.high - self.low) / DARK


@dataclass(frozen=True)
class Values:
    """The ranges of a data set's images of floats, and of its integers of more than 8 bits.

    A text in place of a range says why such images cannot be used.
    """

    floats: Range | str | None = None  # None: none was seen
    integers: Range | str | None = None

    def __str__(self) -> str:
        """What to say of them; empty if there is nothing."""
        return "; ".join(
            f"{name} run from {of.seen[0]:,.6g} to {of.seen[1]:,.6g}, where {of.low:,} is "
            f"{of.ends[0]} and {of.high:,} is {of.ends[1]}"
            for name, of in self.ranges.items()
        )

    @property
    def ranges(self) -> dict[str, Range]:
        """By kind: `floats`, `integers`."""
        both = {FLOATS.name: self.floats, INTEGERS.name: self.integers}
        return {name: found for name, found in both.items() if isinstance(found, Range)}


def kind_of(mode: str | np.dtype) -> Kind | None:
    """Of a PIL mode or a type of array; None: 8 bits or fewer."""
    if isinstance(mode, np.dtype):
        return INTEGERS if mode.itemsize > 1 else None
    return FLOATS if mode == "F" else INTEGERS if mode.startswith("I") else None


def deep_pixels(image: Image.Image) -> np.ndarray:
    """The values of an image of more than 8 bits; of 12 bits as of 16, which PIL does not do."""
    pixels = np.asarray(image)
    return pixels << 4 | pixels >> 8 if TWELVE_BITS in image.info else pixels


def extremes(pixels: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value. Raises BadImage if one is not finite."""
    low, high = pixels.min().item(), pixels.max().item()
    if not np.isfinite([low, high]).all():
        raise BadImage("has pixels that are not finite")
    return low, high


def find_range(kind: Kind, found: Sequence[tuple[float, float]]) -> Range | str:
    """The range of images with these extremes, or why there is none.

    One in ten of the images decides nothing: a single odd one must not make all others black.
    """
    low = float(np.quantile([low for low, _ in found], 0.1, method="lower"))
    high = float(np.quantile([high for _, high in found], 0.9, method="higher"))
    for k, (black, white) in enumerate(kind.ranges):
        used = high / white
        signed = black == 0 or low <= 0.7 * black  # floats of 0 … 1 overshoot below 0, too
        enough = k == 0 or used >= kind.least
        if fits(kind, (black, white), (low, high)) and signed and enough:
            smaller = kind.ranges[:k]
            dim = sum(
                black < most and any(fits(kind, of, (least, most)) for of in smaller)
                for least, most in found
                if black == 0 or abs(least) <= NEAR_ZERO
            )
            return Range(black, white, (low, high), dim, len(found))
    fitting = ", ".join(f"{black:,} … {white:,}" for black, white in kind.ranges)
    return (
        f"holds {kind.name}, and those of this data set run from {low:,.6g} to {high:,.6g}, which "
        f"is none of {fitting}; scale all images alike, for example to 0 … 255 and 8 bits"
    )


def fits(kind: Kind, ends: tuple[float, float], seen: tuple[float, float]) -> bool:
    """Whether values `seen` lie within a range, but for what overshoots."""
    (black, white), (low, high) = ends, seen
    within = black <= low and high <= white
    slack = kind.slack * (white - black)
    near = black - slack <= low and high <= white + slack
    signed = kind is FLOATS or low < 0
    return within or (near and signed and high >= kind.least_outside * white)


def to_bytes(pixels: np.ndarray, kind: Kind, values: Values | None) -> np.ndarray:
    """Pixels as uint8.

    Args:
        values: of the data set; None: this image is all of it.

    Raises:
        BadImage: their range is not known, or not that of the data set.
    """
    low, high = extremes(pixels)
    of = find_range(kind, [(low, high)]) if values is None else getattr(values, kind.name)
    if of is None and kind is INTEGERS:
        of = Range(0, 65535, (low, high))
    if not isinstance(of, Range):
        raise BadImage(of or "holds floats, unlike the images whose range was looked at")
    slack = kind.slack * (of.high - of.low)
    if low < of.low - slack or high > of.high + slack:
        outside = (pixels < of.low - slack) | (pixels > of.high + slack)
        if outside.mean() > FEW_OUTSIDE:
            raise BadImage(
                f"has values of {low:,.6g} … {high:,.6g}, in a data set of {of.low:,} … {of.high:,}"
            )
    x = (pixels.astype(np.float64) - of.low) * (255 / (of.high - of.low))
    return np.rint(x.clip(0, 255)).astype(np.uint8)


def to_8_bits(image: Image.Image, values: Values | None) -> Image.Image:
    """An image of mode I, I;16… or F as L, or as LA if one of its values is transparent."""
    kind = kind_of(image.mode)
    assert kind
    pixels = deep_pixels(image)
    x = to_bytes(pixels, kind, values)
    grey = Image.fromarray(255 - x if MIN_IS_WHITE in image.info else x)
    if "icc_profile" in image.info:
        grey.info["icc_profile"] = image.info["icc_profile"]
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(pixels == clear, 0, 255).astype(np.uint8)))
    return grey
