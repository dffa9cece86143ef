"""An endless, resumable stream of reals: a pure function of seed and images shown."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from shlex import quote
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from progan.data.ahead import AHEAD, Ahead
from progan.data.array_file import ArrayFile
from progan.data.dataset import Dataset
from progan.data.epoch_order import EpochOrder, spread
from progan.data.pyramid.format import Pyramid
from progan.runtime import memory
from progan.runtime.device import pinned, upload
from progan.runtime.distributed import share
from progan.runtime.errors import UserError

COPY_BYTES = 2**26  # of a level, copied to the device at a time
CACHE_SHARE = 4  # `auto` keeps a level on the device that takes a quarter of its free memory


class Reals(NamedTuple):
    images: Tensor  # [n, C, r, r] float32 in [-1, 1], on the device
    labels: Tensor | None  # [n] int64, or of attributes [n, K] uint8, on the device


class Read(NamedTuple):
    """This process's share of a batch, pinned in the host's memory."""

    images: Tensor  # uint8 [n, C, r, r]; their indices if the device holds the level
    flips: Tensor
    labels: Tensor | None


class Stream:
    """Batches of a data set in the order of an `EpochOrder`.

    Position `nimg` is the same image, flipped or not, however the stream is cut into batches,
    spread over processes, or restarted.

    Args:
        seed: of order and flips.
        mirror: flip half of the images left to right.
        rank, processes: this process reads only its contiguous share of each batch.
        device_cache: keep the current level on the device; None: on a GPU if it takes at most a
            quarter of the free memory. Otherwise batches are read ahead of the step.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        seed: int,
        mirror: bool = False,
        device: torch.device | str = "cpu",
        rank: int = 0,
        processes: int = 1,
        device_cache: bool | None = None,
    ):
        self.data = data
        self.order = EpochOrder(data.count, seed, mirror)
        self.device = torch.device(device)
        self.rank = rank
        self.processes = processes
        self.device_cache = device_cache
        self.waited = 0.0  # seconds that callers of `batch` have spent in it
        self._held: tuple[int, Tensor | None] = (0, None)  # resolution, its level on the device
        # They make all that batches need, so that what is needed first is made first.
        self.threads = ThreadPoolExecutor(AHEAD, "reading-ahead")
        self._reads = Ahead(self._read, self.threads)

    def batch(self, nimg: int, batch_size: int, resolution: int) -> Reals:
        """This process's share of the global batch at `nimg`."""
        start = time.perf_counter()
        held = self._hold(resolution)
        read = self._reads.take(nimg, batch_size, resolution)
        pixels = upload(read.images, self.device)
        if held is not None and pixels.ndim == 1:
            pixels = held[pixels]
        images = pixels.float().div_(127.5).sub_(1)
        if self.order.mirror:
            flipped = upload(read.flips, self.device)[:, None, None, None]
            images = torch.where(flipped, images.flip(3), images)
        labels = None if read.labels is None else upload(read.labels, self.device)
        self.waited += time.perf_counter() - start
        return Reals(images, labels)

    def _read(self, nimg: int, batch_size: int, resolution: int) -> Read:
        mine = share(batch_size, self.rank, self.processes)
        indices, flips = (a[mine] for a in self.order.at(nimg, batch_size))
        labels = self.data.labels
        at, level = self._held
        on_device = level is not None and at == resolution
        return Read(
            pinned(indices if on_device else self.data.read(indices, resolution), self.device),
            pinned(flips, self.device),
            None if labels is None else pinned(labels.values[indices], self.device),
        )

    def _hold(self, resolution: int) -> Tensor | None:
        """The level on the device, if it is to be kept there; decided at its first batch."""
        if self._held[0] != resolution:
            self._held = (0, None)  # frees the one before
            level, copy = self.data.level(resolution), None
            if level is not None and self._wants_on_device(level.nbytes):
                copy = to_device(level, self.device)
            self._held = (resolution, copy)
        return self._held[1]

    def let_go(self) -> bool:
        """Frees a level that is kept on the device. Returns whether there was one."""
        resolution, level = self._held
        if level is None:
            return False
        self._held = (resolution, None)
        self._reads = Ahead(self._read, self.threads)  # what was read ahead has indices only
        return True

    def _wants_on_device(self, size: int) -> bool:
        if self.device_cache is not None or self.device.type != "cuda":
            return bool(self.device_cache)
        return size <= memory.free(self.device) / CACHE_SHARE

    def examples(self, count: int, rows: np.ndarray | None, resolution: int) -> np.ndarray:
        """Images that stand for all, or those of given classes: uint8 [n, C, r, r], not flipped.

        Always the same ones, spread over the data, as neighbours in a folder are often alike. A
        class with too few images repeats them.

        Args:
            rows: labels as `Labels.values`, for which attributes count as none.
        """
        labels = self.data.labels
        if rows is None or labels is None or labels.kind == "attributes":
            return self.data.read(spread(self.data.count, count), resolution)
        of_class = {k: np.flatnonzero(labels.values == k) for k in set(rows.tolist())}
        images = {k: cycle(some[spread(len(some), count)]) for k, some in of_class.items()}
        chosen = [next(images[k]) for k in rows.tolist()]
        return self.data.read(np.array(chosen), resolution)

    def state_dict(self) -> dict[str, str]:
        """Identifies the images and labels, wherever they are kept."""
        return {"data": self.data.identity}

    def load_state_dict(self, state: dict[str, str]) -> None:
        """Raises UserError if the run was trained on other images."""
        identity = state.get("data", "")
        if not self.data.is_identified_by(identity):
            kept = isinstance(self.data, Pyramid) and self.data.identified_in_cache(identity)
            folders = self.data.labels is not None and self.data.labels.kind == "classes"
            remedy = "give the same --data, or another --run-dir"
            if kept:
                remedy = f"those are still prepared: -o data.source={quote(str(kept))} goes on"
            elif folders:
                remedy += "; if only their classes differ, set data.label_level=1"
            raise UserError(
                f"the data ({self.data.count} images, '{self.data.title}') are not those that this "
                f"run has been trained on; {remedy}"
            )

    def close(self) -> None:
        """Stop what is read ahead, and close the data."""
        self.threads.shutdown(cancel_futures=True)
        self.data.close()


def to_device(level: ArrayFile, device: torch.device) -> Tensor | None:
    """A copy of a level, read from its file in order and in pieces; None if memory is short."""
    try:
        copy = torch.empty(level.shape, dtype=torch.uint8, device=device)
    except Exception as error:
        if not memory.is_short(error):
            raise
        return None
    step = max(1, COPY_BYTES * len(level) // level.nbytes)
    for start in range(0, len(level), step):
        copy[start : start + step] = torch.from_numpy(level[start : start + step])
    return copy
