"""Progress of training on the console."""

import sys
import time
from collections.abc import Callable

from tqdm import tqdm


class Console:
    """A progress bar on a terminal, plain lines otherwise."""

    def __init__(self, total_nimg: int, nimg: int):
        self.total_kimg = total_nimg / 1000
        self.bar: tqdm | None = None
        self.shown = 0.0
        if sys.stderr.isatty():
            self.bar = tqdm(
                total=self.total_kimg,
                initial=nimg / 1000,
                bar_format="{percentage:3.0f}%|{bar:20}| {n:.1f}/{total:.1f} kimg {desc}",
                dynamic_ncols=True,
                mininterval=0,
            )

    def show(self, nimg: int, describe: Callable[[], str]) -> None:
        """Move the bar, at most twice a second."""
        if self.bar is not None and time.perf_counter() - self.shown > 0.5:
            self.shown = time.perf_counter()
            self.bar.set_description_str(describe(), refresh=False)
            self.bar.update(nimg / 1000 - self.bar.n)

    def tick(self, nimg: int, text: str) -> None:
        """Print a line if there is no bar."""
        if self.bar is None:
            print(f"{nimg / 1000:.1f}/{self.total_kimg:.1f} kimg  {text}", flush=True)

    def say(self, text: str) -> None:
        """Print a message without breaking the bar."""
        if self.bar is None:
            print(text, flush=True)
        else:
            self.bar.write(text)

    def close(self, nimg: int) -> None:
        if self.bar is not None:
            self.bar.update(nimg / 1000 - self.bar.n)
            self.bar.close()
