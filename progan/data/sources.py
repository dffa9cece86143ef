"""Where images come from: what a user names, a known data set or a path, to a source."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from progan.data import demo
from progan.data.files import Source, content_key, from_folder, from_zip
from progan.data.images import BadImage, to_square
from progan.errors import UserError, nearest


def find(
    data: str, *, root: Path | None = None, labels: bool = False, download: bool = False
) -> Source:
    """The source that `data` names: demo, celeba, cifar10, mnist, or the path of a folder or zip.

    root: where named data sets are kept; None: $PROGAN_DATA, else ./data. labels: with classes
    (of a folder or zip: its first level of folders). download: fetch a named set that is absent.
    """
    root = Path(root or os.environ.get("PROGAN_DATA") or "data")
    path = Path(os.path.expanduser(data))  # leaves an unknown ~user as it is
    try:
        if data in NAMED:
            return NAMED[data](root, labels, download)
        if path.is_dir():
            return from_folder(path, labels)
        if path.exists():
            return from_zip(path, labels)
    except OSError as error:
        raise UserError(f"data.source: cannot read {data} ({error})") from error
    raise UserError(
        f"data.source: '{data}' is no known data set{nearest(data, NAMED)}, and no such path "
        f"exists; give one of {', '.join(NAMED)} or the path of a folder or a .zip of images"
    )


class _Demo(Source):
    """The embedded data set, drawn at the wanted resolution and many at a time."""

    def read(self, i: int, resolution: int, channels: int) -> np.ndarray:
        return self.read_batch([i], resolution, channels)[0]

    def read_batch(self, indices, resolution, channels):
        drawn = demo.draw(0, indices, resolution).transpose(0, 2, 3, 1)
        return [to_square(Image.fromarray(x), resolution, channels) for x in drawn]


def _demo(root: Path, labels: bool, download: bool) -> Source:
    names = [f"demo image {i}" for i in range(demo.SIZE)]
    key = content_key(demo.SIZE, labels, demo.draw(0, range(16), 32).tobytes())
    classes = tuple(demo.CLASSES) if labels else ()
    numbers = demo.labels(0, range(demo.SIZE)) if labels else None
    return _Demo("demo", key, names, None, classes, numbers)


def _celeba(root: Path, labels: bool, download: bool) -> Source:
    """CelebA as its authors ship it: aligned 178x218 images, cropped to 128x128 at (89, 121)."""
    if labels:
        raise UserError("data.labels: celeba has attributes, not classes; set data.labels=false")
    folder = root / "celeba"
    paths = [folder / "img_align_celeba.zip", folder / "img_align_celeba"]
    if not any(path.exists() for path in paths):
        page = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
        manual = f"get img_align_celeba.zip from {page} and put it, or its folder, into {folder}"
        _torchvision("CelebA", root, manual, download)
    # The zip goes first: the folder beside it may have been unpacked in part.
    path = next(filter(Path.exists, paths), folder)
    files = from_folder(path, False) if path.is_dir() else from_zip(path, False)

    def load(i: int) -> Image.Image:
        image = files.load(i)
        if image.size != (178, 218):
            raise BadImage(f"{image.width}x{image.height} is not CelebA's 178x218")
        return image.crop((89 - 64, 121 - 64, 89 + 64, 121 + 64))

    return Source("celeba", content_key("celeba", files.key), files.names, load)


def _cifar10(root: Path, labels: bool, download: bool) -> Source:
    manual = f"unpack cifar-10-python.tar.gz, giving {root / 'cifar-10-batches-py'}"
    data = _torchvision("CIFAR10", root, manual, download)
    return _arrays("cifar10", data.data, data, labels)


def _mnist(root: Path, labels: bool, download: bool) -> Source:
    """MNIST's digits of 28x28, with a border of two black pixels: 32x32, a power of two."""
    manual = f"unpack its four idx files into {root / 'MNIST' / 'raw'}"
    data = _torchvision("MNIST", root, manual, download)
    return _arrays("mnist", np.pad(data.data.numpy(), ((0, 0), (2, 2), (2, 2))), data, labels)


def _torchvision(name: str, root: Path, manual: str, download: bool):
    """Torchvision's data set `name`, training images; a UserError with the `manual` way if not."""
    try:
        from torchvision import datasets

        return getattr(datasets, name)(str(root), download=download)
    except Exception as error:  # no gdown, no network, a spent quota, a half file: any type
        said = str(error).removesuffix(" You can use download=True to download it")
        said = f"{type(error).__name__}: {said}"
    if download:
        raise UserError(f"{name.lower()}: the download failed ({said}); {manual}")
    raise UserError(
        f"{name.lower()}: not found in {root} ({said}); {manual}, set data.root or $PROGAN_DATA "
        "to where it lies, or add --download to let torchvision try"
    )


def _arrays(name: str, images: np.ndarray, data, labels: bool) -> Source:
    """A source of images in memory: uint8 [N, H, W] or [N, H, W, 3]."""
    return Source(
        name,
        content_key(name, labels, images.shape, images.tobytes()),
        [f"{name} image {i}" for i in range(len(images))],
        lambda i: Image.fromarray(images[i]),
        tuple(data.classes) if labels else (),
        np.asarray(data.targets, np.int64) if labels else None,
    )


NAMED = {"demo": _demo, "celeba": _celeba, "cifar10": _cifar10, "mnist": _mnist}
