"""The on-disk format: an array or PNG records a resolution, labels, digests, meta.json.

A pyramid is a folder: `0004.npy`, `0008.npy`, … (uint8 [N, C, r, r]), or from 256x256 up, if disk
is short, `0256.records` (PNG files one after another) with `0256.index.npy` (int64 [N, 2]: offset
and length of each). `labels.npy` (int64 [N], or uint8 [N, K] for attributes) only if it has
classes; `digests.npy` (uint64 [N, levels]: one of each image at each resolution) if progan has
made it; `bad-files.txt` if images had to be left out; `meta.json`, written last.
"""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Self

import numpy as np

from progan.config.resolutions import resolutions_to
from progan.data.array_file import NO_ARRAY, ArrayFile, Damaged
from progan.data.labels import Labels
from progan.data.pyramid.digests import DTYPE, checksum, digests_of
from progan.data.pyramid.meta import META, VERSION, Meta, OtherVersion, read_meta
from progan.data.pyramid.records import Records, open_index, read_records, records_file
from progan.data.sources.source import evenly
from progan.data.workers import Workers
from progan.runtime.errors import UserError
from progan.runtime.paths import to_path

BAD_FILES = "bad-files.txt"
DIGESTS = "digests.npy"
JOURNAL = "unfinished.jsonl"  # while the pyramid is being made (see writer)
FIRST_PNG = 256  # smaller levels are always arrays
# Images of a level that are compared with their digests when it is opened: so many, or more of
# small ones. Where thousands are small, one that has changed is found by `progan data info`.
CHECKED, CHECKED_BYTES = 4, 2**21
SAMPLE_BYTES = 2**24  # of a level without checksums that stand for it

REMEDY = "delete the folder and have it prepared again"
OWN_REMEDY = "it is prepared again at the next start"


class DamagedPyramid(UserError):
    """Prepared data that have to be prepared again."""


