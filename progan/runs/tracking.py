"""Statistics to console, `stats.jsonl` and trackers (TensorBoard by default)."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from accelerate.tracking import LoggerType, get_available_trackers
from torch import Tensor
from tqdm import tqdm

from progan.config.config import Config, flatten
from progan.runs.records import METRICS, STATS, read
from progan.runtime.disk import append, write_atomically
from progan.runtime.errors import UserError, nearest


class Statistics:
    """Means since the last tick, accumulated on the device: adding waits for nothing.

    What is not finite is left out, so that a skipped update spoils no mean.
    """

    def __init__(self) -> None:
        self.sums: dict[tuple[str, ...], Tensor] = {}  # of values, of images: [2, names]

    def add(self, values: dict[str, Tensor], images: int) -> None:
        """Batch means, each of `images` images."""
        names = tuple(values)
        flat = torch.stack(list(values.values())).float()
        finite = flat.isfinite()
        both = torch.stack([flat.where(finite, 0.0), finite.float()]) * images
        self.sums[names] = self.sums[names] + both if names in self.sums else both

    def means(self) -> dict[str, float]:
        """The means, copied to the host in one go, and a new beginning."""
        sums = self.sums
        self.__init__()
        flat = torch.cat(list(sums.values()), dim=1).tolist() if sums else ([], [])
        totals: dict[str, list[float]] = {}
        for name, value, images in zip(chain(*sums), *flat, strict=True):
            total = totals.setdefault(name, [0.0, 0.0])
            total[0] += value
            total[1] += images
        return {name: value / images for name, (value, images) in totals.items() if images}

    def state_dict(self) -> dict[str, Any]:
        return {"sums": {names: value.cpu() for names, value in self.sums.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums = dict(state["sums"])

    def to(self, device: torch.device) -> None:
        self.sums = {names: value.to(device) for names, value in self.sums.items()}


class Skipped:
    """Updates left out since the last tick and, up to now, in a row; counted on the device."""

    def __init__(self) -> None:
        self.counts = torch.zeros(2, 2)  # [since the last tick, in a row] of [critic, generator]

    def add(self, flags: Tensor) -> None:
        """Of one step: [critic, generator], 1 if its update was skipped."""
        self.counts = (self.counts + flags) * torch.stack([torch.ones_like(flags), flags])

    def take(self) -> tuple[int, int]:
        """How many since the last tick, and how many in a row, by the network that has more."""
        since, in_a_row = self.counts.tolist()
        self.counts = self.counts * torch.tensor([[0.0], [1.0]], device=self.counts.device)
        return int(sum(since)), int(max(in_a_row))

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self.counts.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts = state["counts"]

    def to(self, device: torch.device) -> None:
        self.counts = self.counts.to(device)


def check_tracker(name: str | None) -> None:
    """Raises UserError for a tracker that Accelerate does not know or that is not installed."""
    if name is None:
        return
    known = [t for t in LoggerType.list() if t != "all"]
    if name not in known:
        raise UserError(
            f"run.tracker '{name}' is unknown{nearest(name, known)}; known: {', '.join(known)}"
        )
    if LoggerType(name) not in get_available_trackers():
        raise UserError(
            f"run.tracker '{name}' is not installed: pip install {name.replace('_', '-')}"
        )


class Tracker:
    """Where the main process writes what a run reports; does nothing on the others.

    The step axis is `nimg` everywhere. What a previous start wrote after `nimg` is removed, since
    those images will be shown again.
    """

    def __init__(self, accelerator: Accelerator, run_dir: Path, nimg: int, config: Config):
        self.accelerator = accelerator
        self.active = accelerator.is_main_process
        self.run_dir = run_dir
        self.lines: dict[str, str] = {}  # that are not on the disk yet, by file
        self.scalars: list[tuple[int, dict[str, float]]] = []  # that no tracker has yet
        self.lost = False  # whether TensorBoard's writer has failed
        if not self.active:
            return
        for name in (STATS, METRICS):
            drop_lines_after(run_dir / name, nimg)
        # Hides an abandoned branch of curves, and at 0 the start of one that saved nothing.
        options = {"tensorboard": {"purge_step": nimg + 1 if nimg else 0}}
        in_run = config.run.tracker == "tensorboard"
        folder = "tensorboard" if in_run else run_dir.resolve().name
        accelerator.init_trackers(folder, init_kwargs=options)
        for tracker in accelerator.trackers:
            if tracker.name != "tensorboard":
                tracker.store_init_configuration(flatten(config.model_dump()))
            elif nimg == 0:
                # Four spaces make it a code block in TensorBoard's Markdown.
                lines = ("    " + line for line in config.to_yaml().splitlines())
                tracker.log({"config": "\n".join(lines)}, step=0)

    def log(self, values: dict[str, float], nimg: int, file: str = STATS) -> None:
        """A line in a file of the run, and the trackers' scalars.

        Raises:
            DiskError, OSError: they could not be written; the next call writes them too.
        """
        if not self.active:
            return
        line = json.dumps({"nimg": nimg, **values}) + "\n"
        self.lines[file] = self.lines.get(file, "") + line
        self.scalars.append((nimg, values))
        self.catch_up()

    def catch_up(self) -> None:
        """Write what could not be written before; raises as `log`."""
        if not self.scalars:
            return
        for name in list(self.lines):
            append(self.run_dir / name, self.lines[name])
            del self.lines[name]
        with self.written():
            for step, scalars in self.scalars:
                for tracker in self.accelerator.trackers:
                    tracker.log(scalars, step=step)
        self.scalars.clear()

    def log_text(self, name: str, text: str, nimg: int) -> None:
        """To TensorBoard."""
        with self.written():
            for tracker in self.accelerator.trackers if self.active else ():
                if tracker.name == "tensorboard":
                    tracker.log({name: text}, step=nimg)

    def log_image(self, name: str, image: np.ndarray, nimg: int) -> None:
        """uint8 [C, H, W] to the trackers that take pictures."""
        if not self.active:
            return
        pixels = image.transpose(1, 2, 0)[None]
        with self.written():
            for tracker in self.accelerator.trackers:
                if not hasattr(tracker, "log_images"):
                    continue
                if tracker.name == "tensorboard":
                    tracker.log_images({name: pixels}, step=nimg, dataformats="NHWC")
                elif tracker.name in ("aim", "clearml"):
                    tracker.log_images({name: pixels[0]}, step=nimg)
                else:
                    tracker.log_images({name: [pixels[0]]}, step=nimg)

    @contextmanager
    def written(self) -> Iterator[None]:
        """What TensorBoard is given inside is in its file afterwards, whatever happens then.

        Its writer keeps events for minutes, and is of no use any more once its disk was full.
        """
        boards = [t for t in self.accelerator.trackers if t.name == "tensorboard"]
        if self.lost:
            again = self.scalars[0][0] if self.scalars else None
            for board in boards:
                board.writer = type(board.writer)(board.writer.log_dir, purge_step=again)
            self.lost = False
        try:
            yield
            for board in boards:
                board.writer.flush()
        except OSError:
            self.lost = True
            raise


def drop_lines_after(path: Path, nimg: int) -> None:
    """Remove statistics of images that will be shown again, and a half-written last line."""
    if path.exists():
        kept = "".join(json.dumps(line) + "\n" for line in read(path) if line["nimg"] <= nimg)
        write_atomically(path, lambda file: file.write_text(kept, encoding="utf-8"))


class Console:
    """A progress bar on a terminal, plain lines otherwise; silent but on the main process."""

    def __init__(self, active: bool, total_nimg: int, nimg: int):
        self.active = active
        self.total_kimg = total_nimg / 1000
        self.bar = None
        self.shown = 0.0
        if active and sys.stderr.isatty():
            self.bar = tqdm(
                total=self.total_kimg,
                initial=nimg / 1000,
                bar_format="{percentage:3.0f}%|{bar:20}| {n:.1f}/{total:.1f} kimg {desc}",
                dynamic_ncols=True,
                mininterval=0,
            )

    def show(self, nimg: int, describe: Callable[[], str]) -> None:
        """After every update: moves the bar, at most twice a second."""
        if self.bar is not None and time.perf_counter() - self.shown > 0.5:
            self.shown = time.perf_counter()
            self.bar.set_description_str(describe(), refresh=False)
            self.bar.update(nimg / 1000 - self.bar.n)

    def tick(self, nimg: int, text: str) -> None:
        """Once a tick: a line of its own where there is no bar."""
        if self.active and self.bar is None:
            print(f"{nimg / 1000:.1f}/{self.total_kimg:.1f} kimg  {text}", flush=True)

    def say(self, text: str) -> None:
        """A message, not torn by the bar."""
        if not self.active:
            return
        if self.bar is None:
            print(text, flush=True)
        else:
            self.bar.write(text)

    def close(self, nimg: int) -> None:
        if self.bar is not None:
            self.bar.update(nimg / 1000 - self.bar.n)
            self.bar.close()


def memory_in_use(device: torch.device) -> dict[str, float]:
    """GiB this process holds, and the most it held on the GPU."""
    report = {"Resources/cpu_mem_gb": psutil.Process().memory_info().rss / 2**30}
    if device.type == "cuda":
        report["Resources/peak_gpu_mem_gb"] = torch.cuda.max_memory_allocated(device) / 2**30
    return report
