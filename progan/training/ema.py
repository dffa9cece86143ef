"""Moving average of the generator, its half-life measured in images."""

from collections.abc import Iterable

import torch
from torch import Tensor


def decay(batch_size: int, half_life_kimg: float) -> float:
    """The share of the average that an update of `batch_size` images keeps.

    The official 0.999 an update is a half-life of 11.1 kimg at a batch size of 16.
    """
    return 0.5 ** (batch_size / (half_life_kimg * 1000))


@torch.no_grad()
def update(averages: Iterable[Tensor], parameters: Iterable[Tensor], decay: float) -> None:
    """`average = decay * average + (1 - decay) * parameter`, in place, all in one call."""
    torch._foreach_lerp_(list(averages), list(parameters), 1 - decay)
