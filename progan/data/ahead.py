"""Makes what the next batches need in threads, while the device works on the one before."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

AHEAD = 2  # batches
Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """Calls a pure function; threads make those for the two batches that follow.

    Args:
        make: takes `nimg`, the batch size, and what stays the same within a phase.
        threads: call `make`, several at a time.
    """

    def __init__(self, make: Callable[..., Made], threads: Executor):
        self.make = make
        self.threads = threads
        self._coming: dict[tuple[int, ...], Future[Made]] = {}

    def take(self, nimg: int, batch_size: int, *same: int, stride: int | None = None) -> Made:
        """The result of `make`, or its error. What was made for other batches is dropped.

        stride: images from one batch to the next; `None`: its own.
        """
        stride = stride or batch_size
        now, *following = ((nimg + k * stride, batch_size, *same) for k in range(AHEAD + 1))
        before, self._coming = self._coming, {}
        made = before.pop(now, None)
        for key in following:
            coming = before.pop(key) if key in before else self.threads.submit(self.make, *key)
            self._coming[key] = coming
        for dropped in before.values():
            dropped.cancel()
        return made.result() if made else self.make(*now)
