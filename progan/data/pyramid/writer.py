"""Making a pyramid in pieces, such that what was interrupted goes on where it stopped."""

import json
import os
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from progan.config.resolutions import resolutions_to
from progan.data.labels import Labels
from progan.data.pyramid.format import BAD_FILES, JOURNAL, VERSION, Meta
from progan.runtime.disk import write_atomically, write_json

HEADER_BYTES = 128
NUMBER = "[0-9][0-9][0-9][0-9]"
UNFINISHED = (
    *(f"{NUMBER}.{suffix}" for suffix in ("npy", "index.npy", "records")),
    *("labels.npy", BAD_FILES, JOURNAL, f"{JOURNAL}.partial", "meta.json.partial"),
)
SYNC_SECONDS = 10  # at most this much work is done again

Bad = tuple[int, str, tuple[int, int] | None]  # index, why, size if that is why


@dataclass(frozen=True)
class Piece:
    """What a worker reports of images start … stop - 1, whose arrays it has written itself."""

    start: int
    stop: int
    bad: list[Bad]
    records: dict[int, list[bytes]]  # PNG files by resolution, b"" for bad images


@dataclass(frozen=True)
class Layout:
    """Where the images of a pyramid that is being made go; every image of the source has a place.

    total: images of the source. resolution: of the largest level. png: levels kept as records.
    """

    path: Path
    total: int
    channels: int
    resolution: int
    png: tuple[int, ...]

    @property
    def raw(self) -> list[int]:
        return [r for r in resolutions_to(self.resolution) if r not in self.png]

    def array(self, resolution: int) -> Path:
        return self.path / f"{resolution:04d}.npy"

    def records(self, resolution: int) -> Path:
        return self.path / f"{resolution:04d}.records"

    def place(self, resolution: int, image: int) -> int:
        """Byte offset of an image in its array."""
        return HEADER_BYTES + image * self.channels * resolution**2

    def write(self, resolution: int, start: int, images: np.ndarray) -> None:
        """uint8 [n, C, r, r] to the places from `start`, by any process."""
        with open(self.array(resolution), "r+b") as file:
            file.seek(self.place(resolution, start))
            file.write(np.ascontiguousarray(images).data)


