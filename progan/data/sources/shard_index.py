"""Where every image of a list of shards lies, and its label: one array, made by a walk of headers.

Files of a shard belong to one sample while their names are equal up to the first dot, as
WebDataset has it; the rest of a name is the extension that says what a file is.
"""

import hashlib
import itertools
import json
import logging
import reprlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from progan.data.formats import SUFFIXES
from progan.data.sources.label_values import class_number
from progan.data.sources.names import LeftOut, is_image, kept_part
from progan.data.sources.shard_list import AT_ONCE, Shard, explain, patiently, some
from progan.data.sources.tars import BLOCK, BadTar, Member, members
from progan.runtime.errors import LabelError, UserError
from progan.runtime.progress import Say, progress_bar

log = logging.getLogger("progan")

# A row is an image. `check` is a hash of a few bytes in its middle, by which it is known again.
ROW = np.dtype(
    [("shard", "<u4"), ("size", "<u4"), ("offset", "<u8"), ("label", "<i8"), ("check", "<u8")]
)
MIDDLE = 64  # bytes
LARGEST_LABEL = 2**20  # bytes of a file that a label is looked for in
# Why images of a sample are left out.
SECOND = "after another image of their sample"
DOTTED = "with a dot in their names, which ends a sample's name"
READ_BYTES = 2**22  # fetched together: to skip an image would take as long as to fetch it


def index_shards(fs: Any, shards: list[Shard], labels: bool, say: Say) -> np.ndarray:
    """Rows for the images of all shards, in order. Without `labels`, their labels are 0.

    Raises:
        UserError: a shard cannot be read or is damaged; there is no image; one has no label.
    """
    stop = threading.Event()
    check_ranges(fs, shards[0])
    if say:
        say(f"indexing {len(shards):,} shards, once")
    with (
        ThreadPoolExecutor(min(AT_ONCE, len(shards))) as pool,
        progress_bar("indexing", len(shards), 0, say, "shards") as advance,
    ):
        walks = [
            pool.submit(index_shard, fs, shard, number, labels, stop)
            for number, shard in enumerate(shards)
        ]
        try:
            for walk in as_completed(walks):
                walk.result()
                advance(1)
        finally:  # after an error or Ctrl-C, the other walks end at their next sample
            stop.set()
            pool.shutdown(cancel_futures=True)
    found = [walk.result() for walk in walks]
    rows = np.concatenate([shard_rows for shard_rows, _ in found])
    left_out = str(LeftOut.together(odd.left_out for _, odd in found))
    check_rows(len(rows), [name for _, odd in found for name in odd.no_label], left_out)
    if without := sum(odd.no_image for _, odd in found):
        log.warning("shards: %d samples without an image are left out", without)
    if left_out:
        log.warning("shards: files left out: %s", left_out)
    if cut := [shard.title for shard, (_, odd) in zip(shards, found, strict=True) if odd.cut]:
        log.warning(
            "shards: %d may be cut off: they end without the zeros that end a tar (%s)",
            len(cut),
            some(cut),
        )
    if say:
        say(f"indexed {len(rows):,} images")
    return rows


def check_ranges(fs: Any, shard: Shard) -> None:
    """Raises UserError if a web server sends a whole shard when asked for one byte."""
    if not shard.path.startswith("http"):
        return
    try:
        with fs.open(shard.path, "rb", block_size=BLOCK, cache_type="none") as file:
            file.seek(1)
            file.read(1)
    except ValueError:  # fsspec's, before it fetches more
        raise UserError(
            f"data.source: this server does not serve byte ranges, which shards need "
            f"({shard.title}); download them or use another server"
        ) from None
    except Exception:  # any other error is raised where the shard is read, after more tries
        return


def check_of(middle: bytes) -> int:
    """The value in `ROW`: a hash of the bytes in an image's middle."""
    return int.from_bytes(hashlib.blake2b(middle, digest_size=8).digest(), "little")


