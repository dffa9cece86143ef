"""Images in a NumPy file, or in memory, as a source. Nothing in a file is ever unpickled."""

import functools
import math
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
from numpy.lib import format

from progan.data.array_file import NO_ARRAY, ArrayFile, Damaged
from progan.data.depth import Values
from progan.data.labels import Labels
from progan.data.sources.label_values import from_array
from progan.data.sources.source import Source, content_key, short_name
from progan.runtime.errors import LabelError, UserError
from progan.runtime.text import human_bytes

LABEL_BYTES = 2**16  # of an image: one of thousands of classes, one-hot in float64
# Arrays of images and of labels, by our names and by those of MedMNIST.
NAMES = {"images": "labels", "train_images": "train_labels"}
READ_HEADER = {(1, 0): format.read_array_header_1_0}
DAMAGE = (*NO_ARRAY, zlib.error, zipfile.BadZipFile, NotImplementedError)


@dataclass
class FileImages:
    """Images by index of the array in a .npy, or of the one called `name` in a .npz.

    stamp: changes with the file.
    """

    path: Path
    name: str | None
    channels_first: bool
    stamp: tuple[int, int]

    def __call__(self, i: int) -> np.ndarray:
        array = open_array(self.path, self.name, self.stamp)
        if isinstance(array, str):
            raise UserError(
                f"data.source: {self.path} is damaged ({array}); get it again, or make it again "
                "with numpy.save or numpy.savez"
            )
        try:
            image = np.array(array[i])
        except Damaged as error:
            raise UserError(
                f"data.source: {self.path} was changed while it was read ({error}); get it again"
            ) from error
        image = image.astype(image.dtype.newbyteorder("="), copy=False)
        return image.transpose(1, 2, 0) if self.channels_first else image


@functools.lru_cache(1)
def open_array(
    path: Path, name: str | None, stamp: tuple[int, int]
) -> np.ndarray | ArrayFile | str:
    """The array, once a process: to be read piece by piece from a .npy in C's order, else whole.

    Or why it is damaged: that may take as long to find out, so it is kept, too.
    """
    try:
        if name is None:
            array = format.open_memmap(path, mode="r")
            if not array.flags.c_contiguous:  # in Fortran's order an image is no piece of the file
                return np.load(path, allow_pickle=False)
            return ArrayFile(path, array.dtype, array.shape, exact=False)
        return read_member(path, name)
    except DAMAGE as error:
        return str(error)


def read_member(path: Path, name: str) -> np.ndarray:
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        return format.read_array(file, allow_pickle=False)


def in_memory(name: str, images: np.ndarray) -> Source:
    """A source of uint8 [N, H, W] or [N, H, W, C], without labels."""
    key = content_key(name, images.shape, np.ascontiguousarray(images))
    return Source(name, key, images, np.asarray, f"{name} image {{}}".format, values=Values())


def from_array_file(path: Path, labels: bool) -> Source:
    """The images of a .npy, or of a .npz that has the arrays `images` and, if wanted, `labels`.

    uint8 or uint16, [N, H, W], [N, H, W, C] with C 1, 3 or 4, or [N, C, H, W] with C 1 or 3. If
    both are possible, C comes second: read the other way, images would have one or three rows.
    """
    status = path.stat()
    stamp = status.st_size, status.st_mtime_ns
    name, found = None, None
    try:
        if path.suffix.lower() == ".npz":
            name, shape, dtype, found = read_header(path, labels)
        else:
            array = format.open_memmap(path, mode="r")
            shape, dtype = array.shape, array.dtype
            if not array.flags.c_contiguous:
                check_memory(path, array.nbytes, "it again, with numpy.ascontiguousarray,")
    except UserError:
        raise
    except DAMAGE as error:
        raise UserError(
            f"data.source: {path} cannot be read ({error}); it must be written by numpy.save or "
            "numpy.savez, and hold no Python objects: to load those may run code"
        ) from error
    channels_first = check_images(f"{path}, {name}" if name else str(path), shape, dtype)
    shown = labels_in(path, found) if labels else None
    of_labels = (shown.names, shown.values.tobytes()) if shown else ((), b"")
    key = content_key(stamp, name, *of_labels)
    content = FileImages(path, name, channels_first, stamp)
    values = Values() if dtype.itemsize == 1 else None
    items, name_of = range(shape[0]), "image {}".format
    return Source(short_name(path), key, items, content, name_of, shown, values=values)


def read_header(
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
        shape, dtype = read_member_header(archive, name)
        check_memory(path, math.prod(shape) * dtype.itemsize, name)
        if not labels or NAMES[name] not in arrays:
            return name, shape, dtype, None
        of_labels, kind = read_member_header(archive, NAMES[name])
        check_labels(path, of_labels, kind.itemsize, shape[:1])
    return name, shape, dtype, read_member(path, NAMES[name])


def check_memory(path: Path, size: int, what: str) -> None:
    """Raises UserError if images that are read whole do not fit into memory."""
    there = psutil.virtual_memory().total
    if size > there:
        raise UserError(
            f"data.source: {path} would take {human_bytes(size)} of memory in each process, and "
            f"there are {human_bytes(there)}; write {what} with numpy.save to a .npy, which is not "
            "read whole"
        )


def read_member_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array in a .npz. Raises ValueError if it claims more than there is."""
    with archive.open(f"{name}.npy") as file:
        read = READ_HEADER.get(format.read_magic(file), format.read_array_header_2_0)
        shape, _, dtype = read(file)
        size = archive.getinfo(f"{name}.npy").file_size - file.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects")
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{name} is {dtype} {list(shape)}, and has {size} bytes")
    return shape, dtype


def check_images(where: str, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Whether channels come first. Raises UserError if these are no images."""
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


def check_labels(
    path: Path, shape: tuple[int, ...], itemsize: int, images: tuple[int, ...]
) -> None:
    """Raises UserError for labels that cannot be those of the images, before they are read."""
    if shape[:1] != images or math.prod(shape[1:]) * itemsize > LABEL_BYTES:
        raise UserError(
            f"data.labels: {path} has {sum(images)} images, and labels of the shape {list(shape)}"
        )


def labels_in(path: Path, found: np.ndarray | None) -> Labels:
    if found is None:
        raise LabelError(
            f"data.labels: {path} has no labels: numpy.savez(file, images=…, labels=…) writes "
            "both; or set data.labels=false"
        )
    return replace(from_array(found, str(path)), origin=str(path))
