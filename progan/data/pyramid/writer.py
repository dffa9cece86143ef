"""Writes a pyramid in pieces, so that an interrupted preparation goes on where it stopped."""

import json
import os
import time
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import asdict
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from progan.config.resolutions import MAX_RESOLUTION, resolutions_to
from progan.data.array_file import save_array
from progan.data.decode import READING
from progan.data.pyramid.digests import DTYPE, checksum
from progan.data.pyramid.format import BAD_FILES, DIGESTS, JOURNAL
from progan.data.pyramid.layout import RAW_DIGESTS, Layout, write_header
from progan.data.pyramid.meta import META, VERSION, Meta, is_number
from progan.data.pyramid.pieces import Bad, Piece
from progan.data.pyramid.records import index_file, records_file
from progan.data.pyramid.repeats import blank_ones, find_repeats, first_alike
from progan.data.sources.source import Source
from progan.runtime.disk import check_plain, read_plain, write_atomically, write_json

NUMBER = "[0-9][0-9][0-9][0-9]"
WHOLE = (f"{NUMBER}.index.npy", "labels.npy", DIGESTS, BAD_FILES, JOURNAL)  # written at once
UNFINISHED = (
    *(f"{NUMBER}.npy", f"{NUMBER}.records", RAW_DIGESTS),
    *WHOLE,
    *(f"{name}.partial*" for name in (*WHOLE, META)),
)
SYNC_SECONDS = 10  # at most this much work is done again


class PyramidWriter:
    """Collects pieces in order, and syncs them to disk at least every SYNC_SECONDS.

    If the folder holds an unfinished pyramid with the same `made_from`, it goes on: the first
    `done` images are there, and the `bad` ones among them are known.

    Args:
        made_from: a hash of all that the pyramid depends on.
    """

    def __init__(self, layout: Layout, made_from: str):
        self.layout, self.made_from = layout, made_from
        self.done = 0
        self.bad: list[Bad] = []
        self._files: dict[int, BinaryIO] = {}
        self._lengths: dict[int, list[int]] = {r: [] for r in layout.png}
        self._pending: list[str] = []
        self._synced = time.monotonic()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if not self._go_on():
            self._start()
        self._journal = self._stack.enter_context(open(self.layout.path / JOURNAL, "ab"))
        for r in self.layout.png:
            records = self._stack.enter_context(open(records_file(self.layout.path, r), "r+b"))
            records.seek(sum(self._lengths[r]))
            self._files[r] = records
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, piece: Piece) -> None:
        """Adds the piece that follows the last one."""
        assert piece.start == self.done
        for r, records in piece.records.items():
            self._files[r].write(b"".join(records))
        lengths = {r: [len(record) for record in records] for r, records in piece.records.items()}
        entry = {"start": piece.start, "stop": piece.stop, "bad": piece.bad, "lengths": lengths}
        self._take(entry)
        self._pending.append(json.dumps(entry) + "\n")
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()

    def _take(self, entry: dict[str, Any]) -> None:
        self.done = entry["stop"]
        self.bad += [(i, why, size and tuple(size)) for i, why, size in entry["bad"]]
        for r, lengths in entry["lengths"].items():
            self._lengths[int(r)] += lengths

    def sync(self) -> None:
        """Syncs the images first, then the journal that names them."""
        for file in (self.layout.digests, *map(self.layout.array, self.layout.raw)):
            with open(file, "r+b") as written:
                os.fsync(written.fileno())
        for records in self._files.values():
            records.flush()
            os.fsync(records.fileno())
        self._journal.write("".join(self._pending).encode())
        self._pending.clear()
        self._journal.flush()
        os.fsync(self._journal.fileno())
        self._synced = time.monotonic()

    def _start(self) -> None:
        path = self.layout.path
        for file in unfinished_files(path):
            file.unlink()
        line = json.dumps(self._first_entry()).encode() + b"\n"
        write_atomically(path / JOURNAL, lambda temporary: temporary.write_bytes(line))
        for r in self.layout.raw:
            with open(self.layout.array(r), "wb") as array:  # takes no disk until it is written
                array.truncate(self.layout.place(r, self.layout.total))
        for r in self.layout.png:
            records_file(self.layout.path, r).touch()
        with open(self.layout.digests, "wb") as digests:
            digests.truncate(self.layout.total * len(self.layout.levels) * DTYPE.itemsize)

    def _first_entry(self) -> dict[str, Any]:
        """Identifies what is being made; `progan data info` shows its size."""
        layout = self.layout
        return {
            "version": VERSION,
            "made_from": self.made_from,
            "total": layout.total,
            "resolution": layout.resolution,
            "png": list(layout.png),
        }

    def _go_on(self) -> bool:
        """Goes on with what an earlier process left; False if it was making something else."""
        first, entries = read_journal(self.layout.path)
        raw = self.layout.raw
        files = [self.layout.digests, *(self.layout.array(r) for r in raw)]
        files += [records_file(self.layout.path, r) for r in self.layout.png]
        if first != self._first_entry() or not entries or not all(file.is_file() for file in files):
            return False
        size = partial(self.layout.place, image=self.layout.total)  # until `finish` cuts them
        cut = any(os.path.getsize(self.layout.array(r)) != size(r) for r in raw)
        if cut and entries[-1]["stop"] < self.layout.total:
            return False
        for file in unfinished_files(self.layout.path):  # written to, where they stand
            check_plain(file)
        whole = [first]
        for entry in entries:
            if entry["start"] == self.done:  # one that stands twice was interrupted in `sync`
                self._take(entry)
                whole.append(entry)
        # A torn last line goes, or the next one would be joined to it.
        lines = "".join(json.dumps(entry) + "\n" for entry in whole).encode()
        write_atomically(self.layout.path / JOURNAL, lambda part: part.write_bytes(lines))
        return True

    def finish(self, source: Source, drop_copies: bool) -> None:
        """Closes the gaps of images that are left out and writes the other files, `meta.json` last.

        Each gap takes the last image that is left. May be interrupted and called again.
        """
        self.sync()
        layout, path = self.layout, self.layout.path
        digests, labels = layout.read_digests(), source.labels
        left_out = {i: why for i, why, _ in self.bad}
        good = np.delete(np.arange(layout.total), sorted(left_out))
        if drop_copies:
            first = good[first_alike(digests[good, -1], labels and labels.take(good))]
            copies = zip(good[good != first].tolist(), first[good != first].tolist(), strict=True)
            left_out |= {i: f"an exact copy of {source.item_name(k)}" for i, k in copies}
        order = self.order(left_out)
        self._close_gaps(order)
        digests, labels = digests[order], labels and labels.take(order)
        save_array(path / DIGESTS, digests)
        if labels:
            save_array(path / "labels.npy", labels.values)
        if left_out:
            lines = [f"{source.item_name(i)}: {why}" for i, why in sorted(left_out.items())]
            write_lines(path / BAD_FILES, lines)
        self.sync()
        smallest = np.load(layout.array(layout.levels[0]))
        blank = blank_ones(smallest, digests[:, -1], layout.resolution)
        meta = Meta(
            source=source.name,
            made_from=self.made_from,
            count=len(order),
            channels=layout.channels,
            resolution=layout.resolution,
            classes=labels.names if labels else (),
            png=layout.png,
            bad=len(self.bad),
            checksums=tuple(map(checksum, digests.T)),
            label_checksum=checksum(labels.values) if labels else "",
            repeats=find_repeats(
                digests[:, -1],
                labels,
                blank,
                lambda i: source.item_name(int(order[i])),
                smallest,
                dropped=len(left_out) - len(self.bad),
            ),
            reading=READING,
        )
        write_json(path / META, {"version": VERSION} | asdict(meta), replace=True)
        layout.digests.unlink()
        (path / JOURNAL).unlink()

    def _close_gaps(self, order: np.ndarray) -> None:
        """Moves images to the places that `order` gives them and completes the files."""
        layout, count = self.layout, len(order)
        gaps = np.flatnonzero(order != np.arange(count))
        for r in layout.raw:
            if os.path.getsize(layout.array(r)) > layout.place(r, count):
                for gap in gaps.tolist():
                    self._move(r, int(order[gap]), gap)
                os.truncate(layout.array(r), layout.place(r, count))
            write_header(layout.array(r), (count, layout.channels, r, r))
        for r in layout.png:
            lengths = np.array(self._lengths[r], np.int64)
            offsets = np.cumsum(lengths) - lengths
            places = np.stack([offsets, lengths], axis=1)[order]
            save_array(index_file(layout.path, r), places)
            self._files[r].truncate(int(lengths.sum()))

    def order(self, left_out: Collection[int]) -> np.ndarray:
        """The image of the source at each place of the finished pyramid: int64 [count]."""
        count = self.layout.total - len(left_out)
        order = np.arange(count)
        last = [i for i in range(count, self.layout.total) if i not in left_out]
        for gap, image in zip(sorted(i for i in left_out if i < count), last, strict=True):
            order[gap] = image
        return order

    def _move(self, resolution: int, image: int, gap: int) -> None:
        with open(self.layout.array(resolution), "r+b") as file:
            file.seek(self.layout.place(resolution, image))
            data = file.read(self.layout.channels * resolution**2)
            file.seek(self.layout.place(resolution, gap))
            file.write(data)


