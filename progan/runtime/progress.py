"""How far a long work is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from progan.runtime.text import human_time

LINE_SECONDS = 15


Say = Callable[[str], None] | None  # shows lines to the user; None: silence


@contextmanager
def progress_bar(
    title: str, total: int, done: int, say: Say, unit: str = "images"
) -> Iterator[Callable[[int], None]]:
    """Gives a function to call with the number of images, or what else is counted, just done.

    A terminal has a bar with images/s and time left.
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
            say(f"{title}: {now:,} of {total:,} {unit}, {rate:.0f} {unit}/s, {left} left")

    if say and sys.stderr.isatty():
        with tqdm(total=total, initial=done, desc=title, unit=f" {unit}") as bar:
            yield bar.update
        return
    yield line
    if say:
        seconds = time.monotonic() - start
        rate = (total - done) / max(seconds, 1e-3)
        say(f"{title}: done in {seconds:.1f} s, {rate:.0f} {unit}/s")
