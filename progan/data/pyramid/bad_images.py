"""The images that are left out: counted, named, explained if they are too many."""

from collections import Counter

import numpy as np

from progan.config.resolutions import resolutions_to
from progan.data.pyramid.writer import Bad
from progan.data.sources.source import Source
from progan.runtime.errors import UserError


class TooManyBad(UserError):
    """The images, or the options, must be others."""


class BadImages:
    """Bad images of a source that is being prepared at `resolution`.

    They are too many if they are more than `max_bad`, or if none is left, or if most of all that
    can be read are too small: then the resolution is wrong, not the images.
    """

    def __init__(self, source: Source, resolution: int, max_bad: int):
        self._source, self._resolution, self._max_bad = source, resolution, max_bad
        self.lines: list[str] = []
        self._sizes: Counter[tuple[int, int]] = Counter()
        self._unreadable: list[str] = []
        self._indices: list[int] = []

    @property
    def count(self) -> int:
        return len(self.lines)

    def add(self, bad: list[Bad]) -> None:
        for i, why, size in bad:
            self.lines.append(f"{self._source.item_name(i)}: {why}")
            self._indices.append(i)
            if size:
                self._sizes[size] += 1
            else:
                self._unreadable.append(self.lines[-1])

    def check(self, seen: int) -> None:
        """Of the first `seen` images. Raises TooManyBad if the bad ones are too many."""
        whole = seen == len(self._source)
        if self.count > self._max_bad or (whole and 2 * self._sizes.total() >= seen):
            raise self._error(seen)
        if whole and self.count == seen:
            raise self._error(seen)

    def check_classes(self) -> None:
        """Raises TooManyBad if a class has no image left: no model could ever make it."""
        labels = self._source.labels
        left = np.delete(np.arange(len(self._source)), self._indices)
        if labels and (empty := labels.take(left).empty_classes):
            raise TooManyBad(
                f"data.labels: no image of class {', '.join(empty)} can be used; mend its images "
                "or remove them"
            )

    def _error(self, seen: int) -> TooManyBad:
        """What went wrong in the first `seen` images, and what would help."""
        small, source = self._sizes.total(), self._source
        causes, remedies = [], []
        if small:
            sizes = [f"{w}x{h} ({n})" for (w, h), n in self._sizes.most_common(8)]
            sizes[0] = sizes[0].replace(")", " images)").replace("(1 images", "(1 image")
            causes.append(f"{small} too small: {', '.join(sizes)}")
            if best := self._largest_that_would_do():
                remedies.append(
                    f"resolution {best}, the largest that would do (-o network.resolution={best}, "
                    f"--max-resolution {best})"
                )
            remedies.append("to enlarge them (data.allow_upscale, --allow-upscale)")
        if self._unreadable:
            more = "; …" if len(self._unreadable) > 3 else ""
            first = "; ".join(self._unreadable[:3])
            causes.append(f"{len(self._unreadable)} unreadable: {first}{more}")
            remedies.append("mending or removing the files")
        if any("does not hold the crop" in line for line in self._unreadable):
            remedies.append("another square to take (data.fit, --crop)")
        if self.count < seen:
            remedies.append("to leave out more of them (data.max_bad, --max-bad)")
        of = f"the first {seen}" if seen < len(source) else f"the {seen}"
        limit = f", and data.max_bad is {self._max_bad}" if self.count > self._max_bad else ""
        return TooManyBad(
            f"{source.name}: {self.count} of {of} images cannot be used at resolution "
            f"{self._resolution}{limit}: {', and '.join(causes)}. "
            f"What helps: {'; or '.join(remedies)}"
        )

    def _largest_that_would_do(self) -> int | None:
        """The largest resolution at which all but one in a hundred of the sizes suffice."""
        for resolution in reversed(resolutions_to(self._resolution // 2)):
            short = sum(n for size, n in self._sizes.items() if min(size) < resolution)
            if short <= self._sizes.total() // 100:
                return resolution
        return None
