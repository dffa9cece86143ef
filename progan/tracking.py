"""Statistics to console, `stats.jsonl` and trackers (TensorBoard by default)."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from accelerate.tracking import LoggerType, get_available_trackers
from torch import Tensor
from tqdm import tqdm

from progan.config import Config, flatten
from progan.disk import write_atomically
from progan.errors import UserError, nearest


class Statistics:
    """Means since the last tick, accumulated on the device: adding waits for nothing."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: dict[str, Tensor], images: int) -> None:
        """Batch means, each of `images` images."""
        for name, value in values.items():
            weighted = value.float() * images
            self.sums[name] = self.sums[name] + weighted if name in self.sums else weighted
            self.counts[name] = self.counts.get(name, 0) + images

    def means(self) -> dict[str, float]:
        """The means, copied to the host in one go, and a new beginning."""
        sums, counts = self.sums, self.counts
        self.__init__()
        values = torch.stack(list(sums.values())).tolist() if sums else []
        return {name: value / counts[name] for name, value in zip(sums, values, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        sums = {name: value.cpu() for name, value in self.sums.items()}
        return {"sums": sums, "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])

    def to(self, device: torch.device) -> None:
        self.sums = {name: value.to(device) for name, value in self.sums.items()}


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
        self.stats_file = run_dir / "stats.jsonl"
        if not self.active:
            return
        drop_lines_after(self.stats_file, nimg)
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

    def log(self, values: dict[str, float], nimg: int) -> None:
        """One line of statistics, and the trackers' scalars."""
        if not self.active:
            return
        with open(self.stats_file, "a", encoding="utf-8") as file:
            file.write(json.dumps({"nimg": nimg, **values}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        for tracker in self.accelerator.trackers:
            tracker.log(values, step=nimg)

    def log_image(self, name: str, image: np.ndarray, nimg: int) -> None:
        """uint8 [C, H, W] to the trackers that take pictures."""
        if not self.active:
            return
        pixels = image.transpose(1, 2, 0)[None]
        for tracker in self.accelerator.trackers:
            if not hasattr(tracker, "log_images"):
                continue
            if tracker.name == "tensorboard":
                tracker.log_images({name: pixels}, step=nimg, dataformats="NHWC")
            elif tracker.name in ("aim", "clearml"):
                tracker.log_images({name: pixels[0]}, step=nimg)
            else:
                tracker.log_images({name: [pixels[0]]}, step=nimg)


def drop_lines_after(path: Path, nimg: int) -> None:
    """Remove statistics of images that will be shown again, and a half-written last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["nimg"] <= nimg:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    write_atomically(path, lambda file: file.write_text("".join(kept), encoding="utf-8"))


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
