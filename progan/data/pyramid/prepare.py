"""From a source to a pyramid, made once."""

import logging
import os
from collections.abc import Collection, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from progan.data.decode import BadImage, Square, TooSmall, box_levels
from progan.data.pyramid.bad_images import BadImages, TooManyBad
from progan.data.pyramid.format import BAD_FILES, JOURNAL, OWN_REMEDY, DamagedPyramid, Pyramid
from progan.data.pyramid.layout import Layout
from progan.data.pyramid.meta import META, VERSION
from progan.data.pyramid.old_reading import warn_of_old_reading
from progan.data.pyramid.plan import check_space, free_space, make_plan
from progan.data.pyramid.records import to_png
from progan.data.pyramid.writer import (
    UNFINISHED,
    Piece,
    PyramidWriter,
    read_journal,
    unfinished_files,
    write_lines,
)
from progan.data.sources.source import Items, Source, content_key
from progan.data.workers import Workers, cores
from progan.runtime.cache import cache_folder
from progan.runtime.errors import UserError
from progan.runtime.lock import Busy, file_lock
from progan.runtime.progress import Say, progress_bar

log = logging.getLogger("progan")

LOCK = ".lock"
PIECE_BYTES = 2**20  # images a worker reads before it reports; more would take new memory
AT_ONCE_BYTES = 2**19  # images whose levels are made together, while a core's cache holds them
FEW_PIXELS = 200 * 64**2  # are done here before workers have even started


def cached(
    source: Source,
    square: Square,
    *,
    cache: Path | None = None,
    storage: str = "auto",
    drop_copies: bool = False,
    say: Say = None,
    **options: Any,
) -> Pyramid:
    """The pyramid of `source`, made on first use; processes that start together make it once.

    One that is damaged is made again.

    Args:
        cache: folder to keep it in; None: $PROGAN_CACHE, else $XDG_CACHE_HOME/progan, else
            ~/.cache/progan.
        storage, drop_copies, say, options: see `prepare`, also for the errors.
    """
    digest = content_key(made_from(source, square, drop_copies), storage)[:16]
    dest = cache_folder(cache) / "pyramids" / f"{source.name}-{digest}"
    settings = {"storage": storage, "drop_copies": drop_copies, "say": say, **options}
    try:
        return prepare(source, dest, square, own=True, **settings)
    except DamagedPyramid as error:
        if say:
            say(str(error).replace(OWN_REMEDY, "it is prepared again"))
        remove_damaged(dest)
        return prepare(source, dest, square, own=True, **settings)


def remove_damaged(dest: Path) -> None:
    """Removes a damaged pyramid, unless another process has made it again."""
    with writing(dest), alone(dest, None):
        try:
            Pyramid.open(dest, own=True).close()
        except DamagedPyramid:
            for file in (dest / META, *unfinished_files(dest)):
                file.unlink(missing_ok=True)
        except UserError:  # another process has begun to make it
            pass


def made_from(source: Source, square: Square, drop_copies: bool = False) -> str:
    """A hash of all that a pyramid depends on, except how it is kept."""
    more = ["drop_copies"] if drop_copies else []
    return content_key(source.key, square.key, VERSION, *more)


def prepare(
    source: Source,
    dest: Path,
    square: Square,
    *,
    storage: str = "auto",
    max_bad: int = 0,
    drop_copies: bool = False,
    workers: int | None = None,
    say: Say = None,
    own: bool = False,
) -> Pyramid:
    """The pyramid of `source` in the folder `dest`, made if it is not there yet.

    An interrupted preparation goes on where it stopped. Nothing is written outside of `dest`.

    Args:
        square: what every image is made into, at the largest level.
        storage: `raw` arrays, `png` records from 256x256 up, or `auto` by size and free space.
        max_bad: images that may be unreadable or too small; they are left out and named in
            `bad-files.txt`.
        drop_copies: leave out all but the first of images that are equal, and of labels that are.
        workers: processes that decode; None: one for each core.
        say: shows lines and a progress bar to the user; None: silence.
        own: `dest` is in progan's own cache.

    Raises:
        UserError: more images are bad, none is left, they do not fit on the disk, or the folder
            cannot be written or holds something else.
    """
    dest = Path(dest)
    made = made_from(source, square, drop_copies)
    with writing(dest):
        if not (dest / META).exists():
            check_folder(dest, UNFINISHED)
            dest.mkdir(parents=True, exist_ok=True)
            with alone(dest, say):
                if not (dest / META).exists():
                    check_folder(dest, UNFINISHED if own else ())
                    check_unfinished(dest, made)
                    options = storage, max_bad, drop_copies, workers, say
                    make(source, dest, square, made, *options)
    pyramid = Pyramid.open(dest, workers=workers, own=own)
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
    warn_of_old_reading(pyramid, source, square)
    if say:
        for line in pyramid.meta.repeats.lines(pyramid.count):
            say(line)
    return pyramid


@contextmanager
def alone(dest: Path, say: Say) -> Iterator[None]:
    """Lets one process at a time into the folder; the others wait, and say so."""
    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock(dest / LOCK, wait=False))
        except Busy:
            if say:
                say(f"{dest.name}: waiting for another process that prepares it")
            stack.enter_context(file_lock(dest / LOCK))
        try:
            yield
        finally:
            if not (dest / JOURNAL).exists():  # done, or nothing worth keeping
                (dest / LOCK).unlink(missing_ok=True)
                if not any(dest.iterdir()):
                    dest.rmdir()


