"""Progress of training on the console."""

import math
import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from progan.runtime.progress import has_room
from progan.runtime.text import kimg

FIRST, LONGEST = 30.0, 600.0  # seconds between lines, where ticks take longer


class Console:
    """A progress bar on a terminal, plain lines otherwise: at each tick, and if those take long."""

    def __init__(self, total_nimg: int, nimg: int):
        self.total_nimg = total_nimg
        self.bar: tqdm | None = None
        self.shown = time.perf_counter()
        self.pause = FIRST  # until the next line that is not a tick's
        if has_room(sys.stderr):
            self.bar = tqdm(
                total=total_nimg,
                initial=nimg,
                bar_format="{percentage:3.0f}%|{bar:20}| {desc}",
                desc=self.progress(nimg),
                dynamic_ncols=True,
                mininterval=0,
            )
            self.shown = -math.inf  # the first update is shown at once

    def show(self, nimg: int, describe: Callable[[], str], line: Callable[[], str]) -> None:
        """Move the bar, at most twice a second; without one, print a line now and then.

        Args:
            describe, line: the text next to the bar, and that of a line.
        """
        silent = time.perf_counter() - self.shown
        if self.bar is None and silent > self.pause:
            self.tick(nimg, line())
            self.pause = min(2 * self.pause, LONGEST)
        elif self.bar is not None and silent > 0.5:
            self.shown = time.perf_counter()
            self.bar.set_description_str(f"{self.progress(nimg)} {describe()}", refresh=False)
            self.bar.update(nimg - self.bar.n)

    def tick(self, nimg: int, text: str) -> None:
        """Print a line if there is no bar."""
        if self.bar is None:
            self.shown = time.perf_counter()
            print(f"{self.progress(nimg)}  {text}", flush=True)

    def progress(self, nimg: int) -> str:
        return f"{kimg(nimg, self.total_nimg)}/{kimg(self.total_nimg, self.total_nimg)} kimg"

    def say(self, text: str) -> None:
        """Print a message without breaking the bar."""
        if self.bar is None:
            print(text, flush=True)
        else:
            self.bar.write(text)

    def close(self, nimg: int) -> None:
        if self.bar is not None:
            self.bar.set_description_str(self.progress(nimg), refresh=False)
            self.bar.update(nimg - self.bar.n)
            self.bar.close()
