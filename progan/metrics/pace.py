"""How long metrics will take, from trials with a few images."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from progan.metrics.inputs import Fakes, Reals
from progan.metrics.metric import Metric
from progan.metrics.reference_cache import ReferenceCache
from progan.runtime.device import timed

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
    add = timed(lambda: small.add("fakes", images, 0), images.device) / len(images)
    if not metric.proportional:
        return Pace(add, 0.0, 0.0)
    large = metric.of(4 * len(images))
    for side in ("reals", "fakes"):
        large.add(side, images.repeat(4, 1, 1, 1), 0)
    seconds = [timed(of.result, images.device) for of in (small, large)]
    compare = max(0.0, seconds[1] - seconds[0]) / (large.fakes - small.fakes)
    return Pace(add, max(0.0, seconds[0] - compare * small.fakes), compare)


def expected(metrics: Sequence[Metric], reals: Reals, fakes: Fakes, kept: ReferenceCache) -> float:
    """Seconds of all stages together on one process, tried with a few images of each side.

    Reading and adding images, and comparisons that grow with them; not those of Inception
    features, which take seconds.
    """
    count = reals.data.count
    n = min(TRIED, max(2, count // 2 * 2))
    images = fakes.batch(0, n)
    making, reading = (
        timed(partial(side.batch, 0, n), images.device) / n for side in (fakes, reals)
    )
    seconds = making * max(metric.fakes for metric in metrics)
    for metric in metrics:
        each, floor = pace(metric, images), metric.floor(metric.floor_size(count))
        seconds += metric.fakes * each.add + each.comparing(metric.fakes)
        if not metric.kept_as or kept.load(metric.kept_as) is None:
            seconds += (count if metric.reals is None else metric.reals) * (reading + each.add)
        if floor and kept.load(floor.name) is None:
            seconds += 2 * floor.fakes * (reading + each.add) + each.comparing(floor.fakes)
    return seconds
