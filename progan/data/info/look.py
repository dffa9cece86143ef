"""What a run would find in its data, before any of it is prepared."""

from collections.abc import Iterator

from progan.config.config import Config
from progan.data.decode import TooSmall, side_of
from progan.data.info.report import GREY
from progan.data.info.survey import Survey, survey_headers
from progan.data.opening import fit_of
from progan.data.pyramid.bad_images import BadImages
from progan.data.sources.source import Source

SHOWN = 3  # images that are named


def look(config: Config, source: Source) -> tuple[bool, list[str]]:
    """Whether all images looked at are grey, and lines on those that would be left out.

    Looks at the headers of some images, spread evenly.

    Raises:
        UserError: they show that the run could not be trained.
    """
    seen = survey_headers(source)
    left_out = BadImages(source, config.network.resolution, config.data.max_bad, [])
    left_out.found += unusable(config, seen)
    left_out.check(seen.seen)
    grey = bool(seen.kinds) and all(kind.split()[1] in GREY for kind in seen.kinds)
    lines = left_out.lines
    if not lines:
        return grey, [f"{seen.seen:,} looked at: all can be used"]
    more = ["…"] if len(lines) > SHOWN else []
    named = "; ".join(lines[:SHOWN] + more)
    return grey, [f"{seen.seen:,} looked at: {len(lines):,} would be left out ({named})"]


def unusable(config: Config, seen: Survey) -> Iterator[tuple[int, str, tuple[int, int] | None]]:
    """The index of each image that would be left out, why, and its size if that is too small."""
    resolution, fit = config.network.resolution, fit_of(config.data)
    for i, why in seen.bad.items():
        yield i, why, None
    for i, size in seen.headers.items():
        side = side_of(size, fit)
        if i not in seen.bad and side < resolution and not (config.data.allow_upscale and side):
            yield i, str(TooSmall(size, resolution)), size
