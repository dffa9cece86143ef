"""Which files of a folder or an archive are images, by their names, and why others are left out."""

import functools
import os
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from progan.data.formats import HEIC, PICTURES, SUFFIXES
from progan.data.sources.label_tables import TABLES
from progan.runtime.extras import how_to_install
from progan.runtime.text import printable

# Folders and files that systems and programs keep for themselves, besides hidden ones.
BOOKKEEPING = re.compile(
    r"@(eadir|tmp|recycle|recently-snapshot|transcode|__thumb|sharebin|sharesnap|snapshots?|appstore"
    r"|appdata|apphome|apptemp|appconf|appshare|database|s2s|syno\w*)"  # Synology, QNAP
    r"|#(recycle|snapshots?|trash)|~snapshot|@gmt-[\d.]+-[\d.]+"  # other network storage
    r"|\$(recycle\.bin|recycled|extend|winreagent|sysreset|windows\.~\w+)"
    r"|recycler|recycle\.bin|system volume information|found\.\d{3}"
    r"|thumbs\.db|ehthumbs(_vista)?\.db|desktop\.ini"  # Windows
    r"|lost\+found|lost\.dir"  # Linux, Android
    r"|__macosx|network trash folder|temporary items|thevolumesettingsfolder|icon\r"  # macOS
    r"|picasa\.ini|ipod photo cache|nksc_param|digikam4\.db|thumbnails-digikam\.db|.*\.lrdata"
    r"|backups\.backupdb"
    r"|files_trashbin|files_versions|appdata_oc\w+|onedrivetemp"  # Nextcloud, OneDrive
    r"|thmbnl|\[originals\]"  # Sony's cameras, ACDSee
    r"|node_modules|bower_components|__pycache__|(site|dist)-packages|_darcs",
    re.IGNORECASE,
)
# Of Apple's Photos, iPhoto and Aperture.
LIBRARY = re.compile(
    r".*\.(photos?library|aplibrary|migrated\w*library)|(iphoto|aperture) library", re.IGNORECASE
)
PHOTOS = ("originals", "masters")  # folders in it with photos; others hold what is made of them
ICLOUD = re.compile(r"\..+\.icloud")  # stands for a photo that is not on this disk
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
        if is_kept(part) or (LIBRARY.fullmatch(outer) and part.lower() not in PHOTOS):
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
    if kept is last and ICLOUD.fullmatch(last):
        return "only in iCloud"
    if kept is not None:
        return ("hidden" if kept.startswith(".") else f"in {kept}") if image else ""
    if image or last in TABLES:
        return None
    suffix = os.path.splitext(last)[1].lower()
    return suffix if suffix.strip(".") else "without a suffix"


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
