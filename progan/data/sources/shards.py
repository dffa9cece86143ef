"""WebDataset shards as a source: indexed once, then read at random by byte ranges.

A shard is an uncompressed tar on a disk or in an object store that fsspec reaches. Because the
place of every image is known, their order is that of any other source, a pure function of seed and
images shown: there is no shuffle buffer, and a loader has no state.
"""

import functools
import hashlib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from progan.data.array_file import ArrayFile, Damaged, save_array
from progan.data.decode import BadImage, Content, Square, read_square
from progan.data.formats import SUFFIXES
from progan.data.labels import Labels
from progan.data.sources import shard_list
from progan.data.sources.readers import CHUNK, FILE_BYTES, LARGE, check_size, check_start
from progan.data.sources.shard_index import ROW, check_of, index_shards, middle_of
from progan.data.sources.shard_list import TAR, Shard, explain, first_of, list_shards, open_store
from progan.data.sources.source import Source, attempt, content_key, short_name
from progan.data.sources.tars import BLOCK, header_name
from progan.runtime.cache import cache_folder, lock
from progan.runtime.errors import LabelError, UserError
from progan.runtime.paths import to_path
from progan.runtime.progress import Say
from progan.runtime.secrets import bare


def is_shards(data: str) -> bool:
    """Whether `data` names shards: a URL, or a pattern of tars that is not an existing path.

    The path of a single tar is not a pattern; `sources.files` reads it, compressed or not.
    """
    pattern = bool(TAR.search(data) and re.search(r"[{*?]", data))
    return "://" in data or (pattern and not os.path.exists(to_path(data, "data.source")))


def from_shards(
    data: str, *, labels: bool = False, cache: Path | None = None, say: Say = None
) -> "Shards":
    """The images of all shards that `data` names: `path/shard-{000..099}.tar`, `s3://bucket/*.tar`.

    The key changes with order, sizes and labels of the images and a few bytes in the middle of
    each, not with the place of the shards.

    Args:
        labels: with classes, which are the numbers in `.cls` or `.json` files.
        cache: folder that keeps the index; None: the default one.

    Raises:
        UserError: shards are missing, unreachable, compressed or damaged; images lack labels.
    """
    fs, shards = list_shards(data)
    name = short_name(Path(bare(data)))
    stamps = [(bare(fs.unstrip_protocol(shard.path)), shard.stamp) for shard in shards]
    made_by = content_key(ROW, SUFFIXES, labels, stamps)[:16]
    index = cache_folder(cache) / "shards" / f"{name}-{made_by}.npy"
    rows = saved_index(index)
    if rows is None:
        try:
            with lock(f"shards/{index.stem}", cache):
                if saved_index(index) is None:  # nor has another process made it by now
                    save_array(index, index_shards(fs, shards, labels, say))
        except OSError as error:
            raise UserError(
                f"cannot write the index of the shards {index} ({error}); set data.cache or "
                "$PROGAN_CACHE to a folder that can be written and has room"
            ) from error
        rows = load_index(index)
    content = ShardContent(first_of(data), shards, index, len(rows))
    key = content_key("shards", hashlib.sha256(rows.data).digest())
    source = Shards(name, key, range(len(rows)), content, content.name_of)
    if labels:
        source.labels = classes_of(rows["label"], data)
    return source