class Pyramid:
    """Images at every resolution from 4x4 up, read-only. Made by `progan.data.pyramid.prepare`.

    Args:
        labels: open them, if there are any.
        workers: processes that decode PNG records; None: one for each core.
        own: in progan's own cache, where it may be removed and made again.

    Raises:
        ValueError, OSError: it is damaged.
    """

    def __init__(
        self,
        path: Path,
        meta: Meta,
        labels: bool = True,
        workers: int | None = None,
        own: bool = False,
    ):
        self.path = path
        self.meta = meta
        self.title = path.name
        self.count, self.channels, self.resolution = meta.count, meta.channels, meta.resolution
        self._count, self._own = workers, own
        self._workers: Workers | None = None
        self._lock = threading.Lock()
        self.levels = resolutions_to(self.resolution)
        self._arrays = {
            r: ArrayFile(array_file(path, r), np.uint8, (self.count, self.channels, r, r))
            for r in self.levels
            if r not in meta.png
        }
        self._places = {r: open_index(path, r, self.count) for r in meta.png}
        wanted = labels and bool(meta.classes)
        self.labels = open_labels(path, self.count, meta.classes) if wanted else None
        if self.labels and meta.label_checksum not in ("", checksum(self.labels.values)):
            raise Damaged("labels.npy holds other labels than were prepared")
        if meta.checksums:
            self._check_some()

    @classmethod
    def open(
        cls, path: Path | str, labels: bool = True, workers: int | None = None, own: bool = False
    ) -> Self:
        """Open a pyramid. Raises UserError if it is none; DamagedPyramid if it is damaged or of
        another version."""
        path = to_path(path, "data.source")
        remedy = OWN_REMEDY if own else REMEDY
        try:
            check_files(path)
            return cls(path, read_meta(path), labels, workers, own)
        except OtherVersion as error:
            raise DamagedPyramid(
                f"{path} is of format version {error}, and this progan reads {VERSION}; {remedy}"
            ) from None
        except (FileNotFoundError, NotADirectoryError) as error:
            if (path / JOURNAL).exists():
                raise UserError(
                    f"{path} is not finished: its preparation was interrupted; run it again to go "
                    "on where it stopped"
                ) from None
            if not (path / META).exists():
                raise UserError(
                    f"{path} is no data pyramid: it has no {META}; {REMEDY}, if it has been one"
                ) from None
            raise DamagedPyramid(f"{path} is damaged ({error}); {remedy}") from error
        except ValueError as error:
            raise DamagedPyramid(f"{path} is damaged ({error}); {remedy}") from error
        except OSError as error:  # says nothing about the data
            raise UserError(f"{path} cannot be read ({error})") from error

    @property
    def digests(self) -> np.ndarray | None:
        """One of each image at each resolution: uint64 [N, levels]; None if there are none."""
        if not self.meta.checksums:
            return None
        return ArrayFile(self.path / DIGESTS, DTYPE, (self.count, len(self.levels)))[:]

    def _check_some(self) -> None:
        """Raises Damaged unless digests are those of `meta.json`, and a few images those of the
        digests."""
        digests = self.digests
        assert digests is not None
        if tuple(map(checksum, digests.T)) != self.meta.checksums:
            raise Damaged(f"{DIGESTS} is not the one that {META} was written for")
        for r, expected in zip(self.levels, digests.T, strict=True):
            most = max(CHECKED, CHECKED_BYTES // size_in_bytes(1, self.channels, r))
            some = np.array(evenly(self.count, most))
            if (digests_of(self._read_here(some, r)) != expected[some]).any():
                raise Damaged(f"{r:04d}.* holds other images than were prepared")

    @cached_property
    def identity(self) -> str:
        """A hash of the images at every resolution and of the labels, the same wherever the pyramid
        is kept.

        Without checksums some images of each resolution stand for all.
        """
        return self._hash_of(*self.meta.checksums) if self.meta.checksums else self._by_samples

    def is_identified_by(self, identity: str) -> bool:
        """Whether it has or had this identity: before it was prepared again with checksums, or for
        progan 0.1."""
        return identity in (self.identity, self._by_samples, self._by_smallest)

    def identified_in_cache(self, identity: str) -> Path | None:
        """Another pyramid in the same cache of progan's that has or had this identity."""
        for meta in sorted(self.path.parent.glob(f"*/{META}")) if self._own else ():
            with suppress(UserError):
                other = Pyramid.open(meta.parent, labels=self.labels is not None, workers=0)
                with closing(other):
                    if other.is_identified_by(identity):
                        return other.path
        return None

    @cached_property
    def _by_samples(self) -> str:
        found = []
        for r in self.levels:
            most = max(1, SAMPLE_BYTES // size_in_bytes(1, self.channels, r))
            found.append(checksum(digests_of(self.read(np.array(evenly(self.count, most)), r))))
        return self._hash_of(*found)

    @cached_property
    def _by_smallest(self) -> str:
        """progan 0.1 looked at 4x4 only."""
        return self._hash_of(np.asarray(self._arrays[4]).tobytes())

    def _hash_of(self, *parts: str | bytes) -> str:
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part.encode() if isinstance(part, str) else part)
        if self.labels is not None:
            digest.update(repr(self.labels.names).encode() + self.labels.values.tobytes())
        return digest.hexdigest()

    def level(self, resolution: int) -> ArrayFile | None:
        """The images at one resolution: uint8 [N, C, r, r]; None if they are PNG records."""
        if resolution not in self.levels:
            allowed = ", ".join(map(str, self.levels))
            raise ValueError(f"{self.path} has no level {resolution}, only {allowed}")
        return self._arrays.get(resolution)

    def read(self, indices: np.ndarray, resolution: int) -> np.ndarray:
        """Copies of images: uint8 [n, C, r, r]. PNG records are decoded in worker processes.

        Raises:
            DamagedPyramid: files have been removed or changed since it was opened.
        """
        with self._damage_explained():
            if self.level(resolution) is not None:
                return self._read_here(indices, resolution)
            with self._lock:  # several threads read
                workers = self._workers = self._workers or Workers(read_records, self._count)
            places = self._places[resolution][indices]
            return np.concatenate(workers.spread(places, partial(self._item, resolution)))

    def _read_here(self, indices: np.ndarray, resolution: int) -> np.ndarray:
        level = self.level(resolution)
        if level is None:
            return read_records(self._item(resolution, self._places[resolution][indices]))
        # Sorted reads are kinder to a disk; the order is restored while copying.
        ordered = np.argsort(indices)
        images = np.empty((len(indices), *level.shape[1:]), np.uint8)
        images[ordered] = level.read(indices[ordered])
        return images

    def _item(self, resolution: int, places: np.ndarray) -> Records:
        shape = self.channels, resolution, resolution
        return records_file(self.path, resolution), shape, places

    @contextmanager
    def _damage_explained(self) -> Iterator[None]:
        """Replaces errors by what to do. The own cache is marked, so that it is made again."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be read any more ({error}); once it can, the same command "
                "goes on"
            ) from error
        except Damaged as error:
            if self._own:
                with suppress(OSError):
                    (self.path / META).unlink(missing_ok=True)
            remedy = OWN_REMEDY if self._own else REMEDY
            raise DamagedPyramid(f"{self.path} is damaged ({error}); {remedy}") from error

    def close(self) -> None:
        """End the worker processes."""
        with self._lock:
            if self._workers:
                self._workers.close()
            self._workers = None


def is_pyramid(path: Path) -> bool:
    """Whether a folder is a pyramid, or one that is being made.

    Two of its files are enough, so that a lost one is missed. A user's own may have a meta.json.
    """
    files = path / META, array_file(path, 4), array_file(path, 8)
    # Not by pathlib, which raises where a name is too long, as lists in braces may be.
    return sum(map(os.path.isfile, files)) >= 2 or os.path.isfile(path / JOURNAL)


def check_files(path: Path) -> None:
    """Raises Damaged for a pipe in place of a file, which could be waited for without an end."""
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.endswith((".npy", ".records", META)) and not entry.is_file():
                raise Damaged(f"{entry.name} is no file")


def array_file(path: Path, resolution: int) -> Path:
    return path / f"{resolution:04d}.npy"


def size_in_bytes(count: int, channels: int, resolution: int) -> int:
    """Disk space that one level takes as an array."""
    return count * channels * resolution**2


def open_labels(path: Path, count: int, names: tuple[str, ...]) -> Labels:
    file = path / "labels.npy"
    try:
        attributes = np.load(file, mmap_mode="r", allow_pickle=False).ndim == 2
    except NO_ARRAY:
        attributes = False  # and ArrayFile says what is wrong
    shape = (count, len(names)) if attributes else (count,)
    values = ArrayFile(file, np.uint8 if attributes else np.int64, shape)[:]
    largest = 1 if attributes else len(names) - 1
    if values.min() < 0 or values.max() > largest:
        raise ValueError(f"labels.npy holds labels outside of 0..{largest}")
    return Labels(names, values)
