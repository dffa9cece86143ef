"""Which line of a table is which image's."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from progan.data.sources.label_values import refuse

T = TypeVar("T")
Line = tuple[str, int, Any]  # an image's path, the number of the line, and what else is in it
Key = Callable[[str], str]
SUFFIX = re.compile(r"\.(?=\d*[a-zA-Z])\w{2,5}$")  # not the .001 of `scan.001`


def plain(path: str) -> str:
    """A path in one form: `/` between folders, no blanks around, accents normalized."""
    path = path.strip().replace("\\", "/").removeprefix("./")
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def without_suffix(path: str) -> str:
    return SUFFIX.sub("", plain(path))


def without_folder(path: str) -> str:
    return plain(path).rpartition("/")[2]


def bare(path: str) -> str:
    return without_suffix(without_folder(path))


# How paths are compared; the first is meant unless only another gives every image a line.
WAYS: dict[str, Key] = {
    "": plain,
    "by names without suffixes": without_suffix,
    "by names without folders": without_folder,
    "by names without folders and suffixes": bare,
}


def match(
    file: str,
    lines: Callable[[], Iterator[Line]],
    names: Sequence[str],
    keep: Callable[[int, Any], T],
) -> tuple[list[T], str]:
    """What is kept of each image's line, of which there must be exactly one; the others pass.

    Args:
        lines: reads the table from its beginning.
        keep: from a line's number and content to what is kept of it.

    Returns:
        One for each of `names`, and which of WAYS found them.

    Raises:
        LabelError: images have no line, or several.
    """
    first: list[str] | None = None
    said = ""
    for way, key in WAYS.items():
        wanted = {key(name): i for i, name in enumerate(names)}
        if len(wanted) < len(names) and way:
            continue  # it cannot tell all images apart
        found: dict[int, T] = {}
        twice: dict[int, None] = {}
        unused = ""
        for path, number, content in lines():
            i = wanted.get(key(path))
            if i is None:
                unused = unused or path
            elif i in found:
                twice[i] = None
            else:
                found[i] = keep(number, content)
        if len(found) == len(names):
            refuse(file, [names[i] for i in twice], "images are in it more than once")
            return [found[i] for i in range(len(names))], way
        if first is None:
            first = [name for i, name in enumerate(names) if i not in found]
            if unused and not found:
                said = f"; the table has '{unused}' where '{first[0]}' is expected"
    refuse(file, first or names, f"of {len(names)} images have no line in it", said)
    raise AssertionError("some are missing")
