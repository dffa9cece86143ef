"""Reads files that `torch.save` wrote, and builds nothing but what a checkpoint of progan holds.

`torch.load(weights_only=True)` runs no code, but a file of 400 bytes may have it take any amount of
memory: by `bytearray(3 << 30)`, or a tensor that is larger than its storage.
"""

import io
import math
import os
import sys
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from progan.runtime.disk import open_plain
from progan.runtime.pickles import PlainReader
from progan.runtime.text import printable
from progan.runtime.zips import open_zip

PART = 2**22  # bytes that are read at once
MOST_AXES = 8
MOST_PICKLE = 2**20  # bytes of names, shapes and numbers; those of the paper at 1024x1024: 50,000
STORAGES = {
    "torch FloatStorage": torch.float32,
    "torch DoubleStorage": torch.float64,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}
OPERATIONS = {  # of pickles of protocol 2, as torch writes them
    *("PROTO", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
    *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"),
    *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM", "SETITEMS"),
}


class CheckpointReader(PlainReader):
    """Reads what `torch.save` writes of a checkpoint, and no operation that it has no use for."""

    def step(self, operation: str, argument: Any) -> None:
        if operation not in OPERATIONS:
            raise ValueError(f"it holds {operation}, which no checkpoint of progan does")
        super().step(operation, argument)


def read_parts(path: Path) -> dict[str, Any]:
    """The dictionary in a checkpoint file, if the file is whole; its tensors are on the CPU.

    Raises:
        Exception: of any type, if the file is damaged, or is none of progan's.
    """
    calls: dict[str, Callable[..., Any]] = {
        "collections OrderedDict": dict,
        "torch._utils _rebuild_tensor_v2": tensor,
    }
    with open(path, "rb", opener=open_plain) as file, open_zip(file) as archive:
        size = os.fstat(file.fileno()).st_size
        parts = Parts(archive, size, STORAGES)
        state = parts.read(partial(CheckpointReader, calls=calls, names=STORAGES), MOST_PICKLE)
    if not isinstance(state, dict):
        raise ValueError("it holds no dictionary")
    return state


class Parts:
    """The parts of a file of `torch.save`, a zip: a pickle, and each storage's numbers.

    Args:
        size: of the file, in bytes.
        dtypes: by the types of storages that there may be.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int, dtypes: Mapping[str, torch.dtype]):
        self.archive, self.dtypes = archive, dtypes
        self.storages: dict[str, Tensor] = {}
        self.pickled = pickled_in(archive)
        check_members(archive, size)

    def read(self, reader: Callable[..., PlainReader], most: int) -> Any:
        """What the pickle holds, read by `reader`, if it has no more than `most` bytes.

        Raises:
            Exception: of any type, if it is damaged or holds something else than the reader reads.
        """
        size = self.archive.getinfo(self.pickled).file_size
        if size > most:
            raise ValueError(f"{self.pickled} has more than {most:,} bytes")
        content = io.BytesIO(self.archive.read(self.pickled))
        return reader(content, size, persistent=self.storage).build()

    def storage(self, pid: Any) -> Tensor:
        """The storage that torch names so, as a flat tensor."""
        _, named, key, _, count = pid
        if key not in self.storages:
            part = self.archive.NameToInfo[f"{self.pickled.removesuffix('data.pkl')}data/{key}"]
            storage = empty(self.dtypes[named], count, part.file_size)
            if storage.nbytes != part.file_size:
                raise ValueError(f"{part.filename} has {part.file_size} bytes, not {count} numbers")
            with self.archive.open(part) as file:
                fill(storage, file)
            self.storages[key] = storage
        return self.storages[key]


def pickled_in(archive: zipfile.ZipFile) -> str:
    """The name of the pickle in a file of `torch.save`.

    Raises:
        ValueError: it is another zip, or has two parts of one name.
    """
    names = archive.namelist()
    if len(set(names)) < len(names):
        raise ValueError("two of its parts have the same name")
    pickled = [name for name in names if name.endswith("/data.pkl")]
    if len(pickled) == 1 and pickled[0].replace("data.pkl", "constants.pkl") not in names:
        return pickled[0]
    shown = ", ".join(printable(name)[:40] for name in names[:2]) + ", …" * (len(names) > 2)
    raise ValueError(
        f"it is a zip that torch.save did not write ({shown}); if a file in it has the weights, "
        "unpack it"
    )


def check_members(archive: zipfile.ZipFile, size: int) -> None:
    """Raises ValueError if the archive's parts are damaged, or claim more than it has."""
    parts = archive.infolist()
    # Compressed parts could expand beyond memory; torch compresses nothing.
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError("it is compressed, so torch.save did not write it")
    if sum(part.file_size for part in parts) > size:
        raise ValueError("its parts are larger than the file")
    if damaged := archive.testzip():
        raise ValueError(f"the checksum of {damaged} is wrong")
    for part in parts:
        if part.filename.endswith("/byteorder") and archive.read(part) != sys.byteorder.encode():
            raise ValueError("it was written on a machine with another order of bytes")


def empty(dtype: torch.dtype, count: Any, most: int) -> Tensor:
    """A storage of `count` numbers.

    Raises:
        ValueError: it takes more than `most` bytes.
    """
    if type(count) is not int or not 0 <= count * dtype.itemsize <= most:
        raise ValueError(f"a storage of {count!s:.40} numbers is larger than the file")
    return torch.empty(count, dtype=dtype)


def fill(storage: Tensor, file: IO[bytes]) -> None:
    """Reads a storage's bytes into it, part by part. Raises ValueError if there are fewer."""
    whole = storage.view(torch.uint8).numpy()
    for start in range(0, len(whole), PART):
        part = whole[start : start + PART]
        content = file.read(len(part))
        if len(content) != len(part):
            raise ValueError("it lacks the numbers of a tensor")
        part[:] = np.frombuffer(content, np.uint8)


def tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    """In place of torch's function, which enlarges a storage that is too small.

    Raises:
        ValueError, RuntimeError: the tensor is larger than its storage, or has many axes.
    """
    if not len(stride) == len(size) <= MOST_AXES:
        raise ValueError(f"a tensor has {len(size)} axes")
    if not all(type(n) is int for n in (offset, *size, *stride)) or math.prod(size) > len(storage):
        raise ValueError(f"a tensor of {tuple(size)} has {len(storage)} numbers")
    return storage.as_strided(size, stride, offset)
