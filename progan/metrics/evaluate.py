"""Metrics of a generator compared with data: images made once for all of them, on all processes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from progan.config.metric_names import SMALLEST
from progan.metrics.inputs import Fakes, Reals
from progan.metrics.metric import Gather, Metric, alone
from progan.metrics.pace import expected
from progan.metrics.reference_cache import ReferenceCache
from progan.runtime.distributed import gathered, on_any
from progan.runtime.errors import UserError
from progan.runtime.numerics import float32_as
from progan.runtime.progress import Say, progress_bar
from progan.runtime.text import human_time


def check_resolution(file: Path, resolution: int) -> None:
    """Raises UserError if a snapshot's images are too small for metrics."""
    if resolution < SMALLEST:
        raise UserError(
            f"{file}: metrics need images of {SMALLEST}x{SMALLEST} or more, and its "
            f"network.resolution is {resolution}"
        )


def batch_size(resolution: int) -> int:
    """Images at a time: as many pixels as in 64 images of 128x128, but four images at least."""
    return min(64, max(4, 64 * 128**2 // resolution**2))


class Stopped(Exception):
    """A stop was requested before the metrics were done."""


@dataclass(frozen=True)
class Evaluation:
    """Compares fakes with these reals.

    Args:
        kept: results about the reals, computed and written if they are not there yet.
        say: shows progress to the user; None: silence.
        stopped: called between batches, and while SWD compares; returns whether to stop.

    Raises:
        Stopped: by any method, on all processes, if one of them is to stop.
    """

    reals: Reals
    accelerator: Accelerator
    kept: ReferenceCache
    say: Say = None
    stopped: Callable[[], bool] = lambda: False

    @property
    def gather(self) -> Gather:
        return alone if self.accelerator.num_processes == 1 else partial(gathered, self.accelerator)

    @float32_as("ieee")
    def measure(self, metrics: Sequence[Metric], fakes: Fakes) -> dict[str, float]:
        """Results of all metrics, the same on all processes."""
        if self.say:
            seconds = expected(metrics, self.reals, fakes, self.kept)
            self.say(f"this takes about {human_time(seconds / self.accelerator.num_processes)}")
        floors = {metric.name: self.noise_floor(metric) for metric in metrics}
        names = dict.fromkeys(metric.kept_as for metric in metrics if metric.kept_as)
        kept = {name: self.load(name) for name in names}
        missing = []
        for metric in metrics:
            if (found := kept.get(metric.kept_as)) is None:
                missing.append(metric)
            else:
                metric.use_reals(found)
        self.feed(missing, "reals", self.reals, "reals")
        for name, metric in {metric.kept_as: metric for metric in missing}.items():
            if name:
                self.keep(name, metric.keep_reals(self.gather))
        self.feed(metrics, "fakes", fakes, "fakes")
        results: dict[str, float] = {}
        for metric in metrics:
            results |= self.result(metric) | floors[metric.name]
        return results

    def result(self, metric: Metric) -> dict[str, float]:
        """A metric's values; one that takes long shows a bar and can be stopped."""

        @contextmanager
        def bar(total: int, unit: str) -> Iterator[Callable[[int], None]]:
            with progress_bar(f"{metric.name}, comparing", total, 0, self.say, unit) as done:

                def advance(n: int) -> None:
                    self.stop_if_asked()
                    done(n)

                yield advance

        return metric.result(self.gather, bar)

    def stop_if_asked(self) -> None:
        if on_any(self.accelerator, self.stopped()):
            raise Stopped

    def feed(self, metrics: Sequence[Metric], side: str, source: Fakes | Reals, title: str) -> None:
        """Add as many images as each metric wants; each process takes its share of the batches.

        Raises:
            UserError: there are too few for all processes.
        """
        whole = self.reals.data.count
        wanted = {metric: metric.fakes for metric in metrics}
        if side == "reals":
            asked = {metric: whole if metric.reals is None else metric.reals for metric in metrics}
            wanted = {m: count if m.repeats else min(count, whole) for m, count in asked.items()}
        wanted = {metric: count for metric, count in wanted.items() if count}
        if not wanted:
            return
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        fewest, total = min(wanted.values()), max(wanted.values())
        if fewest < 2 * processes:
            remedy = "; use one process" if processes > 1 else ""
            raise UserError(f"metrics need {2 * processes} images, and there are {fewest}{remedy}")
        # Even, as MS-SSIM takes pairs, and small enough that each process has some for each metric.
        size = min(batch_size(self.reals.resolution), fewest // processes // 2 * 2)
        with progress_bar(title, total, 0, self.say) as made:
            for start in range(0, total, processes * size):
                self.stop_if_asked()
                first = start + rank * size
                if first < total:
                    images = source.batch(first, min(size, total - first))
                for metric, count in wanted.items():
                    if first < count:
                        fits = first + len(images) <= count
                        metric.add(side, images if fits else images[: count - first], first)
                made(min(size * processes, total - start))

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """Arrays kept under a name; None on all processes if one lacks them."""
        found = self.kept.load(name)
        return None if on_any(self.accelerator, found is None) else found

    def keep(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Save arrays for next time, on each machine that has a cache of its own."""
        here = self.accelerator
        if here.is_main_process:
            self.kept.save(name, arrays)
        here.wait_for_everyone()
        first_of_another = here.is_local_main_process and not here.is_main_process
        if first_of_another and self.kept.load(name) is None:
            self.kept.save(name, arrays)
        here.wait_for_everyone()

    def noise_floor(self, metric: Metric) -> dict[str, float]:
        """The metric of reals against other reals: one half of the data against the other half.

        With as many images as the metric takes, or half of all; fewer give a higher value. Empty
        if the metric has no floor or the data too few images for two sides.
        """
        count = metric.floor_size(self.reals.data.count)
        floor = metric.floor(count)
        if floor is None or count < 2 * self.accelerator.num_processes:
            return {}
        name = floor.name
        found = self.load(name)
        if found is None:
            self.feed([floor], "reals", self.reals, f"{name}, reals")
            self.feed([floor], "fakes", self.reals.after(count), f"{name}, other reals")
            found = {"floor": np.array(self.result(floor)[name])}
            self.keep(name, found)
        return {name: float(found["floor"])}
