"""LSUN's databases, a folder with `data.mdb` for each category, as a source."""

import itertools
import threading
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from progan.data.labels import Labels
from progan.data.sources.readers import check_size
from progan.data.sources.source import Source, content_key, short_name
from progan.runtime.errors import LabelError, UserError

FILE = "data.mdb"
_opened: dict[Path, tuple[tuple[int, ...], Any]] = {}


def is_lmdb(path: Path) -> bool:
    return (path / FILE).is_file()


def from_lmdb(paths: Sequence[Path], labels: bool) -> Source:
    """The images of one database or more, in the order of `paths` and then of their keys.

    labels: the classes are the databases. Images are counted, not looked at: a category of
    millions opens at once.
    """
    if labels and len(paths) < 2:
        raise LabelError(
            f"data.labels: {paths[0]} is one category, and the categories are the classes; name "
            "data set lsun with two or more of them in its folder, or set data.labels=false"
        )
    counts = [_check(path) for path in paths]
    status = [(path / FILE).stat() for path in paths]
    entries = Entries(tuple(paths), tuple(itertools.accumulate(counts)))
    found = _labels(paths, counts) if labels else None
    classes = found.names if found else ()
    key = content_key(classes, *((s.st_size, s.st_mtime_ns) for s in status), counts)
    name = short_name(paths[0]) if len(paths) == 1 else "lsun"
    return Source(name, key, Names(entries, sum(counts)), entries, found)


def _labels(paths: Sequence[Path], counts: list[int]) -> Labels:
    classes = tuple(path.name.removesuffix("_lmdb").removesuffix("_train") for path in paths)
    return Labels(classes, np.repeat(np.arange(len(paths), dtype=np.int64), counts))


def _open(path: Path) -> Any:
    """The database, opened once a process: the library refuses to do it twice."""
    try:
        import lmdb
    except ImportError:
        raise UserError(
            f"data.source: {path} is an LMDB, which the package lmdb reads: "
            "pip install 'progan[lsun]'"
        ) from None
    status, real = (path / FILE).stat(), path.resolve()
    stamp = status.st_ino, status.st_size, status.st_mtime_ns
    known, database = _opened.pop(real, (None, None))
    try:
        if known != stamp:
            database = None  # another file by now
            options = {"readonly": True, "lock": False, "readahead": False, "create": False}
            database = lmdb.open(str(path), **options)
    except lmdb.Error as error:
        raise UserError(f"data.source: {path} cannot be read ({error}); get it anew") from error
    _opened[real] = stamp, database
    return database


def _check(path: Path) -> int:
    """How many entries it has. The library maps the file, and would crash beyond its end."""
    database = _open(path)
    stat, info = database.stat(), database.info()
    needed, there = (info["last_pgno"] + 1) * stat["psize"], (path / FILE).stat().st_size
    if there < needed:
        raise UserError(f"data.source: {path / FILE} has {there} of {needed} bytes; get it anew")
    if not stat["entries"]:
        raise UserError(f"data.source: {path / FILE} has no entries; get it anew")
    return stat["entries"]


@dataclass
class Entries:
    """Values by index: an encoded image each. Cheap in order, for keys have to be walked along.

    ends: of each database, the index after its last entry.
    """

    paths: tuple[Path, ...]
    ends: tuple[int, ...]

    def __post_init__(self) -> None:
        self._walks: dict[int, Walk] = {}
        self._lock = threading.Lock()

    def __reduce__(self):
        return type(self), (self.paths, self.ends)

    def __call__(self, i: int) -> bytes:
        with self._lock:
            value = self._at(i).value()
            check_size(len(value))
            return bytes(value)

    def key(self, i: int) -> str:
        with self._lock:
            return bytes(self._at(i).key()).decode(errors="backslashreplace")

    def _at(self, i: int) -> Any:
        """A cursor at entry `i`."""
        k = bisect(self.ends, i)
        if k not in self._walks:
            self._walks[k] = Walk(self.paths[k])
        return self._walks[k].to(i - (self.ends[k - 1] if k else 0))


class Walk:
    """A cursor of a database that moves to positions."""

    def __init__(self, path: Path):
        self._cursor, self._position = _open(path).begin(buffers=True).cursor(), -1

    def to(self, position: int) -> Any:
        if position < self._position or self._position < 0:
            self._cursor.first()
            self._position = 0
        for _ in range(position - self._position):
            self._cursor.next()
        self._position = position
        return self._cursor


@dataclass
class Names(Sequence):
    """The keys of the first `count` entries, looked up when asked for."""

    entries: Entries
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int | slice) -> str | Self:
        if isinstance(i, slice):
            return replace(self, count=min(i.stop, self.count))  # all that `find` takes: [:limit]
        if not 0 <= i < self.count:
            raise IndexError(i)
        return self.entries.key(i)
