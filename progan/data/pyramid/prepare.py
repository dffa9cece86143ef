"""From a source to a pyramid, once."""

import logging
import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from progan.data.decode import BadImage, Square, TooSmall, box_levels
from progan.data.pyramid.bad_images import BadImages, TooManyBad
from progan.data.pyramid.format import BAD_FILES, JOURNAL, VERSION, Pyramid, is_pyramid, to_png
from progan.data.pyramid.plan import check_space, free_space, make_plan
from progan.data.pyramid.writer import (
    UNFINISHED,
    Layout,
    Piece,
    PyramidWriter,
    read_journal,
    unfinished_files,
    write_lines,
)
from progan.data.sources.source import Items, Source, content_key
from progan.data.workers import KILLED, Workers, cores
from progan.runtime.cache import cache_folder
from progan.runtime.errors import UserError
from progan.runtime.progress import progress_bar

log = logging.getLogger("progan")

LOCK = ".lock"
PIECE_BYTES = 2**20  # of images that a worker reads before it reports; more would take new memory
AT_ONCE_BYTES = 2**19  # of images whose levels are made together, while a core's cache holds them
FEW = 200  # pixels as of so many images of 64x64 are done here before workers have even started


def cached(source: Source, square: Square, *, cache: Path | None = None, **options) -> Pyramid:
    """The pyramid of `source`, made on first use; processes that start together make it once.

    cache: folder to keep it in; None: $PROGAN_CACHE, else $XDG_CACHE_HOME/progan, else
    ~/.cache/progan. The rest, and the errors: see `prepare`.
    """
    storage = options.get("storage", "auto")
    digest = content_key(made_from(source, square), storage)[:16]
    return prepare(
        source, cache_folder(cache) / "pyramids" / f"{source.name}-{digest}", square, **options
    )


def made_from(source: Source, square: Square) -> str:
    """Changes with whatever a pyramid depends on, but for how it is kept."""
    return content_key(source.key, square.key, VERSION)


def prepare(
    source: Source,
    dest: Path,
    square: Square,
    *,
    storage: str = "auto",
    max_bad: int = 0,
    workers: int | None = None,
    say: Callable[[str], None] | None = None,
) -> Pyramid:
    """The pyramid of `source` in the folder `dest`, made unless it is there already.

    An interrupted preparation goes on where it stopped. Nothing is written outside of `dest`.

    Args:
        square: what every image is made into, at the largest level.
        storage: `raw` arrays, `png` records from 256x256 up, or `auto` by size and free space.
        max_bad: images that may be unreadable or too small; they are left out and named in
            `bad-files.txt`.
        workers: processes that decode; None: one a core.
        say: shows lines to the user, a progress bar with them; None: silence.

    Raises:
        UserError: more images are bad, none is left, they will not fit on the disk, the folder
            cannot be written or holds something else.
    """
    dest = Path(dest)
    made = made_from(source, square)
    with _writing(dest):
        if not (dest / "meta.json").exists():
            _check_folder(dest, UNFINISHED)
            dest.mkdir(parents=True, exist_ok=True)
            with _alone(dest, say):
                if not (dest / "meta.json").exists():
                    _check_folder(dest, ())
                    _check_unfinished(dest, made)
                    _make(source, dest, square, made, storage, max_bad, workers, say)
    pyramid = Pyramid.open(dest, workers=workers)
    if pyramid.meta.made_from != made:
        raise UserError(
            f"{dest} holds a pyramid of other images or options ({pyramid.meta.source}, "
            f"{pyramid.count} images at {pyramid.resolution}x{pyramid.resolution}); delete it or "
            "choose another folder"
        )
    if pyramid.meta.bad > max_bad:
        raise UserError(
            f"{source.name}: {pyramid.meta.bad} images are bad, and data.max_bad is {max_bad}; "
            f"see {dest / BAD_FILES}; mend or remove them, or raise data.max_bad"
        )
    return pyramid


