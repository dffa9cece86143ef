"""What every metric is: something that images of two sides are added to, and that then tells."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from progan.runtime.errors import UserError
from progan.runtime.numerics import float32_as

Gather = Callable[[Tensor], Tensor]  # rows [n, …] of this process -> those of all processes


def alone(rows: Tensor) -> Tensor:
    """The `Gather` of a single process."""
    return rows


# Work to do and its unit -> shows how far it is, by a function to call with the work just done,
# which may raise.
Bar = Callable[[int, str], AbstractContextManager[Callable[[int], None]]]


def no_bar(total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda done: None)


class Metric(ABC):
    """One measure by one protocol.

    name: the protocol's, such as swd16k. fakes, reals: how many images of each side it looks at;
    `None` is all that there are, 0 none. kept_as: under which name the reals' side may be kept
    and shared with other metrics of the same name; `None`: it is not worth its space. repeats:
    whether reals come again where there are fewer than it asks for. has_floor: whether it is worth
    telling what it says of reals against other reals.
    """

    kept_as = ""
    repeats = True

    def __init__(self, name: str, *, reals: int | None, fakes: int):
        self.name = name
        self.reals = reals
        self.fakes = fakes

    @abstractmethod
    def add(self, side: str, images: Tensor, first: int) -> None:
        """Look at images.

        Args:
            side: "reals" or "fakes".
            images: uint8 [n, C, r, r].
            first: how many images of this side, on all processes, precede these.
        """

    @abstractmethod
    def result(self, gather: Gather = alone, bar: Bar = no_bar) -> dict[str, float]:
        """The value under the metric's name, and further ones under names that begin with it.

        Args:
            bar: used by metrics whose comparison takes long.
        """

    def floor(self, count: int) -> "Metric | None":
        """The same metric of `count` images, for reals against other reals; None: not worth it."""
        return None

    def keep_reals(self, gather: Gather = alone) -> dict[str, np.ndarray]:
        """What `use_reals` takes, of the reals that were added (if `kept_as` is not None)."""
        raise NotImplementedError

    def use_reals(self, kept: dict[str, np.ndarray]) -> None:
        """In place of adding reals."""
        raise NotImplementedError


class Rows:
    """What was found of images, a row each: in the images' order, however processes shared them."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []
        self.numbers: list[Tensor] = []

    def add(self, rows: Tensor, first: int) -> None:
        """[n, …] of the images `first … first + n - 1`."""
        self.parts.append(rows)
        self.numbers.append(torch.arange(first, first + len(rows)))

    def gathered(self, gather: Gather) -> Tensor:
        """Of all processes."""
        order = gather(torch.cat(self.numbers)).argsort()
        return gather(torch.cat(self.parts))[order]


@float32_as("ieee")
def measure(
    metric: Metric, reals: Iterable[Any], fakes: Iterable[Any], device: torch.device | str = "cpu"
) -> dict[str, float]:
    """A metric of two iterables of batches, uint8 [n, C, r, r], arrays or tensors.

    Of each side the first images are taken, as many as the metric wants.

    Raises:
        UserError: there are fewer, so that the metric's name would be wrong.
    """
    for side, batches, wanted in (
        ("reals", reals, metric.reals),
        ("fakes", fakes, metric.fakes),
    ):
        first = 0
        for batch in batches if wanted != 0 else ():
            images = torch.as_tensor(batch, device=device)
            images = images if wanted is None else images[: wanted - first]
            metric.add(side, images, first)
            first += len(images)
            if first == wanted:
                break
        if wanted and first < wanted and (side == "fakes" or metric.repeats):
            raise UserError(f"{metric.name} looks at {wanted:,} {side}, and there are {first:,}")
    return metric.result()
