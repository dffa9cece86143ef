"""Where every image of a list of shards lies, and its label: one array, made by a walk of headers.

Files of a shard belong to one sample while their names are equal up to the first dot, as
WebDataset has it; the rest of a name is the extension that says what a file is.
"""

import hashlib
import itertools
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from tqdm import tqdm

from progan.data.sources.files import SUFFIXES
from progan.data.sources.shard_list import AT_ONCE, Shard, patiently, told
from progan.data.sources.tars import BLOCK, BadTar, Member, members
from progan.runtime.errors import LabelError, UserError

log = logging.getLogger("progan")

# A row is an image. `check` is a hash of a few bytes in its middle, by which it is known again.
ROW = np.dtype(
    [("shard", "<u4"), ("size", "<u4"), ("offset", "<u8"), ("label", "<i8"), ("check", "<u8")]
)
MIDDLE = 64  # bytes
LARGEST_LABEL = 2**20  # bytes of a file that a label is looked for in
READ_BYTES = 2**22  # that are fetched together; skipping over an image would take as long


def index_shards(
    fs: Any, shards: list[Shard], labels: bool, say: Callable[[str], None] | None
) -> np.ndarray:
    """Rows for the images of all shards, in order. Without `labels` they are 0.

    UserError if a shard cannot be read or is damaged, if there is no image, if one has no label.
    """
    stop, start = threading.Event(), time.monotonic()
    hide = not (say and sys.stderr.isatty())
    _check_ranges(fs, shards[0])
    if say:
        say(f"indexing {len(shards):,} shards, once")
    with (
        ThreadPoolExecutor(min(AT_ONCE, len(shards))) as pool,
        tqdm(total=len(shards), desc="indexing", unit=" shards", disable=hide) as bar,
    ):
        walks = [
            pool.submit(_index_shard, fs, shard, number, labels, stop)
            for number, shard in enumerate(shards)
        ]
        try:
            for walk in as_completed(walks):
                walk.result()
                bar.update()
        finally:  # after an error or Ctrl-C, the other walks end at their next sample
            stop.set()
            pool.shutdown(cancel_futures=True)
    found = [walk.result() for walk in walks]
    rows = np.concatenate([shard_rows for shard_rows, _ in found])
    _check(len(rows), [name for _, odd in found for name in odd.no_label], labels)
    if left_out := sum(odd.no_image for _, odd in found):
        log.warning("shards: %d samples without an image are left out", left_out)
    if cut := [shard.title for shard, (_, odd) in zip(shards, found, strict=True) if odd.cut]:
        named = ", ".join(cut[:3]) + (", …" if len(cut) > 3 else "")
        log.warning(
            "shards: %d may be cut off: they end without the zeros that end a tar (%s)",
            len(cut),
            named,
        )
    if say:
        say(f"indexed {len(rows):,} images in {time.monotonic() - start:.1f} s")
    return rows


def _check_ranges(fs: Any, shard: Shard) -> None:
    """UserError if a web server answers with the whole of a shard where one byte is asked for."""
    if not shard.path.startswith("http"):
        return
    try:
        with fs.open(shard.path, "rb", block_size=BLOCK, cache_type="none") as file:
            file.seek(1)
            file.read(1)
    except ValueError as error:  # of fsspec, before it fetches more
        raise UserError(
            f"data.source: this server does not serve byte ranges, which shards need "
            f"({shard.title}); download them or use another server"
        ) from error
    except Exception:  # what else is wrong is told where a shard is read, after other tries
        return


def check_of(middle: bytes) -> int:
    """What `ROW` has of an image: a hash of the bytes in its middle."""
    return int.from_bytes(hashlib.blake2b(middle, digest_size=8).digest(), "little")


def middle_of(size: int) -> slice:
    """Those bytes, of an image of `size`."""
    return slice(size // 2, min(size // 2 + MIDDLE, size))


class _Odd(NamedTuple):
    no_image: int  # samples
    no_label: list[str]  # names of images
    cut: bool  # the shard has no end-of-archive block


def _index_shard(
    fs: Any, shard: Shard, number: int, labels: bool, stop: threading.Event
) -> tuple[np.ndarray, _Odd]:
    def walk() -> Any:
        try:
            return _walk(fs, shard, number, labels, stop)
        except BadTar as error:  # another try would not mend it
            return error

    try:
        found = patiently(walk)
    except Exception as error:
        raise UserError(
            f"data.source: cannot read {shard.title} ({told(error)}); its store must be "
            "reachable and serve byte ranges"
        ) from error
    if isinstance(found, BadTar):
        remedy = "download or write it again"
        if "compressed" in str(found):
            remedy = "decompress it: nothing in the middle of it can be read otherwise"
        raise UserError(f"data.source: {shard.title} {found}; {remedy}") from found
    return found


def _walk(
    fs: Any, shard: Shard, number: int, labels: bool, stop: threading.Event
) -> tuple[np.ndarray, _Odd]:
    rows, no_image, no_label = [], 0, []
    with fs.open(shard.path, "rb", block_size=READ_BYTES) as file:
        for files in _samples(members(file, shard.size)):
            if stop.is_set():
                break
            image = next((files[kind] for kind in files if f".{kind}" in SUFFIXES), None)
            if image is None:
                no_image += 1
                continue
            label = _label(file, files) if labels else 0
            if label is None:
                no_label.append(f"{shard.title}: {image.name}")
                label = 0
            middle = middle_of(image.size)
            file.seek(image.offset + middle.start)
            check = check_of(file.read(middle.stop - middle.start))
            rows.append((number, min(image.size, 2**32 - 1), image.offset, label, check))
        file.seek(shard.size - BLOCK)
        cut = any(file.read(BLOCK))
    return np.array(rows, ROW), _Odd(no_image, no_label, cut)


def _samples(files: Iterator[Member]) -> Iterator[dict[str, Member]]:
    """Each sample's files by their extension; of two with the same one, the first."""

    def split(member: Member) -> tuple[str, str]:
        folder, _, name = member.name.rpartition("/")
        stem, _, kind = name.partition(".")
        return f"{folder}/{stem}" if stem else "", kind.lower()

    named = ((*split(member), member) for member in files)
    whole = (item for item in named if item[0] and item[1])  # hidden files belong to nothing
    for _, group in itertools.groupby(whole, key=lambda item: item[0]):
        sample: dict[str, Member] = {}
        for _, kind, member in group:
            sample.setdefault(kind, member)
        yield sample


def _label(file: BinaryIO, files: dict[str, Member]) -> int | None:
    """The number in `.cls`, or as `label` or `cls` in `.json`; None if there is none."""

    def read(kind: str) -> bytes:
        if kind not in files or files[kind].size > LARGEST_LABEL:
            return b""
        file.seek(files[kind].offset)
        return file.read(files[kind].size)

    try:
        if text := read("cls"):
            label = int(text)
        else:
            fields = json.loads(read("json"))
            label = fields["label"] if "label" in fields else fields["cls"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return label if type(label) is int and abs(label) < 2**31 else None


def _check(images: int, no_label: list[str], labels: bool) -> None:
    if not images:
        raise UserError(
            f"data.source: no images in these shards: files ending in {' '.join(SUFFIXES)} count"
        )
    if no_label:
        raise LabelError(
            f"data.labels: {len(no_label)} of {images} images have no label "
            f"({', '.join(no_label[:3])}{', …' if len(no_label) > 3 else ''}): a whole number in a "
            ".cls file, or as `label` or `cls` in a .json file, of the same name; add them, or set "
            "data.labels=false"
        )
