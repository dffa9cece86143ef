"""The on-disk format: an array or PNG records a resolution, labels, meta.json.

A pyramid is a folder: `0004.npy`, `0008.npy`, … (uint8 [N, C, r, r]), or from 256x256 up, if disk
is short, `0256.records` (PNG files one after another) with `0256.index.npy` (int64 [N, 2]: offset
and length of each). `labels.npy` (int64 [N], or uint8 [N, K] for attributes) only if it has
classes; `bad-files.txt` if images had to be left out; `meta.json`, written last.
"""

import hashlib
import io
import json
import mmap
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from progan.config.resolutions import is_resolution, resolutions_to
from progan.data.labels import Labels
from progan.data.workers import Workers
from progan.runtime.errors import UserError, brief
from progan.runtime.paths import to_path

VERSION = 2
BAD_FILES = "bad-files.txt"
JOURNAL = "unfinished.jsonl"  # while the pyramid is being made (see writer)
FIRST_PNG = 256  # smaller levels are always arrays


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


class Pyramid:
    """Images at every resolution from 4x4 up, read-only. Made by `progan.data.pyramid.prepare`.

    Args:
        labels: open them, if there are any.
        workers: processes that decode PNG records; None: one for each core.

    Raises:
        ValueError, OSError: it is damaged.
    """

    def __init__(self, path: Path, meta: Meta, labels: bool = True, workers: int | None = None):
        self.path = path
        self.meta = meta
        self.title = path.name
        self.count, self.channels, self.resolution = meta.count, meta.channels, meta.resolution
        if not is_resolution(self.resolution):
            raise ValueError(f"meta.json says resolution {self.resolution}, no power of two")
        self._count = workers
        self._workers: Workers | None = None
        self._lock = threading.Lock()
        self._levels = {
            r: open_array(array_file(path, r), np.uint8, (self.count, self.channels, r, r))
            for r in resolutions_to(self.resolution)
            if r not in meta.png
        }
        self._places = {r: open_index(path, r, self.count) for r in meta.png}
        wanted = labels and bool(meta.classes)
        self.labels = open_labels(path, self.count, meta.classes) if wanted else None

    @classmethod
    def open(cls, path: Path | str, labels: bool = True, workers: int | None = None) -> Self:
        """Open a pyramid. Raises UserError if it is none, damaged or of another version."""
        path = to_path(path, "data.source")
        remedy = "delete the folder and have it prepared again"
        try:
            meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
            version = meta.pop("version")
            if version == VERSION:
                meta |= {key: tuple(meta[key]) for key in ("classes", "png")}
                return cls(path, Meta(**meta), labels, workers)
        except (FileNotFoundError, NotADirectoryError) as error:
            if (path / JOURNAL).exists():
                raise UserError(
                    f"{path} is not finished: its preparation was interrupted; run it again to go "
                    "on where it stopped"
                ) from None
            if not (path / "meta.json").exists():
                raise UserError(f"{path} is no data pyramid: it has no meta.json") from None
            raise UserError(f"{path} is damaged or unreadable ({error}); {remedy}") from error
        except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged or unreadable ({error}); {remedy}") from error
        raise UserError(
            f"{path} is of format version {version!r}, and this progan reads {VERSION}; {remedy}"
        )

    @cached_property
    def identity(self) -> str:
        """A hash of the images at 4x4 and of the labels, the same wherever the pyramid is kept."""
        digest = hashlib.sha256(np.ascontiguousarray(self._levels[4]).data)
        if self.labels is not None:
            digest.update(repr(self.labels.names).encode() + self.labels.values.tobytes())
        return digest.hexdigest()

    def level(self, resolution: int) -> np.memmap | None:
        """The images at one resolution: uint8 [N, C, r, r]; None if they are PNG records."""
        if resolution not in resolutions_to(self.resolution):
            allowed = ", ".join(map(str, resolutions_to(self.resolution)))
            raise ValueError(f"{self.path} has no level {resolution}, only {allowed}")
        return self._levels.get(resolution)

    def read(self, indices: np.ndarray, resolution: int) -> np.ndarray:
        """Copies of images: uint8 [n, C, r, r]. PNG records are decoded in worker processes."""
        level = self.level(resolution)
        if level is None:
            return self._read_records(self._places[resolution][indices], resolution)
        ask_for(level, indices)
        # Sorted reads are kinder to a disk; the order is restored while copying.
        ordered = np.argsort(indices)
        images = np.empty((len(indices), *level.shape[1:]), np.uint8)
        images[ordered] = level[indices[ordered]]
        return images

    def _read_records(self, places: np.ndarray, resolution: int) -> np.ndarray:
        with self._lock:  # several threads read
            workers = self._workers = self._workers or Workers(read_records, self._count)
        path, shape = records_file(self.path, resolution), (self.channels, resolution, resolution)
        return np.concatenate(workers.spread(places, lambda part: (path, shape, part)))

    def close(self) -> None:
        """End the worker processes."""
        with self._lock:
            if self._workers:
                self._workers.close()
            self._workers = None


