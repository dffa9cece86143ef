"""The base of all metrics: images of two sides are added, then the result is asked for."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

Gather = Callable[[Tensor], Tensor]  # rows [n, …] of this process -> those of all processes


def alone(rows: Tensor) -> Tensor:
    """`Gather` for a single process."""
    return rows


# (amount of work, its unit) -> a context that shows progress; gives a function to call with the
# work just done, which may raise.
Bar = Callable[[int, str], AbstractContextManager[Callable[[int], None]]]


def no_bar(total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda done: None)


class Metric(ABC):
    """One metric by one protocol.

    Args:
        name: the protocol's, such as swd16k.
        reals, fakes: number of images of each side; None: all, 0: none.
    """

    kept_as = ""  # name for keeping results about reals, shared by metrics; empty: not kept
    repeats = True  # whether reals are repeated if there are fewer than asked for
    proportional = False  # whether comparing takes time in proportion to the images

    def __init__(self, name: str, *, reals: int | None, fakes: int):
        self.name = name
        self.reals = reals
        self.fakes = fakes

    @abstractmethod
    def add(self, side: str, images: Tensor, first: int) -> None:
        """Take images in.

        Args:
            side: "reals" or "fakes".
            images: uint8 [n, C, r, r].
            first: number of the first one, counted over all processes.
        """

    @abstractmethod
    def result(self, gather: Gather = alone, bar: Bar = no_bar) -> dict[str, float]:
        """The value under the metric's name, and details under names that begin with it.

        Args:
            bar: used by metrics whose comparison takes long.
        """

    def of(self, count: int) -> "Metric":
        """The same metric of `count` images, to try it with."""
        raise NotImplementedError

    def floor(self, count: int) -> "Metric | None":
        """The same metric of `count` images, for reals against other reals; None: not worth it."""
        return None

    def floor_size(self, count: int) -> int:
        """Number of reals on each side of `floor`, of `count` in all."""
        return min(self.fakes, count // 2)

    def keep_reals(self, gather: Gather = alone) -> dict[str, np.ndarray]:
        """Results about the added reals, for `use_reals`."""
        raise NotImplementedError

    def use_reals(self, kept: dict[str, np.ndarray]) -> None:
        """Use results of `keep_reals` instead of adding reals."""
        raise NotImplementedError


class Rows:
    """Rows of values, one for each image, put in the images' order over all processes."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []
        self.numbers: list[Tensor] = []

    def add(self, rows: Tensor, first: int) -> None:
        """Add [n, …], the rows of the images `first … first + n - 1`."""
        self.parts.append(rows)
        self.numbers.append(torch.arange(first, first + len(rows)))

    def gathered(self, gather: Gather) -> Tensor:
        """The rows of all processes."""
        order = gather(torch.cat(self.numbers)).argsort()
        return gather(torch.cat(self.parts))[order]
