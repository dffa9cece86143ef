"""Shows the progress of long work: a bar on terminals, else a line now and then."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm

from progan.runtime.text import human_time, short

LINE_SECONDS = 15


Say = Callable[[str], None] | None  # shows a line to the user; None: silent


def has_room(stream: TextIO) -> bool:
    """Whether a bar can be shown: on a terminal, but not one of 0 columns as in some containers."""
    try:
        return stream.isatty() and os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):  # it is closed, or no file
        return False


@contextmanager
def progress_bar(
    title: str, total: int, done: int, say: Say, unit: str = "images"
) -> Iterator[Callable[[int], object]]:
    """Yields a function to call with the number of images (or other units) just done.

    Terminals show a bar with images/s and time left.
    """
    start = last = time.monotonic()
    now = done

    def line(n: int) -> None:
        nonlocal now, last
        now += n
        seconds = time.monotonic() - start
        if say and time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            rate = (now - done) / seconds
            left = human_time((total - now) / rate if rate else None)
            say(f"{title}: {now:,} of {total:,} {unit}, {short(rate)} {unit}/s, {left} left")

    if say and has_room(sys.stderr):
        with tqdm(total=total, initial=done, desc=title, unit=f" {unit}") as bar:
            yield bar.update
        return
    yield line
    if say:
        seconds = time.monotonic() - start
        rate = (total - done) / max(seconds, 1e-3)
        say(f"{title}: done in {seconds:.1f} s, {short(rate)} {unit}/s")