def is_pyramid(path: Path) -> bool:
    """Whether a folder is a pyramid, or one that is being made."""
    whole = (path / "meta.json").is_file() and array_file(path, 4).is_file()  # no user's own
    return whole or (path / JOURNAL).is_file()


def array_file(path: Path, resolution: int) -> Path:
    return path / f"{resolution:04d}.npy"


def records_file(path: Path, resolution: int) -> Path:
    return path / f"{resolution:04d}.records"


def index_file(path: Path, resolution: int) -> Path:
    return path / f"{resolution:04d}.index.npy"


def read_records(item: tuple[Path, tuple[int, int, int], np.ndarray]) -> np.ndarray:
    """A worker's job: the PNG images of one file at `places`, uint8 [n, C, r, r].

    Args:
        item: the file; C, r, r; places, int64 [n, 2], offset and length of each.
    """
    path, shape, places = item
    images = np.empty((len(places), *shape), np.uint8)
    with open(path, "rb") as file:
        for image, (offset, length) in zip(images, places.tolist(), strict=True):
            file.seek(offset)
            try:
                image[:] = from_png(file.read(length), shape)
            except Exception as error:  # PIL meets damage with errors of any type
                raise UserError(
                    f"{path} is damaged: the record at byte {offset} is no image of "
                    f"{shape[2]}x{shape[1]} ({brief(error)}); delete the folder and have it "
                    "prepared again"
                ) from None
    return images


def to_png(image: np.ndarray) -> bytes:
    """uint8 [C, r, r] as a PNG file, lightly compressed: five times as fast, an eighth larger."""
    file = io.BytesIO()
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def from_png(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """The image of `to_png`: uint8 [C, r, r]."""
    image = Image.open(io.BytesIO(data), formats=["PNG"])
    if (len(image.getbands()), image.height, image.width) != shape:
        raise ValueError(f"a record is {image.mode} {image.size}, not {shape}")
    return np.asarray(image).reshape(*shape[1:], shape[0]).transpose(2, 0, 1)


def size_in_bytes(count: int, channels: int, resolution: int) -> int:
    """Disk space that one level takes as an array."""
    return count * channels * resolution**2


def open_array(file: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """Map a .npy file, if it is what it should be."""
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(
            f"{file.name} holds {array.dtype} {list(array.shape)} where meta.json says "
            f"{np.dtype(dtype)} {list(shape)}"
        )
    if file.stat().st_size != array.offset + array.nbytes:
        raise ValueError(f"{file.name} has the wrong length")
    return array


def ask_for(level: np.memmap, indices: np.ndarray) -> None:
    """Lets the system fetch all images at once; else each would wait for the one before."""
    file, size = level.base, level[0].nbytes
    if not (hasattr(mmap, "MADV_WILLNEED") and isinstance(file, mmap.mmap)) or size < mmap.PAGESIZE:
        return
    for i in indices.tolist():
        start = level.offset + i * size
        page = start - start % mmap.PAGESIZE
        file.madvise(mmap.MADV_WILLNEED, page, start - page + size)


def open_index(path: Path, resolution: int, count: int) -> np.ndarray:
    places = np.array(open_array(index_file(path, resolution), np.int64, (count, 2)))
    records = records_file(path, resolution)
    if (places < 0).any() or places.sum(axis=1).max(initial=0) > records.stat().st_size:
        raise ValueError(f"{records.name} is shorter than its index says")
    return places


def open_labels(path: Path, count: int, names: tuple[str, ...]) -> Labels:
    file = path / "labels.npy"
    attributes = np.load(file, mmap_mode="r", allow_pickle=False).ndim == 2
    shape = (count, len(names)) if attributes else (count,)
    values = np.array(open_array(file, np.uint8 if attributes else np.int64, shape))
    largest = 1 if attributes else len(names) - 1
    if values.min() < 0 or values.max() > largest:
        raise ValueError(f"labels.npy holds labels outside of 0..{largest}")
    return Labels(names, values)
