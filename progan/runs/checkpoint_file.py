"""Reads files that `torch.save` wrote, and builds nothing but what a checkpoint of progan holds.

`torch.load(weights_only=True)` runs no code, but a file of 400 bytes may have it take any amount of
memory: by `bytearray(3 << 30)`, or a tensor that is larger than its storage.
"""

import io
import math
import os
import pickle
import pickletools
import re
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from progan.runtime.disk import open_plain

MOST_PICKLE = (
    2**20
)  # bytes of names, shapes and numbers; those of the paper at 1024x1024 take 50,000
# What plain data in pickle's protocol 2 consists of. None of these takes more memory than it has
# bytes in the file; `check` looks at the places in the memo.
OPERATIONS = re.compile(
    "PROTO|STOP|MARK|GLOBAL|BINPERSID|REDUCE|BUILD|(LONG_)?BIN(PUT|GET)|NONE|NEW(TRUE|FALSE)|"
    "BININT[12]?|LONG1|BINFLOAT|BINUNICODE|EMPTY_TUPLE|TUPLE[123]?|EMPTY_LIST|APPENDS?|"
    "EMPTY_DICT|SETITEMS?"
)
STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def read_parts(path: Path) -> dict[str, Any]:
    """The dictionary in a checkpoint file, if the file is whole; its tensors are on the CPU.

    Raises:
        Exception: of any type, if the file is damaged, or is none of progan's.
    """
    with open(path, "rb", opener=open_plain) as file, zipfile.ZipFile(file) as archive:
        check_members(archive, os.fstat(file.fileno()).st_size)
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        if archive.getinfo(pickled).file_size > MOST_PICKLE:
            raise ValueError(f"{pickled} has more than {MOST_PICKLE:,} bytes")
        content = archive.read(pickled)
        check(content)
        state = Parts(content, archive, pickled.removesuffix("data.pkl")).load()
    if not isinstance(state, dict):
        raise ValueError("it holds no dictionary")
    return state


def check_members(archive: zipfile.ZipFile, size: int) -> None:
    """Raises ValueError if the archive's parts are damaged, or claim more than it has."""
    parts = archive.infolist()
    # Compressed parts could expand beyond memory; torch compresses nothing.
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError("it is compressed, so it was not written by progan")
    if sum(part.file_size for part in parts) > size:
        raise ValueError("its parts are larger than the file")
    if damaged := archive.testzip():
        raise ValueError(f"the checksum of {damaged} is wrong")
    for part in parts:
        if part.filename.endswith("/byteorder") and archive.read(part) != sys.byteorder.encode():
            raise ValueError("it was written on a machine with another order of bytes")


def check(content: bytes) -> None:
    """Raises ValueError for a pickle that holds something else than plain data."""
    for operation, argument, _ in pickletools.genops(content):
        if not OPERATIONS.fullmatch(operation.name):
            raise ValueError(f"it holds {operation.name}, which no checkpoint of progan does")
        if operation.name == "LONG_BINPUT" and int(argument or 0) > len(content):
            raise ValueError("its memo is larger than its content")


class Parts(pickle.Unpickler):
    """Builds plain data, and tensors from parts of the archive."""

    def __init__(self, content: bytes, archive: zipfile.ZipFile, folder: str):
        super().__init__(io.BytesIO(content))
        self.archive, self.folder = archive, folder
        self.storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return tensor
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise ValueError(f"it names {module}.{name}, which no checkpoint of progan does")

    def persistent_load(self, pid: Any) -> Tensor:
        """The storage that torch names so, as a flat tensor."""
        _, dtype, key, _, count = pid
        if key not in self.storages:
            part = self.archive.getinfo(f"{self.folder}data/{key}")
            if type(count) is not int or count * dtype.itemsize != part.file_size:
                raise ValueError(f"{part.filename} has {part.file_size} bytes, not {count} numbers")
            storage = torch.empty(count, dtype=dtype)
            content = np.frombuffer(self.archive.read(part), np.uint8)
            storage.view(torch.uint8).numpy()[:] = content
            self.storages[key] = storage
        return self.storages[key]


def tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    """In place of torch's function, which enlarges a storage that is too small.

    Raises:
        ValueError, RuntimeError: the tensor is larger than its storage.
    """
    if math.prod(size) > len(storage):
        raise ValueError(f"a tensor of {tuple(size)} has only {len(storage)} numbers")
    return storage.as_strided(size, stride, offset)
