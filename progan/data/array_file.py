"""An array in a .npy file, read piece by piece.

It is not mapped into memory: where a mapped file loses its end, the process is killed (SIGBUS).
"""

import math
import os
import threading
import weakref
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from progan.runtime.disk import write_atomically

# What NumPy raises for a damaged header: the last two if it is no Python, or has vast sizes.
NO_ARRAY = (ValueError, EOFError, TokenError, OverflowError)
PAGE_BYTES = 4096  # smaller items come with others; nothing is gained by asking for them early


class Damaged(ValueError):
    """A file does not hold what it should."""


class ArrayFile:
    """The array in `path`. Indexing reads: `level[3:7]`, `level[indices]`, `level[:, 0]`.

    Args:
        shape: of the array; its first dimension is that of the items.
        exact: nothing may follow in the file.

    Raises:
        Damaged, OSError: the file is not there, or holds something else.
    """

    def __init__(
        self, path: Path, dtype: np.dtype | type, shape: tuple[int, ...], exact: bool = True
    ):
        self.path, self.dtype, self.shape = path, np.dtype(dtype), shape
        self._offset = check_array(path, self.dtype, shape, exact)
        self._item = math.prod(shape[1:]) * self.dtype.itemsize
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115, as it stays open
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return len(self) * self._item

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Copies of some items. Several threads may call it. Raises Damaged, OSError."""
        items = np.empty((len(indices), *self.shape[1:]), self.dtype)
        view = items.reshape(-1).view(np.uint8).data
        runs = np.split(indices, np.flatnonzero(np.diff(indices) != 1) + 1)  # of neighbours
        places = [(self._offset + int(run[0]) * self._item, len(run)) for run in runs if len(run)]
        if self._item >= PAGE_BYTES and hasattr(os, "posix_fadvise"):
            for start, count in places:  # or each would wait for the one before
                size = count * self._item
                os.posix_fadvise(self._file.fileno(), start, size, os.POSIX_FADV_WILLNEED)
        filled = 0
        for start, count in places:
            self._read_into(view[filled : filled + count * self._item], start)
            filled += count * self._item
        return items

    def _read_into(self, view: memoryview, start: int) -> None:
        while len(view):
            if hasattr(os, "preadv"):
                count = os.preadv(self._file.fileno(), [view], start)
            else:
                with self._lock:
                    self._file.seek(start)
                    count = self._file.readinto(view)
            if not count:
                raise Damaged(f"{self.path.name} has become shorter")
            view, start = view[count:], start + count

    def __getitem__(self, key: Any) -> np.ndarray:
        first, *rest = key if isinstance(key, tuple) else (key,)
        indices = np.arange(len(self))[first]
        items = self.read(indices.reshape(-1)).reshape(*indices.shape, *self.shape[1:])
        return items[(*[slice(None)] * indices.ndim, *rest)]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)


def check_array(path: Path, dtype: np.dtype, shape: tuple[int, ...], exact: bool) -> int:
    """The offset of the data in a .npy file. Raises Damaged if it is not what it should be."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except NO_ARRAY as error:
        why = f"is no array: {error}"
        if "mmap length" in str(error):
            why = "is shorter than it says"
        elif "pickle" in str(error):  # numpy takes all that it does not know for that
            why = "is no array"
        raise Damaged(f"{path.name} {why}") from error
    if not isinstance(array, np.memmap) or array.dtype != dtype or array.shape != shape:
        what = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else "archives"
        raise Damaged(f"{path.name} holds {what} where meta.json says {dtype} {list(shape)}")
    longer = path.stat().st_size - array.offset - array.nbytes
    if not array.flags.c_contiguous or longer < 0 or (exact and longer):
        raise Damaged(f"{path.name} has the wrong length")
    return array.offset


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes a .npy file, whole or not at all."""

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # given a name, NumPy would add a suffix
            np.save(file, array, allow_pickle=False)

    write_atomically(path, write)