class PyramidWriter:
    """Collects pieces in order; all it knows is on disk at least every SYNC_SECONDS.

    made_from: what the pyramid depends on. If the folder holds an unfinished pyramid made from
    the same, `done` images and the `bad` ones are known already, and its `layout` is kept.
    """

    def __init__(self, layout: Layout, made_from: str):
        self.layout, self.made_from = layout, made_from
        self.done = 0
        self.bad: list[Bad] = []
        self._lengths: dict[int, list[int]] = {r: [] for r in layout.png}
        self._pending: list[str] = []
        self._synced = time.monotonic()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if not self._go_on():
            self._start()
        self._journal = self._stack.enter_context(open(self.layout.path / JOURNAL, "ab"))
        self._files: dict[int, BinaryIO] = {}
        for r in self.layout.png:
            file = self._stack.enter_context(open(self.layout.records(r), "r+b"))
            self._files[r] = file
            file.seek(sum(self._lengths[r]))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, piece: Piece) -> None:
        """The piece after the last one."""
        assert piece.start == self.done
        for r, records in piece.records.items():
            self._files[r].write(b"".join(records))
        lengths = {r: [len(record) for record in records] for r, records in piece.records.items()}
        entry = {"start": piece.start, "stop": piece.stop, "bad": piece.bad, "lengths": lengths}
        self._note(entry)
        if time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()

    def _note(self, entry: dict[str, Any]) -> None:
        self._take(entry)
        self._pending.append(json.dumps(entry) + "\n")

    def _take(self, entry: dict[str, Any]) -> None:
        self.done = entry["stop"]
        self.bad += [(i, why, size and tuple(size)) for i, why, size in entry["bad"]]
        for r, lengths in entry["lengths"].items():
            self._lengths[int(r)] += lengths

    def sync(self) -> None:
        """First the images, then the journal that tells of them."""
        for r in self.layout.raw:
            with open(self.layout.array(r), "r+b") as file:
                os.fsync(file.fileno())
        for file in [*self._files.values(), self._journal]:
            if file is self._journal:
                file.write("".join(self._pending).encode())
                self._pending.clear()
            file.flush()
            os.fsync(file.fileno())
        self._synced = time.monotonic()

    def _start(self) -> None:
        path = self.layout.path
        for file in unfinished_files(path):
            file.unlink()
        line = json.dumps(self._first_entry()).encode() + b"\n"
        write_atomically(path / JOURNAL, lambda temporary: temporary.write_bytes(line))
        for r in self.layout.raw:
            with open(self.layout.array(r), "wb") as file:  # takes no disk until it is written
                file.truncate(self.layout.place(r, self.layout.total))
        for r in self.layout.png:
            self.layout.records(r).touch()

    def _first_entry(self) -> dict[str, Any]:
        """What is being made; the size is for `progan data info`."""
        layout = self.layout
        return {
            "version": VERSION,
            "made_from": self.made_from,
            "total": layout.total,
            "resolution": layout.resolution,
            "png": list(layout.png),
        }

    def _go_on(self) -> bool:
        """Take up what an earlier process left, if it was making the same."""
        first, *entries = read_journal(self.layout.path) or [None]
        files = [self.layout.array(r) for r in self.layout.raw]
        files += [self.layout.records(r) for r in self.layout.png]
        if first != self._first_entry() or not entries or not all(file.is_file() for file in files):
            return False
        whole = [first]
        for entry in entries:
            if entry["start"] == self.done:  # one that stands twice was interrupted in `sync`
                self._take(entry)
                whole.append(entry)
        # A torn last line goes, or the next one would be joined to it.
        lines = "".join(json.dumps(entry) + "\n" for entry in whole).encode()
        write_atomically(self.layout.path / JOURNAL, lambda part: part.write_bytes(lines))
        return True

    def finish(self, source: str, labels: Labels | None, bad_lines: list[str]) -> None:
        """Close the gaps of bad images, write what else belongs to a pyramid; `meta.json` last.

        Each gap takes the last image that is left. May be interrupted and done again.
        """
        self.sync()
        layout, path = self.layout, self.layout.path
        count = layout.total - len(self.bad)
        order = self.order()
        gaps = np.flatnonzero(order != np.arange(count))
        for r in layout.raw:
            if os.path.getsize(layout.array(r)) > layout.place(r, count):
                for gap in gaps.tolist():
                    self._move(r, int(order[gap]), gap)
                os.truncate(layout.array(r), layout.place(r, count))
            _write_header(layout.array(r), (count, layout.channels, r, r))
        for r in layout.png:
            lengths = np.array(self._lengths[r], np.int64)
            offsets = np.cumsum(lengths) - lengths
            np.save(path / f"{r:04d}.index.npy", np.stack([offsets, lengths], axis=1)[order])
            self._files[r].truncate(int(lengths.sum()))
        if labels is not None:
            np.save(path / "labels.npy", labels.values[order])
        if bad_lines:
            write_lines(path / BAD_FILES, bad_lines)
        self.sync()
        meta = Meta(
            source,
            self.made_from,
            count,
            layout.channels,
            layout.resolution,
            labels.names if labels else (),
            layout.png,
            len(self.bad),
        )
        write_json(path / "meta.json", {"version": VERSION} | asdict(meta))
        (path / JOURNAL).unlink()

    def order(self) -> np.ndarray:
        """Which image of the source each place of the finished pyramid holds: int64 [count]."""
        bad = {i for i, _, _ in self.bad}
        count = self.layout.total - len(bad)
        order = np.arange(count)
        last = [i for i in range(count, self.layout.total) if i not in bad]
        for gap, image in zip(sorted(i for i in bad if i < count), last, strict=True):
            order[gap] = image
        return order

    def _move(self, resolution: int, image: int, gap: int) -> None:
        with open(self.layout.array(resolution), "r+b") as file:
            file.seek(self.layout.place(resolution, image))
            data = file.read(self.layout.channels * resolution**2)
            file.seek(self.layout.place(resolution, gap))
            file.write(data)


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Its entries up to the first that is not whole; none if there is no journal."""
    entries = []
    try:
        for line in (path / JOURNAL).read_bytes().split(b"\n")[:-1]:
            entries.append(json.loads(line))
    except (OSError, ValueError):
        pass
    return entries


def unfinished_files(path: Path) -> list[Path]:
    """What an unfinished pyramid consists of."""
    return [file for pattern in UNFINISHED for file in path.glob(pattern)]


def write_lines(path: Path, lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _write_header(file: Path, shape: tuple[int, ...]) -> None:
    """Of a .npy file; padding makes it as long for any number of images."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with open(file, "r+b") as opened:
        np.lib.format.write_array_header_1_0(opened, header)
        assert opened.tell() == HEADER_BYTES, "this NumPy writes npy headers of another length"
