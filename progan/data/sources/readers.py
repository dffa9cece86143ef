"""Bytes of single files of a folder, a zip or a tar, which is opened where it is read.

Each reader takes an item to a file's bytes, and has `chunks`, which takes it to its pieces.
"""

import bz2
import functools
import gzip
import lzma
import os
import stat
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from progan.data.decode import BadImage
from progan.data.formats import may_be_image, what_instead
from progan.data.sources.tars import COMPRESSED

CHUNK = 2**16
FILE_BYTES = 2**29  # a file that claims more is no image, and is not read
LARGE = 2**24  # from so many bytes on, the start is looked at before the rest is unpacked
DECOMPRESS: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}


@dataclass
class FolderReader:
    """Bytes of a file of a folder by its name."""

    path: Path

    def __call__(self, name: str) -> bytes:
        with self._open(name) as file:
            return file.read(FILE_BYTES)

    def chunks(self, name: str) -> Iterator[bytes]:
        with self._open(name) as file:
            yield from iter(partial(file.read, CHUNK), b"")

    @contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        with open(self.path / name, "rb", opener=open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadImage("not a regular file")
            check_size(status.st_size)
            yield file


@dataclass
class ZipReader:
    """Bytes of an entry of a zip by uint64 [5]: offset, packed, size, CRC, method.

    `zipfile` would hold the names of all entries in each process.
    """

    path: Path

    def __call__(self, place: np.ndarray) -> bytes:
        offset, packed, size, crc, method = place.tolist()
        check_size(max(packed, size))
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadImage(f"compressed by method {method}: only stored and deflated are read")
        with open(self.path, "rb") as file:
            file.seek(offset)
            header = file.read(30)
            if len(header) < 30 or header[:4] != b"PK\3\4":
                raise BadImage("the zip is damaged here: no entry where one should be")
            file.seek(sum(struct.unpack("<HH", header[26:])), os.SEEK_CUR)
            data = file.read(min(packed, CHUNK))
            if size > LARGE:
                check_start(unpacked(data, method, CHUNK))
            data += file.read(packed - len(data))
        data = unpacked(data, method, size + 1)
        if len(data) != size or zlib.crc32(data) != crc:
            raise BadImage("the zip is damaged here: wrong length or checksum")
        return data

    def chunks(self, place: np.ndarray) -> Iterator[bytes]:
        check_size(int(place[2]))
        with zipfile.ZipFile(self.path) as archive:
            info = next(i for i in archive.infolist() if i.header_offset == place[0])
            with archive.open(info) as file:
                yield from iter(partial(file.read, CHUNK), b"")


def check_start(start: bytes) -> None:
    """Raises BadImage if a large file begins as no image does. It may be empty: damaged."""
    if start and not may_be_image(start):
        raise BadImage(what_instead(start))


def unpacked(data: bytes, method: int, most: int) -> bytes:
    """At most `most` bytes of a zip's entry; nothing if it is damaged."""
    if method != zipfile.ZIP_DEFLATED:
        return data
    try:
        return zlib.decompressobj(-15).decompress(data, most)
    except zlib.error:
        return b""


@dataclass
class TarReader:
    """Bytes of a member of a tar by int64 [2]: offset, size. Cheap only in order if compressed.

    stamp: changes with the file.
    """

    path: Path
    compressed: bool
    stamp: tuple[int, int]

    def __call__(self, place: np.ndarray) -> bytes:
        offset, size = place.tolist()
        check_size(size)
        start = b""
        if size > LARGE:
            start = self._read(offset, CHUNK)
            check_start(start)
        return start + self._read(offset + len(start), size - len(start))

    def chunks(self, place: np.ndarray) -> Iterator[bytes]:
        offset, size = place.tolist()
        for start in range(0, size, CHUNK):
            yield self._read(offset + start, min(CHUNK, size - start))

    def _read(self, offset: int, size: int) -> bytes:
        if self.compressed:
            stream, lock = open_stream(self.path, self.stamp, os.getpid())
            with lock:
                stream.seek(offset)
                data = stream.read(size)
        else:
            with open(self.path, "rb") as file:
                file.seek(offset)
                data = file.read(size)
        if len(data) != size:
            raise BadImage("the tar ends before it does")
        return data


def check_size(size: int) -> None:
    """Raises BadImage for a file so large that it must not be read."""
    if size > FILE_BYTES:
        raise BadImage(f"{size} bytes are too many for an image: the limit is {FILE_BYTES}")


def open_tar(path: Path) -> tuple[BinaryIO, bool]:
    """The content of a tar that may be compressed, and whether it is."""
    with open(path, "rb") as file:
        start = file.read(8)
    kind = next((kind for magic, kind in COMPRESSED.items() if start.startswith(magic)), "")
    return (DECOMPRESS[kind](path), True) if kind in DECOMPRESS else (open(path, "rb"), False)


@functools.lru_cache(2)
def open_stream(
    path: Path, stamp: tuple[int, ...], process: int
) -> tuple[BinaryIO, threading.Lock]:
    """A compressed tar kept open, once a process: its position cannot be shared."""
    return open_tar(path)[0], threading.Lock()


def open_at_once(path: str, flags: int) -> int:
    """Opens without waiting for a writer, if a pipe has taken a file's place."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
