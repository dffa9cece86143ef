"""Files that `torch.save` wrote, of any version since 0.2: zips, and the format before torch 1.6.

As `runs.checkpoint_file` reads checkpoints, with more names allowed: other projects keep optimizers
and a config beside their weights.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO

import torch
from torch import Tensor

from progan.interop.pickles import PickleReader
from progan.runs.checkpoint_file import STORAGES, Parts, empty, fill, tensor
from progan.runtime.zips import open_zip

MOST_PICKLE = 2**24  # bytes of names, shapes and settings; those of 1024x1024 with Adam: 300,000
MAGIC = 0x1950A86A20F9469CFC6C  # the first number in the format before torch 1.6
PROTOCOL = 1001  # and the second
ZIP = b"PK\x03\x04"
DTYPES = STORAGES | {"torch ShortStorage": torch.int16, "torch CharStorage": torch.int8}
# A tensor that was on a GPU is named by its storage there in the oldest files.
DTYPES |= {name.replace("torch ", "torch.cuda "): dtype for name, dtype in DTYPES.items()}
CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils _rebuild_tensor": tensor,
    "torch._utils _rebuild_tensor_v2": tensor,
    "torch._utils _rebuild_parameter": lambda data, *_: data,
    "torch Size": lambda shape: shape,
}


def is_torch(start: bytes) -> bool:
    """Whether a file that begins so was written by `torch.save`. start: 32 bytes or more."""
    return start.startswith(ZIP) or MAGIC.to_bytes(10, "little") in start


def read_torch(file: BinaryIO) -> Any:
    """What `torch.save` put into a file: plain data, and tensors on the CPU.

    No class of the file is imported and nothing of it is called; see `pickles`.

    Raises:
        UnknownNameError: it names a class or a function that no file of these projects needs.
        Exception: of any type, if the file is damaged.
    """
    size = os.fstat(file.fileno()).st_size
    start = file.read(len(ZIP))
    file.seek(0)
    if start == ZIP:
        with open_zip(file) as archive:
            parts = Parts(archive, size, DTYPES)
            return parts.read(partial(PickleReader, calls=CALLS, names=DTYPES), MOST_PICKLE)
    return Legacy(file, size).read()


class Legacy:
    """A file before torch 1.6: pickles one after another, then the storages' numbers."""

    def __init__(self, file: BinaryIO, size: int):
        self.file, self.size, self.left = file, size, size
        self.storages: dict[str, Tensor] = {}

    def read(self) -> Any:
        if [self.pickle(), self.pickle()] != [MAGIC, PROTOCOL]:
            raise ValueError("torch.save did not write it")
        system = self.pickle()
        if system.get("little_endian") is not (sys.byteorder == "little"):
            raise ValueError("it was written on a machine with another order of bytes")
        content = self.pickle()
        for key in self.pickle():
            storage = self.storages.pop(key)
            if int.from_bytes(self.file.read(8), "little") != len(storage):
                raise ValueError("a storage has another size than its tensors")
            fill(storage, self.file)
        if self.storages:
            raise ValueError("it lacks the numbers of a tensor")
        return content

    def pickle(self) -> Any:
        return PickleReader(self.file, self.size, CALLS, DTYPES, self.persistent).build()

    def persistent(self, pid: Any) -> Tensor:
        """The storage that torch names so, as a flat tensor; its numbers come later."""
        _, named, key, _, count, part = pid
        if part is not None:  # torch 0.3, if another process had the whole
            raise ValueError("it holds a part of a storage")
        if key not in self.storages:
            self.storages[key] = empty(DTYPES[named], count, self.left)
            self.left -= self.storages[key].nbytes
        return self.storages[key]
