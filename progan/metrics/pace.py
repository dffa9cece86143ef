"""How long metrics will take, from trials with a few images."""

import time
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from progan.metrics.metric import Metric
from progan.runtime.device import synchronize

TRIED = 16  # images


class Pace(NamedTuple):
    """What a metric takes, in seconds."""

    add: float  # an image of either side
    start: float  # a comparison, however few the images
    compare: float  # a comparison, for each fake
    # Both are 0 if a comparison does not take time in proportion to the images.

    def comparing(self, fakes: int) -> float:
        return self.start + fakes * self.compare


def pace(metric: Metric, images: Tensor) -> Pace:
    """What a metric takes here, tried with `images` on both sides; `metric` stays as it is.

    Args:
        images: uint8 [n, C, r, r], n even.
    """
    small = metric.of(len(images))
    small.add("reals", images.clone(), 0)  # finds memory and kernels
    add = timed(lambda: small.add("fakes", images, 0), images) / len(images)
    if not metric.proportional:
        return Pace(add, 0.0, 0.0)
    large = metric.of(4 * len(images))
    for side in ("reals", "fakes"):
        large.add(side, images.repeat(4, 1, 1, 1), 0)
    seconds = [timed(of.result, images) for of in (small, large)]
    compare = max(0.0, seconds[1] - seconds[0]) / (large.fakes - small.fakes)
    return Pace(add, max(0.0, seconds[0] - compare * small.fakes), compare)


def timed(work: Callable[[], object], images: Tensor) -> float:
    """Seconds until the images' device has done it."""
    begin = time.perf_counter()
    work()
    synchronize(images.device)
    return time.perf_counter() - begin