def read_journal(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What is being made, and the pieces up to the first that is torn or says what cannot be.

    Both are empty without a journal.
    """
    entries = []
    with suppress(OSError, ValueError, RecursionError):
        for line in read_plain(path / JOURNAL).split(b"\n")[:-1]:
            entries.append(json.loads(line))
    if not entries or not is_first(entries[0]):
        return {}, []
    return entries[0], list(takewhile(is_piece, entries[1:]))


def is_first(entry: Any) -> bool:
    """Whether it is an entry as `_first_entry` makes it."""
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("made_from"), str)
        and isinstance(entry.get("png"), list)
        and is_number(entry.get("total"))
        and entry["total"] > 0
        and entry.get("resolution") in resolutions_to(MAX_RESOLUTION)
    )


def is_piece(entry: Any) -> bool:
    """Whether it is an entry as `add` makes it."""
    try:
        bad = [is_number(i) and isinstance(why, str) for i, why, _ in entry["bad"]]
        sizes = [size is None or all(map(is_number, size)) for _, _, size in entry["bad"]]
        lengths = [r.isdigit() and all(map(is_number, n)) for r, n in entry["lengths"].items()]
        return all(map(is_number, (entry["start"], entry["stop"]))) and all(bad + sizes + lengths)
    except (TypeError, ValueError, KeyError, AttributeError):
        return False


def unfinished_files(path: Path) -> list[Path]:
    """The files of an unfinished pyramid."""
    return [file for pattern in UNFINISHED for file in path.glob(pattern)]


def write_lines(path: Path, lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    content = text.encode(errors="backslashreplace")
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
