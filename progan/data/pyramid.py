"""The on-disk format: one memory-mapped uint8 array a resolution, labels, meta.json.

A pyramid is a folder: `0004.npy`, `0008.npy`, … (uint8 [N, C, r, r]), `labels.npy` (int64 [N],
only if it has classes), `meta.json`, and `bad-files.txt` if images had to be left out.
"""

import json
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from progan.errors import UserError
from progan.schedule import resolutions_to

VERSION = 1
HEADER_BYTES = 128


@dataclass(frozen=True)
class Meta:
    """What `meta.json` says beside the version."""

    source: str
    count: int
    channels: int
    resolution: int
    classes: tuple[str, ...]
    bad: int


class Pyramid:
    """Images at every resolution from 4x4 up, read-only. Made by `progan.data.prepare`.

    path: the folder. source: what it was made of. count: N images. channels: 1 or 3.
    resolution: of the largest level, a power of two. classes: names, empty without labels.
    labels: int64 [N] or None. bad: images of the source that were left out.
    """

    def __init__(self, path: Path, meta: Meta):
        self.path = path
        self.source, self.bad = meta.source, meta.bad
        self.count, self.channels, self.resolution = meta.count, meta.channels, meta.resolution
        self.classes = tuple(meta.classes)
        self.labels: np.ndarray | None = None
        self._levels = {r: self._open(r) for r in resolutions_to(self.resolution)}
        if self.classes:
            self.labels = np.load(path / "labels.npy", allow_pickle=False)
            _expect("labels.npy", self.labels, np.int64, (self.count,))
            if self.labels.min() < 0 or self.labels.max() >= len(self.classes):
                raise ValueError(f"labels.npy holds labels outside of 0..{len(self.classes) - 1}")

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open and check a pyramid. UserError if it is none, of another version or damaged."""
        path = Path(path)
        remedy = "delete the folder and have it prepared again"
        try:
            meta = json.loads((path / "meta.json").read_text())
            version = meta.pop("version")
            if version == VERSION:
                return cls(path, Meta(**meta))
        except (FileNotFoundError, NotADirectoryError) as error:
            if not (path / "meta.json").exists():
                raise UserError(f"{path} is no data pyramid: it has no meta.json") from None
            raise UserError(f"{path} is damaged or unreadable ({error}); {remedy}") from error
        except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged or unreadable ({error}); {remedy}") from error
        raise UserError(
            f"{path} is of format version {version!r}, and this progan reads {VERSION}; {remedy}"
        )

    def level(self, resolution: int) -> np.memmap:
        """The images at one resolution: uint8 [N, C, resolution, resolution]."""
        if resolution not in resolutions_to(self.resolution):
            allowed = ", ".join(map(str, resolutions_to(self.resolution)))
            raise ValueError(f"{self.path} has no level {resolution}, only {allowed}")
        return self._levels[resolution]

    def _open(self, resolution: int) -> np.memmap:
        file = self.path / f"{resolution:04d}.npy"
        array = np.load(file, mmap_mode="r", allow_pickle=False)
        _expect(file.name, array, np.uint8, (self.count, self.channels, resolution, resolution))
        if file.stat().st_size != array.offset + array.nbytes:
            raise ValueError(f"{file.name} has the wrong length")
        return array


class PyramidWriter:
    """Write a pyramid into an existing empty folder, in any number of pieces.

    Arrays are appended to, not mapped: images that turn out bad take no place, memory use does
    not grow, and a full disk is an OSError rather than a bus error.
    """

    def __init__(self, path: Path, source: str, channels: int, resolution: int):
        self._path, self._source, self._channels = path, source, channels
        self._resolution, self.count = resolution, 0
        self._labels: list[np.ndarray] = []
        self._stack = ExitStack()
        self._files: dict[int, BinaryIO] = {}

    def __enter__(self) -> Self:
        for r in resolutions_to(self._resolution):
            self._files[r] = self._stack.enter_context(open(self._path / f"{r:04d}.npy", "wb"))
            _write_header(self._files[r], (0, self._channels, r, r))
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    def append(self, levels: dict[int, np.ndarray], labels: np.ndarray | None = None) -> None:
        """Add n images: a uint8 [n, C, r, r] for every resolution r, and labels int64 [n]."""
        for resolution, file in self._files.items():
            file.write(np.ascontiguousarray(levels[resolution]).data)
        if labels is not None:
            self._labels.append(labels)
        self.count += len(levels[self._resolution])

    def finish(self, classes: tuple[str, ...] = (), bad: int = 0) -> None:
        """Put the final count into every header and write the labels and `meta.json`."""
        for r, file in self._files.items():
            _write_header(file, (self.count, self._channels, r, r))
            file.flush()
            os.fsync(file.fileno())
        if classes:
            labels = np.concatenate(self._labels).astype(np.int64)
            empty = [name for k, name in enumerate(classes) if not (labels == k).any()]
            if empty:
                raise UserError(
                    f"data.labels: no image of class {', '.join(empty)} can be used; mend or "
                    "remove its folder"
                )
            np.save(self._path / "labels.npy", labels)
        meta = Meta(self._source, self.count, self._channels, self._resolution, classes, bad)
        text = json.dumps({"version": VERSION} | asdict(meta), indent=2)
        (self._path / "meta.json").write_text(text + "\n")


def size_in_bytes(count: int, channels: int, resolution: int) -> int:
    """Disk space that the images of a pyramid take."""
    return count * channels * sum(r * r for r in resolutions_to(resolution))


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Write the npy header, or replace it: padding makes it as long for any N."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    assert file.tell() == HEADER_BYTES, "this NumPy writes npy headers of another length"


def _expect(name: str, array: np.ndarray, dtype: type, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(
            f"{name} holds {array.dtype} {list(array.shape)} where meta.json says "
            f"{np.dtype(dtype)} {list(shape)}"
        )
