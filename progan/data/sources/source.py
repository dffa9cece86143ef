"""A source: images by index, with names and labels, before anything is done to them."""

import errno
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from progan.data.decode import BadImage, Content, Square, read_square
from progan.data.labels import Labels
from progan.runtime.errors import UserError

# Errors that say something of a disk, a network or this machine, not of a file.
AWAY = {
    getattr(errno, name, None)
    for name in (
        *("ESTALE", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENODEV"),
        *("EMFILE", "ENFILE", "ENOMEM"),
    )
}


@dataclass
class Source:
    """Images by index. It can be pickled and then read in another process.

    name: short, fit for a file name. key: hex, changes with the content. names: one an image.
    content: index to a file's bytes, an array or an image; it opens what it reads from when it is
    first called in a process.
    """

    name: str
    key: str
    names: Sequence[str]
    content: Callable[[int], Content]
    labels: Labels | None = None

    def __len__(self) -> int:
        return len(self.names)

    def pick(self, indices: range) -> Callable[[int], Content] | None:
        """The content of some images, to send to a process that has the rest of the source.

        None if all of it is small enough to have been sent at once.
        """
        pick = getattr(self.content, "pick", None)
        return pick and pick(list(indices))

    def without_lists(self) -> Self:
        """What a process needs beside what `pick` gives it."""
        content = None if hasattr(self.content, "pick") else self.content
        return replace(self, names=(), labels=None, content=content)

    def read_picked(
        self, indices: range, picked: Callable[[int], Content] | None, square: Square
    ) -> list[np.ndarray | BadImage]:
        """`read_batch`, in a process that was sent `without_lists` and then `pick`."""
        if picked is None:
            return self.read_batch(indices, square)
        return replace(self, content=picked).read_batch(range(len(indices)), square)

    def item_name(self, i: int) -> str:
        """The name of image `i`, printable whatever bytes it has on disk."""
        return self.names[i].encode(errors="backslashreplace").decode()

    def load(self, i: int) -> Content:
        """What image `i` is made of. Raises BadImage; UserError if it is not the image's fault."""
        try:
            return self.content(i)
        except (BadImage, UserError):
            raise
        except OSError as error:
            if error.errno in AWAY:
                raise UserError(
                    f"cannot read {error.filename or self.name} ({error.strerror}), which says "
                    "nothing of the image; once it can be read, the same command goes on"
                ) from error
            raise BadImage(error.strerror or str(error)) from error
        except Exception as error:  # damaged archives make their readers raise anything
            raise BadImage(f"{type(error).__name__}: {error}") from error

    def read(self, i: int, square: Square) -> np.ndarray:
        """Image `i` as uint8 [channels, resolution, resolution].

        Raises BadImage or TooSmall. PIL's warnings pass.
        """
        return read_square(self.load(i), square)

    def read_batch(self, indices: Sequence[int], square: Square) -> list[np.ndarray | BadImage]:
        """For each index the image as from `read`, or the error that `read` raises."""
        found: list[np.ndarray | BadImage] = []
        for i in indices:
            try:
                found.append(self.read(i, square))
            except BadImage as error:
                found.append(error)
        return found


def content_key(*parts: object) -> str:
    """A hash of bytes and of whatever has a stable `repr`."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
    return digest.hexdigest()


def short_name(path: Path) -> str:
    """What a source at `path` is called: its name without the suffixes of archives and arrays."""
    stem = re.sub(r"\.(zip|npy|npz|t[gbx]z2?|tar(\.\w+)?)$", "", path.resolve().name, flags=re.I)
    return re.sub(r"\W+", "-", stem).strip("-")[:40] or "images"


def evenly(count: int, most: int) -> list[int]:
    """At most so many of `count` indices, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
