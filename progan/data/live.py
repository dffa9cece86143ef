"""Images of a source, made when they are asked for, with the interface of a pyramid."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from progan.data.decode import BadImage, Content, Square, TooSmall, open_image, region, upright_size
from progan.data.sources.bit_depth import with_values
from progan.data.sources.source import Source, attempt, content_key, evenly
from progan.data.workers import Workers, without_pil_warnings
from progan.runtime.errors import UserError

log = logging.getLogger("progan")

LOOKED_AT = 16  # images that are checked before training begins


class OnDemandDataset:
    """A `Dataset` of a source's images, decoded and resized by worker processes on demand.

    An image that cannot be used is replaced by the next good one with the same label. Which one
    that is depends on the images alone, so it is the same in every process.

    An image of resolution * 2^k pixels a side equals a pyramid's at every resolution. Any other is
    resized once to the resolution asked for, while a pyramid resizes it to its largest level and
    takes box averages from there. So they differ by the filter (Lanczos), a few grey levels in
    fine detail.

    Args:
        square: what images are made into at the largest resolution; one that is too small for it
            is not used at any.
        max_bad: images that may be unusable before training stops.
        workers: processes that decode; None: one for each core; 0: this one decodes.

    Raises:
        UserError: more than half of LOOKED_AT images cannot be used.
    """

    def __init__(
        self, source: Source, square: Square, *, max_bad: int = 0, workers: int | None = None
    ):
        self.count, self.title = len(source), source.name
        self.channels, self.resolution = square.channels, square.resolution
        self.labels = source.labels
        source = with_values(source)
        self.identity = content_key(source.key, square.key)
        self._source, self._max_bad = source, max_bad
        self._bad: dict[int, str] = {}
        self._instead: dict[int, int] = {}
        self._lock = threading.Lock()
        whole = LargeEnough(source.content, square)
        self._job = partial(read_some, replace(source, labels=None, content=whole), square)
        self._check_some()
        self._workers = Workers(self._job, workers).__enter__()

    def is_identified_by(self, identity: str) -> bool:
        return identity == self.identity

    def level(self, resolution: int) -> None:
        """None: there is no array of all images."""
        return None

    def read(self, indices: np.ndarray, resolution: int) -> np.ndarray:
        """Images by index: uint8 [n, C, r, r]. Several threads may call it.

        Raises:
            UserError: more than `max_bad` images cannot be used, or the source fails.
        """
        asked = [int(i) for i in indices]
        used = [self._instead.get(i, i) for i in asked]
        pixels = np.empty((len(asked), self.channels, resolution, resolution), np.uint8)
        todo = list(range(len(asked)))
        while todo:
            refused = []
            here = np.array([used[k] for k in todo])
            made = self._workers.spread(here, lambda part: (part.tolist(), resolution))
            for k, image in zip(todo, chain.from_iterable(made), strict=True):
                if isinstance(image, BadImage):
                    refused.append(k)
                    self._leave_out(used[k], str(image))
                else:
                    pixels[k] = image
            for k in refused:
                used[k] = self._instead[asked[k]] = self._after(used[k])
            todo = refused
        return pixels

    def close(self) -> None:
        """End the worker processes."""
        self._workers.close()

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
        """The next image with the same label that is not known to be bad, around the end."""
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

    def _check_some(self) -> None:
        """Raises UserError for a wrong resolution now, not after a thousand images."""
        indices = evenly(self.count, LOOKED_AT)
        with without_pil_warnings():
            images = self._job((indices, self.resolution))
        refused = [(i, x) for i, x in zip(indices, images, strict=True) if isinstance(x, BadImage)]
        if 2 * len(refused) <= len(indices):
            return
        sizes = sorted({bad.size for _, bad in refused if isinstance(bad, TooSmall)})
        small = f"; sizes found: {', '.join(f'{w}x{h}' for w, h in sizes)}" if sizes else ""
        i, why = refused[0]
        raise UserError(
            f"{self.title}: {len(refused)} of {len(indices)} images looked at cannot be used at "
            f"resolution {self.resolution}{small}; the first is {self._source.item_name(i)}: {why}"
            f"{'; choose a lower network.resolution or data.allow_upscale' if sizes else ''}"
        )


def read_some(
    source: Source, square: Square, item: tuple[list[int], int]
) -> Sequence[np.ndarray | BadImage]:
    """A worker's job: some images at one resolution, or why they cannot be used."""
    indices, resolution = item
    return source.read_batch(indices, replace(square, resolution=resolution))


@dataclass(frozen=True)
class LargeEnough:
    """The content of images; one too small for the largest resolution is refused at every one.

    So all phases use the same images, and those that cannot be used are known in the first.
    """

    content: Any
    square: Square

    def __call__(self, i: int) -> Content:
        return self._check(self.content(i))

    def read_many(self, indices: Sequence[int]) -> list[Content | BadImage]:
        return [
            content if isinstance(content, BadImage) else attempt(self._check, content)
            for content in self.content.read_many(indices)
        ]

    def _check(self, content: Content) -> Content:
        try:
            image = open_image(content)
            size = upright_size(image)
            _, _, side = region(size, self.square.fit)
        except Exception:  # `read_square` will say what is wrong
            return content
        if side < self.square.resolution and not self.square.upscale:
            raise TooSmall(size, self.square.resolution)
        return image
