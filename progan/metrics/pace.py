"""How long metrics will take, from trials with a few images."""

import time
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from progan.metrics.metric import Metric
from progan.runtime.device import synchronize

TRIED = 16  # images


class Pace(NamedTuple):
    """Seconds an image."""

    add: float  # of either side
    compare: float  # of the fakes; 0 if it does not grow in proportion to them


def pace(metric: Metric, images: Tensor) -> Pace:
    """What a metric takes here, tried with `images` on both sides; `metric` stays as it is.

    Args:
        images: uint8 [n, C, r, r], n even.
    """
    small = metric.of(len(images))
    small.add("reals", images.clone(), 0)  # finds memory and kernels
    add = timed(lambda: small.add("fakes", images, 0), images) / len(images)
    compare = timed(small.result, images) / small.fakes if small.proportional else 0.0
    return Pace(add, compare)


def timed(work: Callable[[], object], images: Tensor) -> float:
    """Seconds until the images' device has done it."""
    begin = time.perf_counter()
    work()
    synchronize(images.device)
    return time.perf_counter() - begin