@dataclass
class ShardContent:
    """Image files by index. It is pickled without the rows of the index, which every process reads.

    Args:
        url: of any of the shards; each process finds their file system by it.
        count: of rows.
    """

    url: str
    shards: list[Shard]
    index: Path
    count: int

    def rows(self, indices: Sequence[int]) -> np.ndarray:
        """Rows of the index. Raises UserError if it has been changed."""
        try:
            return opened_index(self.index, self.count).read(np.asarray(indices, np.int64))
        except (OSError, Damaged) as error:
            raise UserError(
                f"the index of the shards {self.index} cannot be read any more ({error}); the same "
                "command makes it again, and goes on"
            ) from error

    @property
    def fs(self) -> Any:
        """The file system; fsspec keeps one in each process."""
        return open_store(self.url)[0]

    def __call__(self, i: int) -> Content:
        (content,) = self.read_many([i])
        if isinstance(content, BadImage):
            raise content
        return content

    def read_many(self, indices: Sequence[int]) -> list[Content | BadImage]:
        """Files, or why they are not worth reading; from remote stores all at the same time.

        Raises:
            UserError: a shard could not be read three times over, or has changed.
        """
        rows = self.rows(indices)
        found: list[Any] = [why_refused(row["size"]) for row in rows]
        for k in range(len(rows)):
            if found[k] is None and rows[k]["size"] > LARGE:
                (start,) = self._ranges(rows[k : k + 1], CHUNK)
                found[k] = attempt(check_start, start) if isinstance(start, bytes) else None
        todo = [k for k, refusal in enumerate(found) if refusal is None]
        for wait in (0.0, *shard_list.WAITS):
            if not todo:
                break
            time.sleep(wait)
            for k, got in zip(todo, self._fetch(rows[todo]), strict=True):
                found[k] = got
            todo = [k for k in todo if isinstance(found[k], Unread)]
        if todo:
            raise UserError(
                f"data.source: cannot read {self.shards[rows[todo[0]]['shard']].title} any more "
                f"({found[todo[0]]}); once it can be read, the run goes on from its last checkpoint"
            )
        return found

    def name_of(self, i: int) -> str:
        """Shard and file name. The index keeps no names: they are for messages only."""
        (row,) = self.rows([i])
        shard, offset = self.shards[row["shard"]], int(row["offset"])
        try:
            block = self.fs.cat_file(shard.path, start=offset - BLOCK, end=offset)
            name = header_name(block).decode(errors="backslashreplace")
        except Exception:  # of any type, as below; a name is not worth another message
            name = f"the image at byte {offset}"
        return f"{shard.title}: {''.join(c if c.isprintable() else '?' for c in name)}"

    def _fetch(self, rows: np.ndarray) -> "list[bytes | Unread]":
        """One try."""
        found = self._ranges(rows, FILE_BYTES)
        return [check_bytes(row, got) for row, got in zip(rows, found, strict=True)]

    def _ranges(self, rows: np.ndarray, most: int) -> list[bytes | Exception]:
        """The files, or their first bytes if they have more than `most`, or why not."""
        paths = [self.shards[shard].path for shard in rows["shard"]]
        starts = rows["offset"].tolist()
        ends = (rows["offset"] + np.minimum(rows["size"], most)).tolist()
        try:
            found: list[bytes | Exception] = self.fs.cat_ranges(
                paths, starts, ends, on_error="return"
            )
        except Exception as error:  # the clients of stores raise errors of any type
            return [error] * len(rows)
        return found


class Shards(Source):
    """A source whose files are fetched many at a time."""

    content: ShardContent
    looked_at = 16

    def load_some(self, indices: Sequence[int]) -> list[Content | BadImage]:
        return self.content.read_many([self.items[i] for i in indices])

    def read_batch(self, indices: Sequence[int], square: Square) -> list[np.ndarray | BadImage]:
        """See `Source`. Raises UserError if a shard cannot be read: no image is at fault."""
        return [
            content
            if isinstance(content, BadImage)
            else attempt(read_square, content, square, self.values)
            for content in self.load_some(indices)
        ]


def classes_of(numbers: np.ndarray, data: str) -> Labels:
    """Classes named and ordered by their numbers."""
    found, labels = np.unique(numbers, return_inverse=True)
    if len(found) < 2:
        raise LabelError(
            f"data.labels: {data} knows only one class, {found[0]}; two or more are needed: set "
            "data.labels=false"
        )
    return Labels(tuple(map(str, found)), labels.astype(np.int64))


class Unread(str):
    """Why bytes could not be read."""


def why_refused(size: int) -> BadImage | None:
    """Why a file of this size is not read; None if it is."""
    return attempt(check_size, size) if size else BadImage("empty file")


def check_bytes(row: np.void, got: bytes | Exception) -> bytes | Unread:
    """The bytes, if they are those that were indexed."""
    if isinstance(got, Exception):
        return Unread(explain(got))
    if len(got) != row["size"]:
        return Unread(f"{len(got)} bytes came instead of {row['size']}")
    if check_of(got[middle_of(len(got))]) != row["check"]:
        return Unread("it has changed since it was indexed")
    return got


def load_index(index: Path) -> np.ndarray:
    return np.load(index, allow_pickle=False)


@functools.lru_cache(4)  # once a process
def opened_index(index: Path, count: int) -> ArrayFile:
    return ArrayFile(index, ROW, (count,))


def saved_index(index: Path) -> np.ndarray | None:
    """The index if it is there and whole."""
    try:
        rows = load_index(index)
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows.dtype == ROW and rows.ndim == 1 else None
