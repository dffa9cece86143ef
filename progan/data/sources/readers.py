"""Files in a folder, a zip or a tar by index: small to pickle, opened where they are read."""

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from progan.data.decode import BadImage
from progan.data.sources.tars import COMPRESSED

FILE_BYTES = 2**29  # a file that claims more is no image, and is not read
DECOMPRESS = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}


@dataclass
class FolderFiles:
    """Files of a folder by index."""

    path: Path
    names: list[str]

    def __call__(self, i: int) -> bytes:
        with open(self.path / self.names[i], "rb", opener=_do_not_wait) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadImage("not a regular file")
            check_size(status.st_size)
            return file.read(FILE_BYTES)

    def pick(self, indices: list[int]) -> Self:
        return replace(self, names=[self.names[i] for i in indices])


@dataclass
class ZipFiles:
    """Entries of a zip by index. places: uint64 [N, 5]: offset, packed, size, CRC, method."""

    path: Path
    places: np.ndarray

    def __call__(self, i: int) -> bytes:
        offset, packed, size, crc, method = self.places[i].tolist()
        check_size(max(packed, size))
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadImage(f"compressed by method {method}: only stored and deflated are read")
        with open(self.path, "rb") as file:
            file.seek(offset)
            header = file.read(30)
            if len(header) < 30 or header[:4] != b"PK\3\4":
                raise BadImage("the zip is damaged here: no entry where one should be")
            file.seek(sum(struct.unpack("<HH", header[26:])), os.SEEK_CUR)
            data = file.read(packed)
        try:
            if method == zipfile.ZIP_DEFLATED:
                data = zlib.decompressobj(-15).decompress(data, size + 1)
        except zlib.error:
            data = b""
        if len(data) != size or zlib.crc32(data) != crc:
            raise BadImage("the zip is damaged here: wrong length or checksum")
        return data

    def pick(self, indices: list[int]) -> Self:
        return replace(self, places=self.places[indices])


@dataclass
class TarFiles:
    """Members of a tar by index; where it is compressed, cheap only in its order.

    places: int64 [N, 2]: offset, size. stamp: changes with the file.
    """

    path: Path
    compressed: bool
    places: np.ndarray
    stamp: tuple[int, int]

    def __call__(self, i: int) -> bytes:
        offset, size = self.places[i].tolist()
        check_size(size)
        if self.compressed:
            stream, lock = _stream(self.path, self.stamp, os.getpid())
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

    def pick(self, indices: list[int]) -> Self:
        return replace(self, places=self.places[indices])


def check_size(size: int) -> None:
    """BadImage for a file so large that it must not be read."""
    if size > FILE_BYTES:
        raise BadImage(f"{size} bytes are too many for an image: the limit is {FILE_BYTES}")


def open_tar(path: Path) -> tuple[BinaryIO, bool]:
    """The content of a tar that may be compressed, and whether it is."""
    with open(path, "rb") as file:
        start = file.read(8)
    kind = next((kind for magic, kind in COMPRESSED.items() if start.startswith(magic)), None)
    return (DECOMPRESS[kind](path), True) if kind in DECOMPRESS else (open(path, "rb"), False)


@functools.lru_cache(2)
def _stream(path: Path, stamp: tuple[int, ...], process: int) -> tuple[BinaryIO, threading.Lock]:
    """A compressed tar kept open, once a process: the position in it cannot be shared."""
    return open_tar(path)[0], threading.Lock()


def _do_not_wait(path: str, flags: int) -> int:
    """Open so that a pipe in a file's place cannot make us wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
