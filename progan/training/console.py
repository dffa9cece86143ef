"""Progress of training on the console."""

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from progan.runtime.progress import has_room
from progan.runtime.text import kimg


class Console:
    """A progress bar on a terminal, plain lines otherwise."""

    def __init__(self, total_nimg: int, nimg: int):
        self.total_nimg = total_nimg
        self.bar: tqdm | None = None
        self.shown = 0.0
        if has_room(sys.stderr):
            self.bar = tqdm(
                total=total_nimg,
                initial=nimg,
                bar_format="{percentage:3.0f}%|{bar:20}| {desc}",
                desc=self.progress(nimg),
                dynamic_ncols=True,
                mininterval=0,
            )

    def show(self, nimg: int, describe: Callable[[], str]) -> None:
        """Move the bar, at most twice a second."""
        if self.bar is not None and time.perf_counter() - self.shown > 0.5:
            self.shown = time.perf_counter()
            self.bar.set_description_str(f"{self.progress(nimg)} {describe()}", refresh=False)
            self.bar.update(nimg - self.bar.n)

    def tick(self, nimg: int, text: str) -> None:
        """Print a line if there is no bar."""
        if self.bar is None:
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
