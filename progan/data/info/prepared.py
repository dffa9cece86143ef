"""What a prepared folder holds, or one whose preparation was interrupted."""

from pathlib import Path
from typing import NamedTuple

from progan.config.resolutions import resolutions_to
from progan.data.pyramid.format import BAD_FILES, Pyramid
from progan.data.pyramid.writer import read_journal


class Level(NamedTuple):
    resolution: int
    size: int  # bytes
    png: bool


def levels_of(pyramid: Pyramid) -> list[Level]:
    """What is on the disk, a level each."""
    found = []
    for r in resolutions_to(pyramid.resolution):
        files = [f for f in pyramid.path.glob(f"{r:04d}.*")]
        found.append(Level(r, sum(f.stat().st_size for f in files), r in pyramid.meta.png))
    return found


def bad_lines(path: Path) -> list[str]:
    """`name: reason` of each image that was left out."""
    try:
        return (path / BAD_FILES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


class Unfinished(NamedTuple):
    """How far a preparation came: images of how many, bad ones among them, largest level."""

    done: int
    total: int
    bad: int
    resolution: int


def unfinished(path: Path) -> Unfinished | None:
    """Of an interrupted preparation in a folder; None if its journal cannot be read."""
    first, *entries = read_journal(path) or [None]
    if not isinstance(first, dict) or not {"total", "resolution"} <= first.keys():
        return None
    done = entries[-1]["stop"] if entries else 0
    return Unfinished(
        done, first["total"], sum(len(entry["bad"]) for entry in entries), first["resolution"]
    )
