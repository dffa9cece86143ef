"""Images that are there more than once, and images that show nothing or next to nothing."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from progan.data.labels import Labels
from progan.data.pyramid.digests import digests_of
from progan.runtime.text import printable

NAMED = 3  # blank images
WHITE = 255
BLACKISH = 32  # if nearly all images are darker at 4x4, a person sees nothing
NEARLY_ALL = 0.9


@dataclass(frozen=True)
class Repeats:
    """What whoever trains on some images should know."""

    copies: int = 0  # images whose pixels are exactly those of an earlier one
    most_copied: str = ""  # the image that is there most often,
    times: int = 0  # and how often
    contradictory: int = 0  # copies with another label than the first
    dropped: int = 0  # copies that were left out
    blank: int = 0  # images of a single colour
    blank_names: tuple[str, ...] = ()  # of the first of them
    brightest: int = WHITE  # of nearly all images, at 4x4

    def lines(self, count: int) -> list[str]:
        """Sentences, if there is anything to say. count: of all images."""
        return self.lines_on_copies(count) + self.lines_on_darkness

    def lines_on_copies(self, count: int) -> list[str]:
        """Those on copies and on blank images."""
        lines = []
        if self.dropped:
            what = "an exact copy" if self.dropped == 1 else "exact copies"
            lines.append(f"{some(self.dropped)} left out as {what} (data.drop_copies)")
        if self.copies:
            one = self.copies == 1
            what = "is an exact copy of another" if one else "are exact copies of others"
            lines.append(
                f"{self.copies:,} of {count:,} images {what}; {printable(self.most_copied)} is "
                f"there {self.times:,} times"
            )
            if self.copies > self.contradictory:  # which stay
                lines[-1] += "; data.drop_copies=true (prepare --drop-copies) leaves out all but "
                lines[-1] += "the first of each"
        if self.contradictory:
            have = "has" if self.contradictory == 1 else "have"
            lines.append(
                f"labels contradict each other: {self.contradictory:,} of the copies {have} "
                "another label than the same image elsewhere; remove the wrong ones"
            )
        if self.blank:
            names = ", ".join(map(printable, self.blank_names))
            more = ", …" if self.blank > len(self.blank_names) else ""
            lines.append(
                f"{some(self.blank)} blank, all of one colour: {names}{more}; if they are "
                "transparent, another data.background may show them"
            )
        return lines

    @property
    def lines_on_darkness(self) -> list[str]:
        """One if nearly all images are nearly black, as 8-bit images of fewer bits are."""
        if self.brightest >= BLACKISH:
            return []
        return [
            f"the images are nearly black: at 4x4, {NEARLY_ALL:.0%} of them have no value above "
            f"{self.brightest} of {WHITE}; if their values are those of fewer bits, or numbers of "
            "classes, scale them first"
        ]


def brightest_in(smallest: np.ndarray) -> int:
    """The largest value of nearly all images at 4x4, uint8 [n, C, 4, 4]."""
    largest = smallest.reshape(len(smallest), -1).max(1)
    return int(np.quantile(largest, NEARLY_ALL, method="higher"))


def some(count: int) -> str:
    """`1 image is`, `2 images are`."""
    return "1 image is" if count == 1 else f"{count:,} images are"


def first_alike(digests: np.ndarray, labels: Labels | None = None) -> np.ndarray:
    """For each image the first one that is equal, itself if there is none before: int64 [n].

    Args:
        labels: must be equal, too.
    """
    keys = digests[:, None]
    if labels:
        rows = labels.values.reshape(len(digests), -1)
        keys = np.column_stack([digests, np.unique(rows, axis=0, return_inverse=True)[1].ravel()])
    _, index, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return index[inverse.ravel()]


def blank_ones(smallest: np.ndarray, digests: np.ndarray, resolution: int) -> np.ndarray:
    """The images of a single colour: indices int64 [k].

    Args:
        smallest: images at 4x4, uint8 [n, C, 4, 4].
        digests: of the same images at `resolution`: uint64 [n].
    """
    flat = smallest.reshape(*smallest.shape[:2], -1)
    candidates = np.flatnonzero((flat == flat[..., :1]).all((1, 2)))
    colours, which = np.unique(flat[candidates, :, 0], axis=0, return_inverse=True)
    if not len(colours):
        return candidates
    shape = (1, colours.shape[1], resolution, resolution)
    plain = [digests_of(np.broadcast_to(c[:, None, None], shape)) for c in colours]
    return candidates[np.concatenate(plain)[which.reshape(-1)] == digests[candidates]]


def find_repeats(
    digests: np.ndarray,
    labels: Labels | None,
    blank: np.ndarray,
    name_of: Callable[[int], str],
    smallest: np.ndarray,
    dropped: int = 0,
) -> Repeats:
    """What there is to say of some images.

    Args:
        digests: of the images at the largest resolution: uint64 [n].
        blank: indices of blank images.
        smallest: the images at 4x4: uint8 [n, C, 4, 4].
        dropped: copies that were left out before.
    """
    first = first_alike(digests)
    copies = np.flatnonzero(first != np.arange(len(first)))
    times, contradictory = np.bincount(first), 0
    if labels:
        rows = labels.values.reshape(len(digests), -1)
        contradictory = int((rows[copies] != rows[first[copies]]).any(1).sum())
    return Repeats(
        copies=len(copies),
        most_copied=name_of(int(times.argmax())) if len(copies) else "",
        times=int(times.max()) if len(copies) else 0,
        contradictory=contradictory,
        dropped=dropped,
        blank=len(blank),
        blank_names=tuple(name_of(i) for i in blank[:NAMED].tolist()),
        brightest=brightest_in(smallest) if len(smallest) else WHITE,
    )