@contextmanager
def _alone(dest: Path, say: Callable[[str], None] | None) -> Iterator[None]:
    """One process at a time in the folder; the others wait, and say so."""
    lock = FileLock(dest / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if say:
            say(f"{dest.name}: waiting for another process that prepares it")
        lock.acquire()
    try:
        yield
    finally:
        if not (dest / JOURNAL).exists():  # done, or nothing worth keeping
            (dest / LOCK).unlink(missing_ok=True)
            if not any(dest.iterdir()):
                dest.rmdir()
        lock.release()


def _check_folder(dest: Path, ours: Collection[str]) -> None:
    """A folder with anything of the user's is left alone; `ours` are patterns of file names."""
    names = os.listdir(dest) if dest.exists() else []
    patterns = (LOCK, BAD_FILES, f"{JOURNAL}.partial", *ours)
    others = sorted(n for n in names if not any(fnmatch(n, pattern) for pattern in patterns))
    if others and not is_pyramid(dest):
        raise UserError(
            f"{dest} holds other files ({', '.join(others[:3])}); give an empty or a new folder"
        )


def _check_unfinished(dest: Path, made: str) -> None:
    """What may have taken hours is not thrown away."""
    first, *entries = read_journal(dest) or [{}]
    if entries and first.get("made_from") != made:
        raise UserError(
            f"{dest} holds an unfinished preparation of other images or options, with "
            f"{entries[-1]['stop']:,} images done; go on with those, delete it, or choose another "
            "folder"
        )


def _make(
    source: Source,
    dest: Path,
    square: Square,
    made: str,
    storage: str,
    max_bad: int,
    workers: int | None,
    say: Callable[[str], None] | None,
) -> None:
    """Fill the folder, or go on with that."""
    begun = (read_journal(dest) or [{}])[0]
    if begun.get("made_from") == made:  # it goes on as it began, however the disk is now
        storage = "png" if begun["png"] else "raw"
    plan = make_plan(source, square, storage, free_space(dest))
    title = f"{source.name} at {square.resolution}x{square.resolution}"
    if say:
        say(f"{title}: {len(source):,} images; disk: {plan}")
    check_space(plan, dest, storage)
    layout = Layout(dest, len(source), square.channels, square.resolution, plan.png)
    bad = BadImages(source, square.resolution, max_bad)
    with PyramidWriter(layout, made) as writer:
        if writer.done and say:
            say(f"{title}: going on after {writer.done:,} images")
        bad.add(writer.bad)
        with _ended_in_order(writer, bad):
            with (
                progress_bar(title, len(source), writer.done, say) as advance,
                closing(_pieces(source, square, layout, writer.done, workers)) as pieces,
            ):
                for piece in pieces:
                    writer.add(piece)
                    bad.add(piece.bad)
                    advance(piece.stop - piece.start)
                    bad.check(piece.stop)
            bad.check(len(source))
            bad.check_classes()
        writer.finish(source.name, source.labels, bad.lines)
    if bad.count:
        log.warning(
            "%s: left out %d bad images, named in %s", source.name, bad.count, dest / BAD_FILES
        )


@contextmanager
def _ended_in_order(writer: PyramidWriter, bad: BadImages) -> Iterator[None]:
    """What was made stays whole on the disk, to go on with, or goes where it can be of no use."""
    try:
        yield
    except BrokenProcessPool as error:
        writer.sync()
        raise UserError(KILLED) from error
    except TooManyBad:  # with other images or options it will be another pyramid
        dest = writer.layout.path
        for file in unfinished_files(dest):
            file.unlink()
        write_lines(dest / BAD_FILES, bad.lines)
        raise
    except BaseException:
        writer.sync()
        raise


def _pieces(
    source: Source, square: Square, layout: Layout, done: int, workers: int | None
) -> Iterator[Piece]:
    """From the first image that is not done, in order."""
    pixels = square.channels * square.resolution**2
    size = min(max(PIECE_BYTES // pixels, 1), 64)
    ranges = [
        range(start, min(start + size, len(source))) for start in range(done, len(source), size)
    ]
    if workers is None:
        few = len(source) * square.resolution**2 <= FEW * 64**2
        workers = 0 if few else min(cores(), len(ranges))
    with Workers(Maker(source.without_lists(), square, layout), workers) as pool:
        yield from pool.map((r, source.items[r.start : r.stop]) for r in ranges)


@dataclass(frozen=True)
class Maker:
    """A worker's job: read a range of images, write all their levels, report."""

    source: Source
    square: Square
    layout: Layout

    def __call__(self, piece: tuple[range, Items]) -> Piece:
        indices, items = piece
        images = replace(self.source, items=items).read_batch(range(len(items)), self.square)
        bad = [
            (i, str(x), x.size if isinstance(x, TooSmall) else None)
            for i, x in zip(indices, images, strict=True)
            if isinstance(x, BadImage)
        ]
        r, channels = self.square.resolution, self.square.channels
        blank = np.zeros((channels, r, r), np.uint8)  # keeps a bad image's place
        images = [blank if isinstance(x, BadImage) else x for x in images]
        step = max(1, AT_ONCE_BYTES // blank.size)
        levels = [
            box_levels(np.stack(images[k : k + step]), 4) for k in range(0, len(images), step)
        ]
        for r in self.layout.raw:
            self.layout.write(r, indices.start, np.concatenate([level[r] for level in levels]))
        left_out = {i - indices.start for i, _, _ in bad}
        records = {
            r: [
                b"" if k in left_out else to_png(image)
                for k, image in enumerate(x for level in levels for x in level[r])
            ]
            for r in self.layout.png
        }
        return Piece(indices.start, indices.stop, bad, records)


@contextmanager
def _writing(dest: Path) -> Iterator[None]:
    """Name the remedy where writing fails. Errors of reading are BadImage, never OSError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write the prepared data {dest} ({error}); give a folder that can be written "
            "and has room (data.cache and $PROGAN_CACHE say where train keeps it)"
        ) from error
