"""Images of noise, and folders and archives of them, for tests."""

import io
import tarfile
import zipfile

import lmdb
import numpy as np
from PIL import Image

from progan.data.decode import Square
from progan.data.sources.find import find
from progan.runtime.pictures import NOTE


def noise(size, mode="RGB", seed=0):
    """A random PIL image; size is (width, height)."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], bands) if bands > 1 else (size[1], size[0])
    values = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return Image.frombytes(mode, size, values.tobytes())


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def content_of(image):
    """Bytes of a file that holds these bytes, this text or this PIL image."""
    if isinstance(image, str):
        return image.encode()
    return image if isinstance(image, bytes) else encoded(image)


def folder(path, files):
    """Write {relative name: PIL image, text or bytes} below `path`."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content_of(content))
    return path


def zipped(path, files, compression=zipfile.ZIP_STORED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in files.items():
            file.writestr(name, content_of(content))
    return path


def tarred(path, files, mode="w", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, **options) as file:
        for name, content in files.items():
            member, data = tarfile.TarInfo(name), content_of(content)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def database(path, images):
    """Write an LMDB like LSUN's: encoded images, in the order of their keys."""
    path.mkdir(parents=True)
    with lmdb.open(str(path), map_size=2**24) as made, made.begin(write=True) as transaction:
        for key, image in images.items():
            transaction.put(key.encode(), content_of(image))
    return path


def names(source):
    return [source.item_name(i) for i in range(len(source))]


def read_one(tmp_path, name, content, resolution, channels=3):
    source = find(str(folder(tmp_path / "one", {name: content})))
    return source.read(0, Square(resolution, channels))


def chw(image):
    x = np.asarray(image)
    return x[None] if x.ndim == 2 else x.transpose(2, 0, 1)


def box_average(x, resolution):
    """Reference: float64 mean over blocks of [..., H, W]."""
    k = x.shape[-1] // resolution
    return x.reshape(*x.shape[:-2], resolution, k, resolution, k).mean(axis=(-3, -1), dtype=float)


def without_notes(picture: np.ndarray, axis: int = 0) -> np.ndarray:
    """A grid with cells of 64 pixels as it is without the seeds below its images.

    axis: that of the height.
    """
    rows = np.arange(picture.shape[axis])
    below = (rows - 4) % (68 + NOTE)
    return picture.take(rows[(rows < 4) | (below < 64) | (below >= 64 + NOTE)], axis)
