"""Which files of a folder or an archive are images, by their names, and why others are left out."""

import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from progan.data.formats import HEIC, PICTURES, SUFFIXES
from progan.data.sources.label_tables import TABLES
from progan.runtime.extras import how_to_install
from progan.runtime.text import printable

# Folders and files that systems and programs keep for themselves, besides hidden ones.
BOOKKEEPING = re.compile(
    r"@(eadir|tmp|recycle|recently-snapshot|transcode|__thumb|sharebin|sharesnap|snapshots?|appstore"
    r"|appdata|apphome|apptemp|appconf|appshare|database|s2s|syno\w*)"  # Synology, QNAP
    r"|#(recycle|snapshots?|trash)|~snapshot"  # other network storage
    r"|\$(recycle\.bin|recycled|extend|winreagent|sysreset|windows\.~\w+)"
    r"|recycler|recycle\.bin|system volume information|found\.\d{3}"
    r"|thumbs\.db|ehthumbs(_vista)?\.db|desktop\.ini"  # Windows
    r"|lost\+found"  # Linux
    r"|__macosx|network trash folder|temporary items|thevolumesettingsfolder|icon\r"  # macOS
    r"|picasa\.ini|ipod photo cache|nksc_param|digikam4\.db|thumbnails-digikam\.db|.*\.lrdata"
    r"|files_trashbin|files_versions|appdata_oc\w+"  # Nextcloud
    r"|node_modules|__pycache__",
    re.IGNORECASE,
)
LIBRARY = re.compile(r".*\.photos?library", re.IGNORECASE)  # of Apple's Photos and iPhoto
PHOTOS = ("originals", "Masters")  # folders in it with photos; others hold what is made of them
# Folders of thumbnails, if the images whose names their files have lie next to them.
THUMBNAILS = re.compile(r"[@#$~].*|.*thumbs?|.*thumbnails?|_?previews?", re.IGNORECASE)
SIZED = re.compile(r"(.+)-\d{1,5}x\d{1,5}(\.\w+)")  # a.jpg as WordPress reduces it: a-150x150.jpg
MOST_REASONS = 8  # that are listed


def is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


@functools.lru_cache(10_000)  # folders come again and again
def is_kept(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or a system keeps it for itself."""
    hidden = name.startswith(".") and name not in (".", "..")
    return hidden or BOOKKEEPING.fullmatch(name) is not None


def kept_part(parts: Sequence[str]) -> str | None:
    """The first part of a path that `is_kept`, or lies in a library of photos without being one."""
    for outer, part in pairwise(("", *parts)):
        if is_kept(part) or (LIBRARY.fullmatch(outer) and part not in PHOTOS):
            return part
    return None


def why_left_out(name: str) -> str | None:
    """Why a file is not read, by its path from the source; None for images and tables of labels.

    Empty if nothing needs to be said: it is no image, and hidden or a system's.
    """
    *folders, last = name.split("/")
    image = is_image(last)
    kept = kept_part(folders)
    if kept is None and (last.startswith(".") or (not image and is_kept(last))):
        kept = last
    if kept is not None:
        return ("hidden" if kept.startswith(".") else f"in {kept}") if image else ""
    if image or last in TABLES:
        return None
    suffix = os.path.splitext(last)[1].lower()
    return suffix if suffix.strip(".") else "without a suffix"


def thumbnails(names: Sequence[str]) -> list[int]:
    """Indices of the images that are thumbnails of others by their place.

    That is in a folder with the name of an image that lies elsewhere (`@x/a.jpg/large.jpg`), in one
    for thumbnails next to the image of the same name (`thumbs/a.jpg`), or next to it with a size in
    its name (`a-150x150.jpg`).
    """
    folders = {name.rpartition("/")[0] for name in names}
    like_images = {f: set(filter(is_image, f.split("/"))) for f in folders}
    named = set().union(*like_images.values())
    small = {f for f in folders if THUMBNAILS.fullmatch(f.rpartition("/")[2])}
    if not named and not small and not any(map(SIZED.fullmatch, names)):
        return []  # most often
    split = [name.rpartition("/")[::2] for name in names]
    originals = {last for f, last in split if last in named and not like_images[f]}

    def copied(folder: str, name: str) -> Iterator[tuple[str, str]]:
        """Places of the images that this may be a thumbnail of."""
        if folder in small:
            yield folder.rpartition("/")[0], name
        if match := SIZED.fullmatch(name):
            yield folder, match[1] + match[2]

    wanted = {place for folder, name in split for place in copied(folder, name)}
    there = wanted.intersection(split) if wanted else set()
    return [
        i
        for i, (folder, name) in enumerate(split)
        if like_images[folder] & originals or any(p in there for p in copied(folder, name))
    ]


class LeftOut:
    """Files that are not read: how many for each reason, and one of them."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, str]] = {}

    def add(self, reason: str, name: str, count: int = 1) -> None:
        """Counts files. The example is the first by name, whatever order a disk has."""
        before, example = self.found.get(reason, (0, name))
        self.found[reason] = before + count, min(example, name)

    @classmethod
    def together(cls, parts: Iterable["LeftOut"]) -> "LeftOut":
        """The sum of several."""
        whole = cls()
        for part in parts:
            for reason, (count, name) in part.found.items():
                whole.add(reason, name, count)
        return whole

    def add_link(self, name: str) -> None:
        """Counts a link in an archive that has an image's name."""
        if why_left_out(name) is None and is_image(name):
            self.add("as links", name)

    def add_if_unread(self, name: str) -> bool:
        """Counts a file unless it is read; returns whether it is left out."""
        why = why_left_out(name)
        if why:
            self.add(why, name)
        return why is not None

    def __str__(self) -> str:
        """One line, pictures first; empty if nothing was left out."""

        def rank(reason: str) -> tuple[bool, bool, int]:
            other = reason.startswith(".") or "suffix" in reason
            return reason not in PICTURES, other, -self.found[reason][0]

        ordered = sorted(self.found, key=rank)
        shown = ", ".join(map(self._one, ordered[:MOST_REASONS]))
        if rest := ordered[MOST_REASONS:]:
            more = sum(self.found[reason][0] for reason in rest)
            shown += f", and {more:,} files of {len(rest):,} more kinds"
        if any(reason in HEIC for reason in ordered):
            shown += f"; HEIC is read after {how_to_install('heic')}"
        return shown

    def _one(self, reason: str) -> str:
        count, example = self.found[reason]
        return f"{count:,} {reason} ({printable(example)})"
