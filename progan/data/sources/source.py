"""A source: images by index, with names and labels, before anything is done to them."""

import errno
import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from progan.data.decode import BadImage, Content, Square, read_square
from progan.data.depth import Values
from progan.data.labels import Labels
from progan.runtime.errors import UserError
from progan.runtime.launch import prints_errors
from progan.runtime.text import printable

log = logging.getLogger("progan")

# Errors that say something about a disk, a network or this machine, not about a file.
AWAY = {
    getattr(errno, name, None)
    for name in (
        *("ESTALE", "ENOTCONN", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENODEV"),
        *("EMFILE", "ENFILE", "ENOMEM"),
    )
}


Items = Sequence[Any] | np.ndarray
T = TypeVar("T")


@dataclass
class Source:
    """Images by index. It can be pickled and then read in another process.

    Args:
        name: short, fit for a file name.
        key: hex, changes with the content.
        items: one for each image: what `content` finds it by.
        content: an item to a file's bytes, an array or an image. It opens what it reads from when
            it is first called in a process.
        name_of: an index to the image's name, for messages.
        left_out: files that are there and are not read, in words.
        values: what is black and white in its images of more than 8 bits; None: not looked at.
    """

    name: str
    key: str
    items: Items
    content: Callable[[Any], Content]
    name_of: Callable[[int], str]
    labels: Labels | None = None
    left_out: str = ""
    values: Values | None = None
    looked_at: ClassVar[int] = 64  # images, to find `values`

    def __len__(self) -> int:
        return len(self.items)

    def without_lists(self) -> Self:
        """What a process needs besides the items of the images that it reads."""
        return replace(self, items=(), name_of=str, labels=None)

    def item_name(self, i: int) -> str:
        """The name of image `i`, printable whatever bytes it has on disk."""
        return printable(self.name_of(i))

    def load(self, i: int) -> Content:
        """Image `i`, not decoded. Raises BadImage, or UserError if the image is not at fault."""
        try:
            return self.content(self.items[i])
        except (BadImage, UserError, MemoryError):  # the last says nothing about the image
            raise
        except OSError as error:
            if error.errno in AWAY:
                raise UserError(
                    f"cannot read {error.filename or self.name} ({error.strerror}), which says "
                    "nothing about the image; once it can be read, the same command goes on"
                ) from error
            raise BadImage(error.strerror or str(error)) from error
        except Exception as error:  # damaged archives make their readers raise anything
            raise BadImage(f"{type(error).__name__}: {error}") from error

    def load_some(self, indices: Sequence[int]) -> Iterable[Content | BadImage]:
        """Images as from `load`, or the BadImage that it raises."""
        return (attempt(self.load, i) for i in indices)

    def read(self, i: int, square: Square) -> np.ndarray:
        """Image `i` as uint8 [channels, resolution, resolution].

        Raises BadImage or TooSmall. PIL's warnings pass.
        """
        return read_square(self.load(i), square, self.values)

    def read_batch(self, indices: Sequence[int], square: Square) -> Sequence[np.ndarray | BadImage]:
        """For each index the image as from `read`, or the BadImage that `read` raises."""
        return [attempt(self.read, i, square) for i in indices]


def warn_of_left_out(source: Source, title: str) -> None:
    """Says which files are not read, once a machine."""
    if source.left_out and prints_errors():
        log.warning("%s: files left out: %s", title, source.left_out)


def attempt(make: Callable[..., T], *arguments: Any) -> T | BadImage:
    """What `make` returns, or the BadImage that it raises."""
    try:
        return make(*arguments)
    except BadImage as error:
        return error


def content_key(*parts: object) -> str:
    """A hash of bytes and of anything that has a stable `repr`."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
    return digest.hexdigest()


def short_name(path: Path) -> str:
    """The name of a source at `path`: the file's, without the suffixes of archives and arrays."""
    stem = re.sub(r"\.(zip|npy|npz|t[gbx]z2?|tar(\.\w+)?)$", "", path.resolve().name, flags=re.I)
    return re.sub(r"\W+", "-", stem).strip("-")[:40] or "images"


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of `count` indices, evenly spaced, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
