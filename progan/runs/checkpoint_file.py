"""Reads files that `torch.save` wrote, and builds nothing but what a checkpoint of progan holds.

`torch.load(weights_only=True)` runs no code, but a file of 400 bytes may have it take any amount of
memory: by `bytearray(3 << 30)`, or a tensor that is larger than its storage.
"""

import math
import os
import pickletools
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from progan.runtime.disk import open_plain

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
ORDERED = "collections OrderedDict"
TENSOR = "torch._utils _rebuild_tensor_v2"
EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
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
        state = Parts(archive, pickled.removesuffix("data.pkl")).build(archive.read(pickled))
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


class Named(str):
    """A name in a pickle, which stands for a class or a function."""


class Parts:
    """Builds plain data from a pickle, and tensors from parts of the archive."""

    def __init__(self, archive: zipfile.ZipFile, folder: str):
        self.archive, self.folder = archive, folder
        self.storages: dict[str, Tensor] = {}
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def build(self, content: bytes) -> Any:
        """What a pickle holds. No operation takes more memory than it has bytes.

        Raises:
            Exception: of any type, if it holds something else than a checkpoint of progan does.
        """
        stack = self.stack
        for operation, argument, _ in pickletools.genops(content):
            match operation.name:
                case "STOP":
                    return stack[-1]
                case "MARK":
                    self.marks.append(len(stack))
                case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                    stack.append(argument)
                case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                    stack.append(EMPTY[operation.name]())
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    stack.append(tuple(self.take(len(stack) - int(operation.name[-1]))))
                case "TUPLE":
                    stack.append(tuple(self.take(self.marks.pop())))
                case "APPEND" | "APPENDS" | "SETITEM" | "SETITEMS":
                    self.fill(operation.name)
                case "BINPUT" | "LONG_BINPUT":
                    self.memo[int(argument or 0)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(shareable(self.memo[int(argument or 0)]))
                case "GLOBAL":
                    stack.append(Named(argument))
                case "BINPERSID":
                    stack.append(self.storage(stack.pop()))
                case "REDUCE":
                    stack.append(self.call(*self.take(len(stack) - 2)))
                case "BUILD":  # a module's versions, which torch keeps with its state
                    state = stack.pop()
                    if type(stack[-1]) is not OrderedDict or state.keys() != {"_metadata"}:
                        raise ValueError("it sets attributes")
                    vars(stack[-1]).update(state)
                case "PROTO":
                    pass
                case other:
                    raise ValueError(f"it holds {other}, which no checkpoint of progan does")

    def take(self, start: int) -> list[Any]:
        """What is on the stack from `start`, which leaves it."""
        if start < 0:
            raise ValueError("it takes more than it has")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def fill(self, operation: str) -> None:
        """Adds items to the list or dictionary below them."""
        one = {"APPEND": 1, "SETITEM": 2}.get(operation)
        items = self.take(len(self.stack) - one if one else self.marks.pop())
        target = self.stack[-1]
        if operation.startswith("APPEND") and type(target) is list:
            target += items
        elif operation.startswith("SETITEM") and isinstance(target, dict):
            target.update(zip(map(shareable, items[::2]), items[1::2], strict=True))
        else:
            raise ValueError(f"it adds to a {type(target).__name__}")

    def call(self, function: Any, arguments: Any) -> Any:
        """An empty dictionary or a tensor; nothing else is called."""
        if type(function) is Named and type(arguments) is tuple:
            if function == ORDERED and not arguments:
                return OrderedDict()
            if function == TENSOR:
                return tensor(*arguments)
        raise ValueError(f"it calls {function!s:.100}, which no checkpoint of progan does")

    def storage(self, pid: Any) -> Tensor:
        """The storage that torch names so, as a flat tensor."""
        _, named, key, _, count = pid
        if key not in self.storages:
            dtype = STORAGES[named]
            part = self.archive.getinfo(f"{self.folder}data/{key}")
            if type(count) is not int or count * dtype.itemsize != part.file_size:
                raise ValueError(f"{part.filename} has {part.file_size} bytes, not {count} numbers")
            storage = torch.empty(count, dtype=dtype)
            content = np.frombuffer(self.archive.read(part), np.uint8)
            storage.view(torch.uint8).numpy()[:] = content
            self.storages[key] = storage
        return self.storages[key]


def shareable(value: Any) -> Any:
    """`value`, if it may stand in several places, or be a key: a name, a number, a tensor, or a
    tuple of those. Lists within lists, each twice, would unfold to any size."""
    inner = value if type(value) is tuple else [value]
    if any(isinstance(each, list | dict | tuple) for each in inner):
        raise ValueError("it holds the same list in two places")
    return value


def tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    """In place of torch's function, which enlarges a storage that is too small.

    Raises:
        ValueError, RuntimeError: the tensor is larger than its storage.
    """
    if not all(type(n) is int for n in (offset, *size, *stride)) or math.prod(size) > len(storage):
        raise ValueError(f"a tensor of {tuple(size)} has {len(storage)} numbers")
    return storage.as_strided(size, stride, offset)
