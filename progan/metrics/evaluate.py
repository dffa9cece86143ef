"""Metrics of a generator beside its data: images made once for all of them, on all processes."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np
from accelerate import Accelerator
from torch import Tensor

from progan.data.progress import progress_bar
from progan.disk import DiskError
from progan.distributed import gathered, on_any
from progan.errors import UserError
from progan.metrics.images import Fakes, Reals
from progan.metrics.kept import Kept
from progan.metrics.metric import Metric
from progan.metrics.swd import COARSEST, SWD

Say = Callable[[str], None] | None

log = logging.getLogger("progan")


class Batches(Protocol):
    """Images by number."""

    def batch(self, first: int, count: int) -> Tensor:
        """uint8 [count, C, r, r]."""


def check_resolution(resolution: int) -> None:
    """Raises UserError where images are too small for metrics."""
    if resolution < COARSEST:
        raise UserError(
            f"metrics look at images of {COARSEST}x{COARSEST} or more; network.resolution is "
            f"{resolution}"
        )


def evaluate(
    metrics: Sequence[Metric],
    fakes: Fakes,
    reals: Reals,
    accelerator: Accelerator,
    kept: Kept,
    say: Say,
) -> dict[str, float]:
    """Results of all metrics, on all processes.

    Args:
        kept: of the reals' side, read where it is there and else written.
        say: shows progress; None: silence.
    """
    gather = partial(gathered, accelerator)
    floors = {m.name: noise_floor(m, reals, accelerator, kept, say) for m in metrics}
    missing = [metric for metric in metrics if not use_kept(metric, accelerator, kept)]
    feed(missing, "reals", reals, reals, accelerator, say)
    for metric in missing:
        if metric.kept_as:
            save(kept, metric.kept_as, metric.keep_reals(gather), accelerator)
    feed(metrics, "fakes", fakes, reals, accelerator, say)
    results: dict[str, float] = {}
    for metric in metrics:
        results |= metric.result(gather) | floors[metric.name]
    return results


def feed(
    metrics: Sequence[Metric],
    side: str,
    batches: Batches,
    reals: Reals,
    accelerator: Accelerator,
    say: Say,
) -> None:
    """Add as many images as each metric wants; each process takes its share of the batches.

    Raises:
        UserError: some process would have none.
    """
    whole = reals.data.count
    wanted = {metric: metric.fakes for metric in metrics}
    if side == "reals":
        asked = {metric: whole if metric.reals is None else metric.reals for metric in metrics}
        wanted = {m: count if m.repeats else min(count, whole) for m, count in asked.items()}
    wanted = {metric: count for metric, count in wanted.items() if count}
    if not wanted:
        return
    processes, rank = accelerator.num_processes, accelerator.process_index
    fewest, total = min(wanted.values()), max(wanted.values())
    if fewest < 2 * processes:
        remedy = "; use one process" if processes > 1 else ""
        raise UserError(f"metrics need {2 * processes} images, and there are {fewest}{remedy}")
    # Even, as MS-SSIM takes pairs, and such that each process has a part for each metric.
    size = min(batch_size(reals.resolution), fewest // processes // 2 * 2)
    with progress_bar(side, total, 0, say) as made:
        for first in range(rank * size, total, processes * size):
            images = batches.batch(first, min(size, total - first))
            for metric, count in wanted.items():
                if first < count:
                    fits = first + len(images) <= count
                    metric.add(side, images if fits else images[: count - first], first)
            made(min(size * processes, total - first))


def batch_size(resolution: int) -> int:
    """Images at a time: as many pixels as 64 images of 128x128 have, or four images."""
    return min(64, max(4, 64 * 128**2 // resolution**2))


def use_kept(metric: Metric, accelerator: Accelerator, kept: Kept) -> bool:
    """Whether the reals' side of a metric was at hand, on all processes, and is in use now."""
    found = kept.load(metric.kept_as) if metric.kept_as else None
    if on_any(accelerator, found is None):
        return False
    metric.use_reals(found)
    return True


def save(kept: Kept, name: str, arrays: dict[str, np.ndarray], accelerator: Accelerator) -> None:
    if accelerator.is_main_process:
        try:
            kept.save(name, arrays)
        except (DiskError, OSError) as error:
            log.warning("%s; it will be computed again next time", error)
    accelerator.wait_for_everyone()


def noise_floor(
    metric: Metric, reals: Reals, accelerator: Accelerator, kept: Kept, say: Say
) -> dict[str, float]:
    """What SWD says of reals against other reals: half of the data against the other half.

    Of as many images as the metric takes, or half of all; the fewer, the higher. Nothing of data
    with too few images for two sides.
    """
    if not isinstance(metric, SWD):
        return {}
    count = min(metric.fakes, reals.data.count // 2)
    if count < 2 * accelerator.num_processes:
        return {}
    name = f"{metric.name}_floor"
    found = kept.load(name)
    if on_any(accelerator, found is None):
        floor = SWD(name, count)
        feed([floor], "reals", reals, reals, accelerator, say)
        feed([floor], "fakes", Others(reals, count), reals, accelerator, say)
        found = {"floor": np.array(floor.result(partial(gathered, accelerator))[name])}
        save(kept, name, found, accelerator)
    return {name: float(found["floor"])}


class Others:
    """The reals after the first ones."""

    def __init__(self, reals: Reals, first: int):
        self.reals, self.first = reals, first

    def batch(self, first: int, count: int) -> Tensor:
        return self.reals.batch(self.first + first, count)
