"""Images that are left out: counted, named, and explained if they are too many."""

from collections import Counter
from collections.abc import Collection

import numpy as np

from progan.config.resolutions import resolutions_to
from progan.data.pyramid.pieces import Bad
from progan.data.sources.source import Source
from progan.runtime.errors import UserError

NEARLY_ALL = 100  # all but one in so many


class TooManyBad(UserError):
    """Only other images or options can help."""


class BadImages:
    """Bad images of a source that is being prepared at `resolution`.

    They are too many if there are more than `max_bad`, if no good one is left, or if half of all
    are too small: then the resolution is wrong, not the images.

    Args:
        found: those found so far; it grows.
    """

    def __init__(self, source: Source, resolution: int, max_bad: int, found: list[Bad]):
        self._source, self._resolution, self._max_bad = source, resolution, max_bad
        self.found = found

    @property
    def lines(self) -> list[str]:
        """`name: reason` of each."""
        return [f"{self._source.item_name(i)}: {why}" for i, why, _ in self.found]

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """How many are too small, by width and height."""
        return Counter(size for _, _, size in self.found if size)

    def check(self, seen: int) -> None:
        """Raises TooManyBad if too many of the first `seen` images are bad."""
        count, whole = len(self.found), seen == len(self._source)
        if count > self._max_bad or (whole and (2 * self.sizes.total() >= seen or count == seen)):
            raise self._error(seen)

    def check_classes(self) -> None:
        """Raises TooManyBad if a class has no image left: no model could ever make it."""
        labels = self._source.labels
        left = np.delete(np.arange(len(self._source)), [i for i, _, _ in self.found])
        if labels and (empty := labels.take(left).empty_classes):
            raise TooManyBad(
                f"data.labels: no image of class {', '.join(empty)} can be used; mend its images "
                "or remove them"
            )

    def _error(self, seen: int) -> TooManyBad:
        """Says what is wrong with the first `seen` images, and what would help."""
        source, count = self._source, len(self.found)
        unreadable = [
            line for line, (_, _, size) in zip(self.lines, self.found, strict=True) if not size
        ]
        causes, remedies = [], []
        if small := self.sizes.total():
            sizes = [f"{w}x{h} ({n})" for (w, h), n in self.sizes.most_common(8)]
            sizes[0] = sizes[0].replace(")", " images)").replace("(1 images", "(1 image")
            causes.append(f"{small} too small: {', '.join(sizes)}")
            sides = list(map(min, self.sizes.elements()))
            if best := largest_had(sides, seen, self._max_bad, self._resolution // 2):
                remedies.append(
                    f"resolution {best}, the largest that nearly all have "
                    f"(-o network.resolution={best}, --max-resolution {best})"
                )
            remedies.append("to enlarge them (data.allow_upscale, --allow-upscale)")
        if unreadable:
            more = "; …" if len(unreadable) > 3 else ""
            causes.append(f"{len(unreadable)} unreadable: {'; '.join(unreadable[:3])}{more}")
            remedies.append("mending or removing the files")
        if any("does not hold the crop" in line for line in unreadable):
            remedies.append("another square to take (data.fit, --crop)")
        if count < seen:
            remedies.append("to leave out more of them (data.max_bad, --max-bad)")
        of = f"the first {seen}" if seen < len(source) else f"the {seen}"
        limit = f", and data.max_bad is {self._max_bad}" if count > self._max_bad else ""
        return TooManyBad(
            f"{source.name}: {count} of {of} images cannot be used at resolution "
            f"{self._resolution}{limit}: {', and '.join(causes)}. "
            f"What helps: {'; or '.join(remedies)}"
        )


def largest_had(sides: Collection[int], seen: int, max_bad: int, limit: int) -> int | None:
    """The largest resolution up to `limit` that nearly all of the images seen have; None if none.

    One in NEARLY_ALL may be too small, rounded up, so that one odd image decides nothing; but never
    half of them, nor more than `max_bad`.

    Args:
        sides: of those seen that may be too small.
    """
    most = min(-(-seen // NEARLY_ALL), max_bad)
    for resolution in reversed(resolutions_to(limit)):
        short = sum(side < resolution for side in sides)
        if short <= most and 2 * short < seen:
            return resolution
    return None
