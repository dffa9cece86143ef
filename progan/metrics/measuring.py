"""A metric of two iterables of images."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from progan.config.metric_names import named, parse
from progan.metrics.inception import loader
from progan.metrics.metric import Metric
from progan.metrics.registry import make
from progan.runtime.errors import UserError
from progan.runtime.numerics import float32_as

Images = np.ndarray | Tensor
TAKES = "metrics take batches of images, uint8 [n, C, r, r] or [n, r, r, C] with 1 or 3 channels"


@float32_as("ieee")
def measure(
    metric: str | Metric,
    reals: Images | Iterable[Images],
    fakes: Images | Iterable[Images],
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """A metric of images of any origin; returns its value, and details under longer names.

    Of each side the first images are taken, as many as the metric wants.

    Args:
        metric: a name such as "swd2000".
        reals, fakes: images, or batches of them: uint8 [n, C, r, r] or [n, r, r, C].

    Raises:
        UserError: there are fewer, so that the metric's name would be wrong; or they are no such
            images, or not all of one size.
    """
    if isinstance(metric, str):
        try:
            name = named(*parse(metric))
        except ValueError as error:
            raise UserError(str(error)) from None
        metric = make(name, loader(None, torch.device(device)))
    shapes: set[torch.Size] = set()  # of images
    for side, images, wanted in (
        ("reals", reals, metric.reals),
        ("fakes", fakes, metric.fakes),
    ):
        first = 0
        batches = [images] if isinstance(images, np.ndarray | Tensor) else images
        for batch in batches if wanted != 0 else ():
            if not isinstance(batch, np.ndarray | Tensor):
                raise UserError(f"{TAKES}; got {type(batch).__name__}")
            part = channels_first(torch.as_tensor(batch, device=device))
            shapes.add(part.shape[1:])
            if len(shapes) > 1:
                sizes = " and ".join(str(list(shape)) for shape in sorted(shapes))
                raise UserError(f"metrics compare images of one size; got {sizes} (C, r, r)")
            part = part if wanted is None else part[: wanted - first]
            metric.add(side, part, first)
            first += len(part)
            if first == wanted:
                break
        if wanted and first < wanted and (side == "fakes" or metric.repeats):
            raise UserError(f"{metric.name} looks at {wanted:,} {side}, and there are {first:,}")
    return metric.result()


def channels_first(batch: Tensor) -> Tensor:
    """uint8 [n, C, r, r] or [n, r, r, C] -> [n, C, r, r]."""
    if batch.ndim != 4 or batch.dtype != torch.uint8 or not {1, 3} & {*batch.shape[1::2]}:
        raise UserError(f"{TAKES}; got {batch.dtype} {list(batch.shape)}")
    return batch if batch.shape[1] in (1, 3) else batch.permute(0, 3, 1, 2)