def check_folder(dest: Path, ours: Collection[str]) -> None:
    """Refuses a folder with files of the user's; `ours` are patterns of other names."""
    names = os.listdir(dest) if dest.exists() else []
    patterns = (LOCK, BAD_FILES, f"{BAD_FILES}.partial*", f"{JOURNAL}.partial*", *ours)
    others = sorted(n for n in names if not any(fnmatch(n, pattern) for pattern in patterns))
    if others and not any((dest / name).is_file() for name in (JOURNAL, META)):
        raise UserError(
            f"{dest} holds other files ({', '.join(others[:3])}); give an empty or a new folder"
        )


def check_unfinished(dest: Path, made: str) -> None:
    """Refuses to overwrite another preparation, which may have taken hours."""
    first, entries = read_journal(dest)
    if entries and first.get("made_from") != made:
        raise UserError(
            f"{dest} holds an unfinished preparation of other images or options, with "
            f"{entries[-1]['stop']:,} images done; go on with those, delete it, or choose another "
            "folder"
        )


def make(
    source: Source,
    dest: Path,
    square: Square,
    made: str,
    storage: str,
    max_bad: int,
    drop_copies: bool,
    workers: int | None,
    say: Say,
) -> None:
    """Fills the folder, or goes on filling it."""
    begun, _ = read_journal(dest)
    if begun.get("made_from") == made:  # it goes on as it began, however the disk is now
        storage = "png" if begun["png"] else "raw"
    plan = make_plan(source, square, storage, free_space(dest))
    title = f"{source.name} at {square.resolution}x{square.resolution}"
    if say:
        say(f"{title}: {len(source):,} images; disk: {plan}")
        if source.values and str(source.values):
            say(f"{source.name}: {source.values}")
    check_space(plan, dest, storage)
    layout = Layout(dest, len(source), square.channels, square.resolution, plan.png)
    with PyramidWriter(layout, made) as writer:
        bad = BadImages(source, square.resolution, max_bad, writer.bad)
        if writer.done and say:
            say(f"{title}: going on after {writer.done:,} images")
        with ended_in_order(writer, bad):
            with (
                progress_bar(title, len(source), writer.done, say) as advance,
                closing(pieces_of(source, square, layout, writer.done, workers)) as pieces,
            ):
                for piece in pieces:
                    writer.add(piece)
                    advance(piece.stop - piece.start)
                    bad.check(piece.stop)
            bad.check(len(source))
            bad.check_classes()
        writer.finish(source, drop_copies)
    if bad.found:
        file = dest / BAD_FILES
        images = "1 bad image" if len(bad.found) == 1 else f"{len(bad.found):,} bad images"
        log.warning("%s: left out %s, named in %s", source.name, images, file)


@contextmanager
def ended_in_order(writer: PyramidWriter, bad: BadImages) -> Iterator[None]:
    """After an error, syncs what was made, to go on with; removes it if it is of no use."""
    try:
        yield
    except TooManyBad:  # with other images or options it will be another pyramid
        dest = writer.layout.path
        for file in unfinished_files(dest):
            file.unlink()
        write_lines(dest / BAD_FILES, bad.lines)
        raise
    except BaseException:
        writer.sync()
        raise


def pieces_of(
    source: Source, square: Square, layout: Layout, done: int, workers: int | None
) -> Generator[Piece, None, None]:
    """The pieces in order, from the first image that is not done."""
    pixels = square.channels * square.resolution**2
    size = min(max(PIECE_BYTES // pixels, 1), 64)
    ranges = [
        range(start, min(start + size, len(source))) for start in range(done, len(source), size)
    ]
    if workers is None:
        few = len(source) * square.resolution**2 <= FEW_PIXELS
        workers = 0 if few else min(cores(), len(ranges))
    with Workers(partial(make_piece, source.without_lists(), square, layout), workers) as pool:
        yield from pool.map((r, source.items[r.start : r.stop]) for r in ranges)


def make_piece(source: Source, square: Square, layout: Layout, piece: tuple[range, Items]) -> Piece:
    """A worker's job: read a range of images, write all their levels and report."""
    indices, items = piece
    found = replace(source, items=items).read_batch(range(len(items)), square)
    bad = [
        (i, str(x), x.size if isinstance(x, TooSmall) else None)
        for i, x in zip(indices, found, strict=True)
        if isinstance(x, BadImage)
    ]
    r = square.resolution
    blank = np.zeros((square.channels, r, r), np.uint8)  # keeps a bad image's place
    images = [blank if isinstance(x, BadImage) else x for x in found]
    step = max(1, AT_ONCE_BYTES // blank.size)
    parts = [box_levels(np.stack(images[k : k + step]), 4) for k in range(0, len(images), step)]
    levels = {r: np.concatenate([part[r] for part in parts]) for r in layout.levels}
    layout.write_digests(indices.start, levels)
    for r in layout.raw:
        layout.write(r, indices.start, levels[r])
    left_out = {i - indices.start for i, _, _ in bad}
    records = {
        r: [b"" if k in left_out else to_png(image) for k, image in enumerate(levels[r])]
        for r in layout.png
    }
    return Piece(indices.start, indices.stop, bad, records)


@contextmanager
def writing(dest: Path) -> Iterator[None]:
    """Names the remedy if writing fails. Errors of reading are BadImage, never OSError."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write the prepared data {dest} ({error}); give a folder that can be written "
            "and has room (data.cache and $PROGAN_CACHE say where train keeps it)"
        ) from error