def middle_of(size: int) -> slice:
    """The place of those bytes in an image of `size` bytes."""
    return slice(size // 2, min(size // 2 + MIDDLE, size))


class Odd(NamedTuple):
    """What is unusual about a shard."""

    no_image: int  # samples
    left_out: LeftOut  # files of such samples, second images, what a system keeps for itself
    no_label: list[str]  # names of images, and what they have instead
    cut: bool  # the shard has no end-of-archive block


def index_shard(
    fs: Any, shard: Shard, number: int, labels: bool, stop: threading.Event
) -> tuple[np.ndarray, Odd]:
    try:
        return patiently(walk_shard, fs, shard, number, labels, stop)
    except BadTar as error:
        remedy = "download or write it again"
        if "compressed" in str(error):
            remedy = "decompress it: nothing in the middle of it can be read otherwise"
        raise UserError(f"data.source: {shard.title} {error}; {remedy}") from error
    except Exception as error:
        raise UserError(
            f"data.source: cannot read {shard.title} ({explain(error)}); its store must be "
            "reachable and serve byte ranges"
        ) from None  # its own message may show secrets


def walk_shard(
    fs: Any, shard: Shard, number: int, labels: bool, stop: threading.Event
) -> tuple[np.ndarray, Odd]:
    rows, no_image, no_label, left_out = [], 0, [], LeftOut()
    with fs.open(shard.path, "rb", block_size=READ_BYTES) as file:
        for files in samples(members(file, shard.size, left_out.add_link), left_out):
            if stop.is_set():
                break
            image = next((files[kind] for kind in files if f".{kind}" in SUFFIXES), None)
            no_image += image is None
            for member in files.values():
                if member is not image and is_image(member.name):
                    left_out.add(SECOND if image else DOTTED, member.name)
                elif image is None:
                    left_out.add_if_unread(member.name)
            if image is None:
                continue
            label = label_of(file, files) if labels else 0
            if isinstance(label, str):
                no_label.append(f"{shard.title}: {image.name}{label}")
                label = 0
            middle = middle_of(image.size)
            file.seek(image.offset + middle.start)
            check = check_of(file.read(middle.stop - middle.start))
            rows.append((number, min(image.size, 2**32 - 1), image.offset, label, check))
        file.seek(shard.size - BLOCK)
        cut = any(file.read(BLOCK))
    return np.array(rows, ROW), Odd(no_image, left_out, no_label, cut)


def samples(files: Iterator[Member], left_out: LeftOut) -> Iterator[dict[str, Member]]:
    """The files of each sample by their extension; of two with the same one, the first.

    What systems keep for themselves belongs to no sample, and is counted.
    """

    def split(member: Member) -> tuple[str, str]:
        folder, _, name = member.name.rpartition("/")
        stem, _, kind = name.partition(".")
        return f"{folder}/{stem}" if stem else "", kind.lower()

    def is_free(member: Member) -> bool:
        free = kept_part(member.name.split("/")) is None
        if not free:
            left_out.add_if_unread(member.name)
        return free

    named = ((*split(member), member) for member in filter(is_free, files))
    whole = (item for item in named if item[0] and item[1])  # hidden files belong to no sample
    for _, group in itertools.groupby(whole, key=lambda item: item[0]):
        sample: dict[str, Member] = {}
        for _, kind, member in group:
            if sample.setdefault(kind, member) is not member and is_image(member.name):
                left_out.add("after others of the same name", member.name)
        yield sample


def label_of(file: BinaryIO, files: dict[str, Member]) -> int | str:
    """The number in `.cls`, or as `label` or `cls` in `.json`; what is there if it is none."""

    def read(kind: str) -> bytes:
        if kind not in files or files[kind].size > LARGEST_LABEL:
            return b""
        file.seek(files[kind].offset)
        return file.read(files[kind].size)

    try:
        if text := read("cls"):
            label = text.decode().strip()
        else:
            fields = json.loads(read("json"))
            label = fields["label"] if "label" in fields else fields["cls"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    number = class_number(label)
    return f" has {reprlib.repr(label)}" if number is None or abs(number) >= 2**31 else number


def check_rows(images: int, no_label: list[str], left_out: str) -> None:
    if not images:
        also = f"; left out: {left_out}" if left_out else ""
        raise UserError(
            f"data.source: no images in these shards: files ending in {' '.join(SUFFIXES)} "
            f"count{also}"
        )
    if no_label:
        raise LabelError(
            f"data.labels: {len(no_label)} of {images} images have no class number "
            f"({some(no_label)}): a whole number in a .cls file, or as `label` or `cls` in a .json "
            "file, of the same name; add them, or set data.labels=false"
        )
