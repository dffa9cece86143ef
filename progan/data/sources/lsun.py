"""LSUN's databases, a folder with `data.mdb` for each category, as a source."""

import itertools
import threading
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from progan.data.labels import Labels
from progan.data.sources.readers import check_size
from progan.data.sources.source import Source, content_key, short_name
from progan.runtime.errors import LabelError, UserError
from progan.runtime.extras import how_to_install

FILE = "data.mdb"
opened: dict[Path, tuple[tuple[int, ...], Any]] = {}


def is_lmdb(path: Path) -> bool:
    return (path / FILE).is_file()


def from_lmdb(paths: Sequence[Path], labels: bool) -> Source:
    """The images of one database or more, in the order of `paths` and then of their keys.

    Images are counted, not looked at: a category of millions opens at once.

    Args:
        labels: the classes are the databases.
    """
    if labels and len(paths) < 2:
        raise LabelError(
            f"data.labels: {paths[0]} is one category, and the categories are the classes; name "
            "data set lsun with two or more of them in its folder, or set data.labels=false"
        )
    counts = [count_entries(path) for path in paths]
    status = [(path / FILE).stat() for path in paths]
    sizes = tuple(s.st_size for s in status)
    entries = Entries(tuple(paths), tuple(itertools.accumulate(counts)), sizes)
    found = labels_of(paths, counts) if labels else None
    classes = found.names if found else ()
    key = content_key(classes, *((s.st_size, s.st_mtime_ns) for s in status), counts)
    name = short_name(paths[0]) if len(paths) == 1 else "lsun"
    return Source(name, key, range(sum(counts)), entries, entries.key, found)


def labels_of(paths: Sequence[Path], counts: list[int]) -> Labels:
    classes = tuple(path.name.removesuffix("_lmdb").removesuffix("_train") for path in paths)
    return Labels(classes, np.repeat(np.arange(len(paths), dtype=np.int64), counts))


def open_lmdb(path: Path) -> Any:
    """The database, opened once a process: the library refuses to open it twice."""
    try:
        import lmdb
    except ImportError:
        raise UserError(
            f"data.source: {path} is an LMDB, which the package lmdb reads: "
            + how_to_install("lsun")
        ) from None
    status, real = (path / FILE).stat(), path.resolve()
    stamp = status.st_ino, status.st_size, status.st_mtime_ns
    known, database = opened.pop(real, (None, None))
    try:
        if known != stamp:
            database = None  # the file has been replaced: close the old one first
            options = {"readonly": True, "lock": False, "readahead": False, "create": False}
            database = lmdb.open(str(path), **options)
    except lmdb.Error as error:
        raise UserError(f"data.source: {path} cannot be read ({error}); get it again") from error
    opened[real] = stamp, database
    return database


def count_entries(path: Path) -> int:
    """Number of entries. Refuses a file cut short."""
    database = open_lmdb(path)
    stat, info = database.stat(), database.info()
    check_whole(path, (info["last_pgno"] + 1) * stat["psize"])
    if not stat["entries"]:
        raise UserError(f"data.source: {path / FILE} has no entries; get it again")
    return stat["entries"]


def check_whole(path: Path, size: int) -> None:
    """Raises UserError if the file has fewer bytes: the library maps it, and would be killed."""
    try:
        there = (path / FILE).stat().st_size
    except OSError:
        there = 0
    if there < size:
        raise UserError(f"data.source: {path / FILE} has {there} of {size} bytes; get it again")


@dataclass
class Entries:
    """Values by index: an encoded image each. Cheap in order, as a cursor has to walk to them.

    Args:
        ends: for each database, the index after its last entry.
        sizes: of their files in bytes.
    """

    paths: tuple[Path, ...]
    ends: tuple[int, ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        self._cursors: dict[int, tuple[Any, int]] = {}  # and where each is
        self._lock = threading.Lock()

    def __reduce__(self):
        return type(self), (self.paths, self.ends, self.sizes)

    def __call__(self, i: int) -> bytes:
        with self._lock:
            value = self._cursor(i).value()
            check_size(len(value))
            return bytes(value)

    def key(self, i: int) -> str:
        with self._lock:
            return bytes(self._cursor(i).key()).decode(errors="backslashreplace")

    def _cursor(self, i: int) -> Any:
        """A cursor at entry `i`."""
        k = bisect(self.ends, i)
        check_whole(self.paths[k], self.sizes[k])
        wanted = i - (self.ends[k - 1] if k else 0)
        cursor, position = self._cursors.pop(k, (None, -1))
        if cursor is None:
            cursor = open_lmdb(self.paths[k]).begin(buffers=True).cursor()
        if wanted < position or position < 0:
            cursor.first()
            position = 0
        for _ in range(wanted - position):
            cursor.next()
        self._cursors[k] = cursor, wanted
        return cursor
