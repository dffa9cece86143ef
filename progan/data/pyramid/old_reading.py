"""Pyramids that an earlier progan has made of images that are read into other pixels today."""

import logging

import numpy as np

from progan.data.decode import READING, Square
from progan.data.pyramid.format import Pyramid
from progan.data.sources.source import Source, evenly
from progan.data.workers import without_pil_warnings
from progan.runtime.launch import prints_errors

LOOKED_AT = 16  # images that are read again
SAME = 1  # level that an image may differ by on average, as versions of JPEG decoders do

log = logging.getLogger("progan")


def warn_of_old_reading(pyramid: Pyramid, source: Source, square: Square) -> None:
    """Logs a warning if some of the source's images are other pixels in its pyramid."""
    if pyramid.meta.reading >= READING or not prints_errors():
        return
    # Up to its count each image has its own place; bad ones, whose places others take, are skipped.
    indices = [i for i in evenly(len(source), LOOKED_AT) if i < pyramid.count]
    with without_pil_warnings():
        today = source.read_batch(indices, square)
    kept = pyramid.read(np.array(indices), square.resolution)
    changed = sum(
        isinstance(image, np.ndarray) and np.abs(image - old.astype(np.int16)).mean() > SAME
        for image, old in zip(today, kept, strict=True)
    )
    if changed:
        log.warning(
            "%s: %d of %d images looked at were prepared by an earlier progan, which read their "
            "colours or depth otherwise (see Depth and colours in docs/data.md). A run that has "
            "begun on them goes on only with them; for a new one delete %s",
            source.name,
            changed,
            len(indices),
            pyramid.path,
        )
