"""From a source to a pyramid, made once."""

import logging
import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from progan.data.decode import READING, Square
from progan.data.pyramid.bad_images import BadImages, TooManyBad
from progan.data.pyramid.format import BAD_FILES, JOURNAL, OWN_REMEDY, DamagedPyramid, Pyramid
from progan.data.pyramid.layout import Layout
from progan.data.pyramid.meta import META, VERSION
from progan.data.pyramid.pieces import pieces_of
from progan.data.pyramid.plan import check_space, free_space, make_plan
from progan.data.pyramid.writer import (
    UNFINISHED,
    PyramidWriter,
    read_journal,
    unfinished_files,
    write_lines,
)
from progan.data.sources.source import Source, content_key, evenly
from progan.data.workers import without_pil_warnings
from progan.runtime.cache import pyramids_folder
from progan.runtime.errors import UserError
from progan.runtime.launch import prints_errors
from progan.runtime.lock import Busy, file_lock
from progan.runtime.paths import check_new_folder
from progan.runtime.progress import Say, progress_bar

log = logging.getLogger("progan")

LOCK = ".lock"
LOOKED_AT = 16  # images of an older pyramid that are read again
SAME = 1  # level that an image may differ by on average, as versions of JPEG decoders do


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
    dest = pyramids_folder(cache) / f"{source.name}-{digest}"
    settings = {"storage": storage, "drop_copies": drop_copies, "say": say, **options}
    make_it = partial(prepare, source, dest, square, own=True, **settings)
    try:
        return make_it()
    except DamagedPyramid as error:
        if say:
            say(str(error).replace(OWN_REMEDY, "it is prepared again"))
        remove_damaged(dest)
        return make_it()


def warn_of_old_reading(pyramid: Pyramid, source: Source, square: Square) -> None:
    """Logs a warning if an earlier progan read some of the source's images into other pixels."""
    if pyramid.meta.reading >= READING or not prints_errors():
        return
    # Up to its count each image has its own place; bad ones, whose places others take, are skipped.
    indices = [i for i in evenly(len(source), LOOKED_AT) if i < pyramid.count]
    with without_pil_warnings():
        today = source.read_batch(indices, square)
    kept = pyramid.read(np.array(indices), square.resolution)
    changed = sum(
        isinstance(image, np.ndarray) and np.abs(image - old.astype(np.int16)).mean() > SAME
        for image, old in zip(today, kept, strict=True)
    )
    if changed:
        log.warning(
            "%s: %d of %d images looked at were prepared by an earlier progan, which read their "
            "colours or depth otherwise (see Depth and colours in docs/data.md). A run that has "
            "begun on them goes on only with them; for a new one delete %s",
            source.name,
            changed,
            len(indices),
            pyramid.path,
        )


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
    if not own:
        check_new_folder(dest, "DEST")
    made = made_from(source, square, drop_copies)
    with writing(dest):
        if not (dest / META).exists():
            check_folder(dest, UNFINISHED)
            dest.mkdir(parents=True, exist_ok=True)
            with alone(dest, say):
                if not (dest / META).exists():
                    check_folder(dest, UNFINISHED if own else ())
                    check_unfinished(dest, made)
                    make(source, dest, square, made, storage, max_bad, drop_copies, workers, say)
    pyramid = Pyramid.open(dest, workers=workers, own=own)
    check_made(pyramid, made, max_bad, source.name)
    warn_of_old_reading(pyramid, source, square)
    if say:
        for line in pyramid.meta.repeats.lines(pyramid.count):
            say(line)
    return pyramid


def check_made(pyramid: Pyramid, made: str, max_bad: int, name: str) -> None:
    """Refuses a pyramid of other images or options, or one with too many bad images."""
    if pyramid.meta.made_from != made:
        raise UserError(
            f"{pyramid.path} holds a pyramid of other images or options ({pyramid.meta.source}, "
            f"{pyramid.count} images at {pyramid.resolution}x{pyramid.resolution}); delete it or "
            "choose another folder"
        )
    if pyramid.meta.bad > max_bad:
        raise UserError(
            f"{name}: {pyramid.meta.bad} images are bad, and data.max_bad is {max_bad}; see "
            f"{pyramid.path / BAD_FILES}; mend or remove them, or raise data.max_bad"
        )


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
