"""Images of a source made when they are asked for, with the interface of a pyramid."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from progan.data.decode import BadImage, Content, Square, TooSmall, open_image, upright_size
from progan.data.sources.source import Source, content_key, evenly
from progan.data.workers import KILLED, Workers
from progan.runtime.errors import UserError

log = logging.getLogger("progan")

LOOKED_AT = 16  # images, before training begins

Refused = tuple[str, tuple[int, int] | None]  # why, and the size of one that is too small


class OnDemandDataset:
    """Images of a source, decoded by worker processes and resized to what is asked for.

    It is what a `Stream` takes, and may be read from several threads.

    An image that cannot be used is replaced by the next that can, of the same label, in every
    process alike: which one that is depends on the images alone.

    An image of resolution * 2^k pixels a side is at every resolution what a pyramid has, where it
    is decoded in full. Any other is resized once, straight to the resolution asked for, where a
    pyramid resizes to its largest level and takes box averages from there; the two differ by the
    filter (Lanczos), a few grey levels in fine detail.

    Args:
        square: what the images are made into at the largest resolution. One that is too small
            for that is not used at any.
        max_bad: images that may turn out unusable before training stops.
        workers: processes that decode; None: one a core; 0: this one does.

    Raises:
        UserError: most of a few images looked at now cannot be used.
    """

    def __init__(
        self, source: Source, square: Square, *, max_bad: int = 0, workers: int | None = None
    ):
        self.count, self.title = len(source), source.name
        self.channels, self.resolution = square.channels, square.resolution
        self.labels = source.labels
        self.identity = content_key(source.key, square.key)
        self._source, self._max_bad = source, max_bad
        self._bad: dict[int, str] = {}
        self._instead: dict[int, int] = {}
        self._lock = threading.Lock()
        whole = _LargeEnough(source.content, square)
        self._job = _Reader(replace(source, labels=None, content=whole), square)
        self._look()
        self._workers = Workers(self._job, workers).__enter__()

    def level(self, resolution: int) -> None:
        """There is no array of all images."""
        return None

    def read(self, indices: np.ndarray, resolution: int) -> np.ndarray:
        """Images by index as uint8 [n, channels, resolution, resolution].

        Raises UserError if more than `max_bad` cannot be used, or if the source fails.
        """
        asked = [int(i) for i in indices]
        used = [self._instead.get(i, i) for i in asked]
        pixels = np.empty((len(asked), self.channels, resolution, resolution), np.uint8)
        todo = list(range(len(asked)))
        while todo:
            refused = []
            for k, image in zip(todo, self._make([used[k] for k in todo], resolution), strict=True):
                if isinstance(image, np.ndarray):
                    pixels[k] = image
                else:
                    refused.append(k)
                    self._leave_out(used[k], image[0])
            for k in refused:
                used[k] = self._instead[asked[k]] = self._after(used[k])
            todo = refused
        return pixels

    def close(self) -> None:
        """End the worker processes."""
        self._workers.close()

    def _make(self, indices: list[int], resolution: int) -> list[np.ndarray | Refused]:
        """Spread over the workers."""
        parts = np.array_split(indices, max(1, min(self._workers.count, len(indices))))
        jobs = [self._workers.submit((part.tolist(), resolution)) for part in parts]
        try:
            return [image for job in jobs for image in job.result()]
        except BrokenProcessPool as error:
            raise UserError(KILLED) from error

    def _leave_out(self, i: int, why: str) -> None:
        with self._lock:
            if i in self._bad:
                return
            self._bad[i] = why
        name = self._source.item_name(i)
        log.warning("%s: %s cannot be used (%s); another takes its place", self.title, name, why)
        if len(self._bad) > self._max_bad:
            raise UserError(
                f"{self.title}: {len(self._bad)} images cannot be used, and data.max_bad is "
                f"{self._max_bad}; the last one is {name}: {why}; mend or remove them, or raise "
                "data.max_bad"
            )

    def _after(self, i: int) -> int:
        """The next image, from the first again after the last, that is not known to be bad."""
        same = np.arange(self.count)
        if self.labels is not None:
            same = self.labels.alike(i)
        same = np.roll(same, -np.searchsorted(same, i, "right"))
        following = next((int(j) for j in same if int(j) not in self._bad), None)
        if following is None:
            raise UserError(
                f"{self.title}: none of {len(same)} images can take the place of "
                f"{self._source.item_name(i)} ({self._bad[i]}), which has their label; mend or "
                "remove it"
            )
        return following

    def _look(self) -> None:
        """A wrong resolution should be told now, not after a thousand images."""
        indices = evenly(self.count, LOOKED_AT)
        with Workers(self._job, 0) as here:
            images = here.submit((indices, self.resolution)).result()
        refused = [
            (i, *image)
            for i, image in zip(indices, images, strict=True)
            if not isinstance(image, np.ndarray)
        ]
        if 2 * len(refused) <= len(indices):
            return
        sizes = sorted({size for _, _, size in refused if size})
        small = f"; sizes found: {', '.join(f'{w}x{h}' for w, h in sizes)}" if sizes else ""
        i, why, _ = refused[0]
        raise UserError(
            f"{self.title}: {len(refused)} of {len(indices)} images looked at cannot be used at "
            f"resolution {self.resolution}{small}; the first is {self._source.item_name(i)}: {why}"
            f"{'; choose a lower network.resolution or data.allow_upscale' if sizes else ''}"
        )


@dataclass(frozen=True)
class _Reader:
    """A worker's job: some images at one resolution, or why not."""

    source: Source
    square: Square

    def __call__(self, item: tuple[list[int], int]) -> list[np.ndarray | Refused]:
        indices, resolution = item
        images = self.source.read_batch(indices, replace(self.square, resolution=resolution))
        return [
            (str(image), getattr(image, "size", None)) if isinstance(image, BadImage) else image
            for image in images
        ]


@dataclass(frozen=True)
class _LargeEnough:
    """Content by index, refused at every resolution if it is too small for the largest.

    The same images are then used in all phases, and those that cannot be are known in the first.
    """

    content: Any
    square: Square

    def __call__(self, i: int) -> Content:
        return self._check(self.content(i))

    def read_many(self, indices: Sequence[int]) -> list[Content | BadImage]:
        found = []
        for content in self.content.read_many(indices):
            try:
                bad = isinstance(content, BadImage)
                found.append(content if bad else self._check(content))
            except BadImage as error:
                found.append(error)
        return found

    def _check(self, content: Content) -> Content:
        try:
            image = open_image(content)
            size = upright_size(image)
        except Exception:  # what is wrong with it will be told where it is read
            return content
        fit, least = self.square.fit, self.square.resolution
        side = (min(size) if fit == "crop" else max(size)) if isinstance(fit, str) else fit[2]
        if side < least and not self.square.upscale:
            raise TooSmall(size, least)
        return image
