"""The disk space that a pyramid will take, level by level, before any of it is written."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from progan.config.resolutions import resolutions_to
from progan.data.decode import BadImage, Square
from progan.data.pyramid.format import FIRST_PNG, size_in_bytes
from progan.data.pyramid.records import to_png
from progan.data.sources.source import Source, evenly
from progan.data.workers import without_pil_warnings
from progan.runtime.errors import UserError
from progan.runtime.text import human_bytes

SAMPLES = 8  # images compressed to learn how well they do
SHARE = 4  # `auto` keeps all levels as arrays if they take up to a quarter of the free space


@dataclass(frozen=True)
class Plan:
    levels: dict[int, int]  # bytes of each
    png: tuple[int, ...]  # levels kept as PNG records
    free: int  # bytes on the disk

    @property
    def total(self) -> int:
        return sum(self.levels.values())

    def __str__(self) -> str:
        parts = [
            f"{r}x{r} {human_bytes(size)}{' (png)' if r in self.png else ''}"
            for r, size in self.levels.items()
        ]
        return (
            f"{', '.join(parts)}, together {human_bytes(self.total)} of the "
            f"{human_bytes(self.free)} that are free"
        )


def make_plan(source: Source, square: Square, storage: str, free: int) -> Plan:
    """The plan for a source, with `storage` raw, png or auto."""
    resolutions = resolutions_to(square.resolution)
    levels = {r: size_in_bytes(len(source), square.channels, r) for r in resolutions}
    png = tuple(r for r in resolutions if r >= FIRST_PNG)
    if storage == "raw" or (storage == "auto" and sum(levels.values()) <= free / SHARE):
        png = ()
    if png:
        ratio = compression(source, square)
        levels |= {r: int(levels[r] * ratio) for r in png}
    return Plan(levels, png, free)


def check_space(plan: Plan, path: Path, storage: str) -> None:
    """Raises UserError if it will not fit."""
    if plan.total <= plan.free:
        return
    fits = [r for r in plan.levels if sum(s for k, s in plan.levels.items() if k <= r) <= plan.free]
    ways = ["free some space", "choose a folder on another disk"]
    if fits:
        ways.insert(0, f"a resolution of {max(fits)} would fit")
    if not plan.png and max(plan.levels) >= FIRST_PNG:
        ways.insert(0, f"compress the large levels (data.storage=png instead of {storage})")
    raise UserError(
        f"the prepared data will not fit on the disk of {path}: {plan}. What helps: "
        f"{'; '.join(ways)}"
    )


def free_space(path: Path) -> int:
    """Bytes that the files in a folder may take, those that are there included."""
    used = sum(file.stat().st_blocks * 512 for file in path.iterdir() if file.is_file())
    return shutil.disk_usage(path).free + used


def compression(source: Source, square: Square) -> float:
    """Bytes as PNG for each byte as an array: those of a few images, and a tenth more."""
    with without_pil_warnings():
        found = source.read_batch(evenly(len(source), SAMPLES), square)
    images = [image for image in found if not isinstance(image, BadImage)]
    if not images:
        return 1.0
    return 1.1 * sum(len(to_png(image)) for image in images) / sum(image.size for image in images)
