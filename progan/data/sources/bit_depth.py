"""Whether 16-bit images use their range: those of 12-bit scanners would be nearly black."""

import logging

import numpy as np

from progan.data.decode import BadImage, open_image
from progan.data.sources.source import Source, evenly
from progan.data.workers import without_pil_warnings

LOOKED_AT = 16  # images
DARK = 2**13  # an eighth of the range

log = logging.getLogger("progan")


def warn_of_darkness(source: Source) -> None:
    """Logs a warning if the 16-bit images among a few of the source use little of their range."""
    indices = evenly(len(source), LOOKED_AT)
    with without_pil_warnings():
        largest = max((largest_of_16_bits(source, i) for i in indices), default=-1)
    if 0 <= largest < DARK:
        log.warning(
            "%s: the largest value seen in its 16-bit images is %s of 65,535, so they will be "
            "nearly black; scale them first, for example x * (65535 // %d)",
            source.name,
            f"{largest:,}",
            max(largest, 1),
        )


def largest_of_16_bits(source: Source, i: int) -> int:
    """-1 for an image of another depth, or a bad one."""
    try:
        content = source.load(i)
        if not isinstance(content, np.ndarray):
            image = open_image(content)
            content = np.asarray(image) if image.mode.startswith("I") else np.empty(0, np.uint8)
        return int(content.max()) if content.dtype.itemsize > 1 else -1
    except (BadImage, OSError, ValueError, SyntaxError):  # raised again where it is read
        return -1
