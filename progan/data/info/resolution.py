"""The largest resolution that nearly all images have."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from progan.config.resolutions import MAX_RESOLUTION, resolutions_to
from progan.data.decode import Box, side_of
from progan.data.info.survey import Survey, survey_headers
from progan.data.pyramid.bad_images import largest_had
from progan.data.sources.source import Source
from progan.runtime.errors import UserError

NEAR = 0.9  # of a resolution: enlarging from there is hardly seen


class Choice(NamedTuple):
    resolution: int
    too_small: list[int]  # indices of images seen that are too small for it, smallest first


def choose(
    sizes: Mapping[int, tuple[int, int]], count: int, fit: str | Box, max_bad: int
) -> Choice | None:
    """The largest resolution up to 1024 that nearly all images have (see `largest_had`).

    Args:
        sizes: of the images seen, by index.
        count: number of all images.
    """
    sides = {i: side_of(size, fit) for i, size in sizes.items()}
    share = max_bad * len(sides) // max(count, 1)  # of `max_bad`, for those seen
    resolution = largest_had(sides.values(), len(sides), share, MAX_RESOLUTION)
    if resolution is None:
        return None
    small = [i for i, side in sides.items() if side < resolution]
    return Choice(resolution, sorted(small, key=lambda i: (sides[i], i)))


def resolution_table(sizes: Counter[tuple[int, int]]) -> list[tuple[int, int]]:
    """How many images have a resolution, from the largest that any has to one that all have."""
    table = []
    for resolution in reversed(resolutions_to(MAX_RESOLUTION)):
        count = sum(n for size, n in sizes.items() if min(size) >= resolution)
        if count:
            table.append((resolution, count))
        if count == sizes.total():
            break
    return table


def near_misses(sizes: Counter[tuple[int, int]], resolution: int) -> str:
    """What enlarging some images to the next resolution would bring; empty if nothing."""
    larger = 2 * resolution
    near = sum(n for size, n in sizes.items() if NEAR * larger <= min(size) < larger)
    smaller = sum(n for size, n in sizes.items() if min(size) < NEAR * larger)
    if not near or larger > MAX_RESOLUTION:
        return ""
    rest = f"; {smaller:,} others would be enlarged by more, and be blurred" if smaller else ""
    return (
        f"{near:,} more are within 10 % of {larger}x{larger}: with data.allow_upscale=true and "
        f"network.resolution={larger} they are enlarged, which is hardly seen{rest}"
    )


def choose_resolution(source: Source, fit: str | Box, max_bad: int) -> tuple[int, str]:
    """The largest resolution that nearly all images have (see `choose`), and a line on it.

    Raises:
        UserError: there is none.
    """
    seen = survey_headers(source)
    choice = choose(seen.headers, len(source), fit, max_bad)
    if choice:
        r, left_out = choice.resolution, left_out_line(choice, source, seen)
        looked_at = f"({seen.seen:,} of {len(source):,} looked at)"
        said = f"{r}x{r} is the largest resolution that nearly all images have {looked_at}"
        return r, f"{said}; {left_out}" if left_out else said
    if not seen.sizes:
        i, why = next(iter(seen.bad.items()))
        raise UserError(
            f"{source.name}: none of {seen.seen} images looked at can be read "
            f"({source.item_name(i)}: {why}); mend or replace them"
        )
    size = min(seen.sizes, key=lambda size: side_of(size, fit))
    lacks, remedy = "are smaller than 4x4", "enlarge them with --allow-upscale --max-resolution 4"
    if not isinstance(fit, str):
        x, y, side = fit
        lacks, remedy = f"do not hold the crop {x},{y},{side}", "take another --crop"
    raise UserError(
        f"{source.name}: too many images {lacks} (one has {size[0]}x{size[1]}); remove them, or "
        f"{remedy}"
    )


def left_out_line(choice: Choice, source: Source, seen: Survey) -> str:
    """How many images seen are too small, and which two are the smallest; empty if none is."""
    small = choice.too_small
    if not small:
        return ""
    named = [f"{source.item_name(i)}, {'x'.join(map(str, seen.headers[i]))}" for i in small[:2]]
    return f"{len(small):,} smaller will be left out ({'; '.join(named + ['…'][: len(small) > 2])})"
