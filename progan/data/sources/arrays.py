"""Images in a NumPy file, or in memory, as a source. Nothing in such a file is ever unpickled."""

import functools
import math
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import psutil
from numpy.lib import format

from progan.data.labels import Labels
from progan.data.sources.label_tables import from_array
from progan.data.sources.source import Source, content_key, short_name
from progan.runtime.errors import LabelError, UserError
from progan.runtime.text import human_bytes

# Ours, and those of MedMNIST: the array of images, that of labels.
NAMES = {"images": "labels", "train_images": "train_labels"}
READ_HEADER = {(1, 0): format.read_array_header_1_0}
DAMAGE = (ValueError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError)


@dataclass
class MemoryImages:
    """Images by index of an array [N, H, W] or [N, H, W, C]."""

    images: np.ndarray

    def __call__(self, i: int) -> np.ndarray:
        return self.images[i]

    def pick(self, indices: list[int]) -> Self:
        return replace(self, images=self.images[indices])


@dataclass
class FileImages:
    """The same of an array in a .npy, or called `name` in a .npz; `stamp` changes with the file."""

    path: Path
    name: str | None
    channels_first: bool
    stamp: tuple[int, int]

    def __call__(self, i: int) -> np.ndarray:
        array = _open(self.path, self.name, self.stamp)
        if isinstance(array, str):
            raise UserError(
                f"data.source: {self.path} is damaged ({array}); get or make it anew, with "
                "numpy.save or numpy.savez"
            )
        image = np.array(array[i])
        image = image.astype(image.dtype.newbyteorder("="), copy=False)
        return image.transpose(1, 2, 0) if self.channels_first else image


@functools.lru_cache(1)
def _open(path: Path, name: str | None, stamp: tuple[int, int]) -> np.ndarray | str:
    """The array, once a process: mapped from a .npy, read from a .npz, which may be compressed.

    Or why it is damaged: that, too, may take long to find out.
    """
    try:
        if name is None:
            return format.open_memmap(path, mode="r")
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            return format.read_array(file, allow_pickle=False)
    except DAMAGE as error:
        return str(error)


def in_memory(name: str, images: np.ndarray) -> Source:
    """A source of uint8 [N, H, W] or [N, H, W, C], without labels."""
    key = content_key(name, images.shape, np.ascontiguousarray(images))
    names = [f"{name} image {i}" for i in range(len(images))]
    return Source(name, key, names, MemoryImages(images))


def from_array_file(path: Path, labels: bool) -> Source:
    """The images of a .npy, or of a .npz that has the arrays `images` and, if wanted, `labels`.

    uint8 or uint16, [N, H, W], [N, H, W, C] with C 1, 3 or 4, or [N, C, H, W] with C 1 or 3. Where
    both could be meant C is the second: the other reading has images of one or three rows.
    """
    status = path.stat()
    stamp = status.st_size, status.st_mtime_ns
    name, found = None, None
    try:
        if path.suffix.lower() == ".npz":
            name, shape, dtype, found = _look_into(path, labels)
        else:
            array = format.open_memmap(path, mode="r")
            shape, dtype = array.shape, array.dtype
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(
            f"data.source: {path} cannot be read ({error}); it must be written by numpy.save or "
            "numpy.savez, and hold no Python objects: to load such may run code"
        ) from error
    channels_first = _check(f"{path}, {name}" if name else str(path), shape, dtype)
    shown = _labels(path, found, shape[0]) if labels else None
    of_labels = (shown.names, shown.values.tobytes()) if shown else ((), b"")
    key = content_key(stamp, name, *of_labels)
    names = [f"image {i}" for i in range(shape[0])]
    content = FileImages(path, name, channels_first, stamp)
    return Source(short_name(path), key, names, content, shown)


def _look_into(
    path: Path, labels: bool
) -> tuple[str, tuple[int, ...], np.dtype, np.ndarray | None]:
    """Name, shape and type of the images in a .npz, which are not read yet, and the labels."""
    with zipfile.ZipFile(path) as archive:
        arrays = [entry.removesuffix(".npy") for entry in archive.namelist()]
        name = next((name for name in NAMES if name in arrays), None)
        if name is None:
            raise UserError(
                f"data.source: {path} has the arrays {', '.join(arrays) or '(none)'}; expected "
                f"{' or '.join(NAMES)}: write it with numpy.savez(file, images=…, labels=…)"
            )
        shape, dtype = _header(archive, name)
        size, there = math.prod(shape) * dtype.itemsize, psutil.virtual_memory().total
        if size > there:
            raise UserError(
                f"data.source: {path} would take {human_bytes(size)} of memory in each process, "
                f"and there are {human_bytes(there)}; write {name} with numpy.save to a .npy, "
                "which is not read whole"
            )
        if not labels or NAMES[name] not in arrays:
            return name, shape, dtype, None
        _header(archive, NAMES[name])
        with archive.open(f"{NAMES[name]}.npy") as file:
            return name, shape, dtype, format.read_array(file, allow_pickle=False)


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array in a .npz. ValueError if it claims more than there is."""
    with archive.open(f"{name}.npy") as file:
        read = READ_HEADER.get(format.read_magic(file), format.read_array_header_2_0)
        shape, _, dtype = read(file)
        size = archive.getinfo(f"{name}.npy").file_size - file.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects")
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{name} is {dtype} {list(shape)}, and has {size} bytes")
    return shape, dtype


def _check(where: str, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether channels come first. UserError if these are no images."""
    if len(shape) in (3, 4) and shape[0] == 0:
        raise UserError(f"data.source: {where} holds no images: its shape is {list(shape)}")
    first = len(shape) == 4 and shape[1] in (1, 3)
    last = len(shape) == 4 and shape[3] in (1, 3, 4)
    if not (len(shape) == 3 or first or last) or min(shape) < 1:
        raise UserError(
            f"data.source: {where} has the shape {list(shape)}; it must be [N, H, W], [N, H, W, C] "
            "with C 1, 3 or 4, or [N, C, H, W] with C 1 or 3"
        )
    if dtype.kind != "u" or dtype.itemsize > 2:
        scaled = (
            "((x - x.min()) * (65535 / (x.max() - x.min()))).round().astype('uint16'), with x as "
            "float64"
        )
        remedies = {"b": "x.astype('uint8') * 255", "c": "its absolute values, scaled"}
        raise UserError(
            f"data.source: {where} is of type {dtype}; it must be uint8 or uint16: save "
            f"{remedies.get(dtype.kind, scaled)}"
        )
    return first


def _labels(path: Path, found: np.ndarray | None, count: int) -> Labels:
    if found is None:
        raise LabelError(
            f"data.labels: {path} has no labels: numpy.savez(file, images=…, labels=…) writes "
            "both; or set data.labels=false"
        )
    if found.ndim == 0 or len(found) != count:
        shape = list(found.shape)
        raise UserError(f"data.labels: {path} has {count} images, and labels of the shape {shape}")
    return from_array(found, str(path))
