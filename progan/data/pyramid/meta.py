"""`meta.json`: what a pyramid says about itself, checked before it is believed.

A folder may come from somebody else, so nothing is allocated, counted or printed because a
`meta.json` says so: sizes are compared with those of the files.
"""

import json
import reprlib
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from progan.config.resolutions import is_resolution, resolutions_to
from progan.data.pyramid.repeats import Repeats
from progan.runtime.text import printable

META = "meta.json"
VERSION = 2
MOST_BYTES = 2**22  # the names of 100,000 classes fit
MOST_IMAGES = 2**40


class OtherVersion(ValueError):
    """The format is of another version."""


@dataclass(frozen=True)
class Meta:
    """The content of `meta.json`, besides the version."""

    source: str  # its name
    made_from: str  # a hash of all that the pyramid depends on
    count: int
    channels: int
    resolution: int  # of the largest level
    classes: tuple[str, ...]  # names of classes or attributes
    png: tuple[int, ...]  # levels kept as PNG records
    bad: int  # images of the source that were left out
    # Those of other programs, and of progan 0.1, do not say the following.
    checksums: tuple[str, ...] = ()  # of the images at each resolution, from 4x4 up
    label_checksum: str = ""
    repeats: Repeats = Repeats()
    reading: int = 1  # `decode.READING` when it was made

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot be."""
        if not is_resolution(self.resolution):
            raise ValueError(f"{META} says resolution {self.resolution}, no power of two")
        if self.channels not in (1, 3):
            raise ValueError(f"{META} says {self.channels} channels, and only 1 and 3 can be")
        if not 0 < self.count < MOST_IMAGES:
            raise ValueError(f"{META} says {self.count} images")
        larger = resolutions_to(self.resolution)[1:]
        if len(set(self.png)) < len(self.png) or not set(self.png) <= set(larger):
            raise ValueError(f"{META} says {list(self.png)} for png; allowed are some of {larger}")
        if self.checksums and len(self.checksums) != 1 + len(larger):
            raise ValueError(f"{META} has {len(self.checksums)} checksums, and not one a level")


def is_text(value: object) -> bool:
    return isinstance(value, str)


def is_number(value: object) -> bool:
    return type(value) is int and value >= 0  # a bool is an int, too


def all_of(test: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, tuple) and all(map(test, value))


KINDS: dict[Any, tuple[Callable[[object], bool], str]] = {  # by the type of a field
    str: (is_text, "a text"),
    int: (is_number, "a whole number from 0 up"),
    tuple[str, ...]: (all_of(is_text), "a list of texts"),
    tuple[int, ...]: (all_of(is_number), "a list of whole numbers from 0 up"),
    Repeats: (lambda value: isinstance(value, Repeats), "a map of names to values"),
}


def read_meta(path: Path) -> Meta:
    """The `meta.json` of the pyramid `path`.

    Raises:
        OSError: it cannot be read. ValueError: it says what cannot be. OtherVersion.
    """
    with open(path / META, "rb") as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"{META} is larger than {MOST_BYTES:,} bytes")
    try:
        content = json.loads(text)
    except ValueError as error:
        why = str(error).partition("; use sys.")[0]  # which raises Python's limit of digits
        raise ValueError(f"{META} is no JSON: {why}") from None
    except RecursionError:
        raise ValueError(f"{META} is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError(f"{META} is no map of names to values")
    if content.get("version") != VERSION:
        raise OtherVersion(reprlib.repr(content.get("version")))
    meta: Meta = typed(Meta, content)
    return meta


def typed(kind: Any, content: dict[str, Any]) -> Any:
    """A dataclass with the values in `content`. Raises ValueError if they are of other types."""
    values: dict[str, Any] = {}
    for field in fields(kind):
        value = content.get(field.name, field.default)
        if value is MISSING:
            raise ValueError(f"{META} does not say {field.name}")
        if is_dataclass(field.type) and isinstance(value, dict):
            values[field.name] = typed(field.type, value)
            continue
        values[field.name] = tuple(value) if isinstance(value, list) else value
        fits, what = KINDS[field.type]
        if not fits(values[field.name]):
            said = printable(reprlib.repr(value))
            raise ValueError(f"{META} says {field.name} {said}, which must be {what}")
    return kind(**values)
