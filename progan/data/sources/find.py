"""From what a user gives, the name of a known data set or a path, to a source."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from progan.data.sources import named
from progan.data.sources.arrays import from_array_file
from progan.data.sources.bit_depth import with_values
from progan.data.sources.files import ARCHIVES, from_path
from progan.data.sources.label_folders import from_folders
from progan.data.sources.lsun import FILE, from_lmdb, is_lmdb
from progan.data.sources.names import is_image
from progan.data.sources.readers import open_stream
from progan.data.sources.shards import is_shards
from progan.data.sources.source import Source, content_key
from progan.runtime.errors import LabelError, UserError, nearest
from progan.runtime.paths import names_beside, to_path


@dataclass(frozen=True)
class Known:
    """A data set that has a name.

    Args:
        what: is in it.
        needs: which files it needs.
        places: where they may lie, from the folder of data sets.
        preset: the config it takes.
        labels: what it is labelled with.
        downloads: whether torchvision can fetch it.
    """

    find: named.Find
    what: str
    needs: str
    places: Callable[[Path], list[Path]]
    preset: str
    labels: str
    downloads: bool = False


def below(*names: str) -> Callable[[Path], list[Path]]:
    return lambda root: [root / name for name in names]


def lsun_places(root: Path) -> list[Path]:
    found = sorted(filter(is_lmdb, (root / "lsun").glob("*_lmdb")))
    train = [path for path in found if path.name.endswith("_train_lmdb")]
    return train or found or [root / "lsun" / "CATEGORY_train_lmdb"]


NAMED = {
    "demo": Known(
        named.demo_set,
        "cartoon faces, drawn here",
        "nothing: it is drawn",
        below(),
        "demo",
        "6 classes: the hair's style",
    ),
    "celeba": Known(
        named.celeba,
        "202,599 faces, 178x218, cropped to 128x128",
        "img_align_celeba.zip or its folder; for labels list_attr_celeba.txt",
        # The zip comes first: the folder next to it may be unpacked only in part.
        below("celeba/img_align_celeba.zip", "celeba/img_align_celeba"),
        "celeba",
        "40 attributes",
        downloads=True,
    ),
    "celeba-hq": Known(
        named.celeba_hq,
        "30,000 faces, 1024x1024",
        "a folder or zip of the 30,000 images",
        below("celeba-hq", "celeba_hq", "celeba-hq.zip", "CelebAMask-HQ/CelebA-HQ-img"),
        "celeba-hq",
        "40 attributes, from CelebAMask-HQ, or a labels.csv or dataset.json among the images",
    ),
    "ffhq": Known(
        named.ffhq,
        "70,000 faces, 1024x1024",
        "a folder or zip of the 70,000 images",
        below("ffhq/images1024x1024", "ffhq-dataset/images1024x1024", "ffhq", "ffhq.zip"),
        "celeba-hq",
        "from a labels.csv or dataset.json among the images",
    ),
    "lsun": Known(
        named.lsun,
        "photographs by scene, millions in a category",
        "a folder with data.mdb for each category",
        lsun_places,
        "lsun",
        "the categories, if two or more are there",
    ),
    "cifar10": Known(
        partial(named.cifar, "cifar10"),
        "50,000 small photographs, 32x32",
        "cifar-10-python.tar.gz, unpacked",
        below("cifar-10-batches-py"),
        "cifar10",
        "10 classes",
        downloads=True,
    ),
    "cifar100": Known(
        partial(named.cifar, "cifar100"),
        "50,000 small photographs, 32x32",
        "cifar-100-python.tar.gz, unpacked",
        below("cifar-100-python"),
        "cifar10",
        "100 classes",
        downloads=True,
    ),
    "mnist": Known(
        partial(named.mnist, "mnist", "MNIST"),
        "60,000 handwritten digits, 28x28, with a border 32x32",
        "the four idx files, unpacked",
        below("MNIST/raw"),
        "mnist",
        "10 classes: the digits",
        downloads=True,
    ),
    "fashion-mnist": Known(
        partial(named.mnist, "fashion-mnist", "FashionMNIST"),
        "60,000 pieces of clothing, 28x28, with a border 32x32",
        "the four idx files, unpacked",
        below("FashionMNIST/raw"),
        "mnist",
        "10 classes: pieces of clothing",
        downloads=True,
    ),
    "svhn": Known(
        named.svhn,
        "73,257 house numbers, 32x32",
        "train_32x32.mat, and the package scipy",
        below("svhn/train_32x32.mat", "train_32x32.mat"),
        "cifar10",
        "10 classes: the digits",
        downloads=True,
    ),
}

S = TypeVar("S", bound=Source)
ARRAYS = (".npy", ".npz")
KINDS = (
    f"a folder of images, of {', '.join(ARCHIVES + ARRAYS)}, of an LMDB, or of shards "
    "('shards/*.tar', s3://bucket/*.tar)"
)


def find(
    data: str,
    *,
    root: Path | None = None,
    labels: bool = False,
    label_level: int | None = None,
    download: bool = False,
    limit: int | None = None,
) -> Source:
    """The source that `data` names: a known data set (NAMED), or a path.

    A path is that of a folder of images (or of an LMDB's data.mdb), a zip, a tar, a .npy or .npz.

    Args:
        root: where known data sets are kept; None: $PROGAN_DATA, else ./data.
        labels: with classes or attributes: from a table next to the images, labels.csv or
            dataset.json, else from a level of folders.
        label_level: which level, from 1; None: the first whose folders may be classes.
        download: fetch a known data set that is absent.
        limit: only the first images.
    """
    root = data_folder(root)
    try:
        if data in NAMED:
            known = NAMED[data]
            source = known.find(root, known.places(root), labels, download)
        else:
            source = find_path(data, labels, label_level)
    except OSError as error:
        raise UserError(f"data.source: cannot read {data} ({error})") from error
    source = source if limit is None else first(source, limit)
    source = with_values(source)
    open_stream.cache_clear()  # of a compressed tar: others will read it, from its beginning
    return source


def data_folder(root: str | Path | None) -> Path:
    """Where known data sets are kept: `root`, else $PROGAN_DATA, else ./data."""
    if root is not None:
        return to_path(root, "data.root")
    return to_path(os.environ.get("PROGAN_DATA") or "data", "$PROGAN_DATA")


def is_local(data: str) -> bool:
    """Whether `data` is a path, or a pattern of paths, on this machine."""
    return data not in NAMED and "://" not in data


def is_missing(data: str) -> bool:
    """Whether `data` is a path on this machine at which nothing lies."""
    here = is_local(data) and not is_shards(data)
    return here and not to_path(data, "data.source").exists()


def find_path(data: str, labels: bool, label_level: int | None = None) -> Source:
    path = to_path(data, "data.source")
    if not path.exists():
        if "/" in data or "." in data or os.sep in data:
            near = nearest(path.name, names_beside(path), cutoff=0.7)
            raise UserError(f"data.source: no such path: '{data}'{near}; give the path of {KINDS}")
        near = nearest(data, [*NAMED, *names_beside(path)], cutoff=0.6)
        raise UserError(
            f"data.source: '{data}' is no known data set, and no such path exists{near}; give one "
            f"of {', '.join(NAMED)}, or the path of {KINDS}"
        )
    if not (path.is_file() or path.is_dir()):  # it would be waited for, or read without end
        raise UserError(
            f"data.source: {path} is a pipe or a device; give the path of {KINDS}, which can be "
            "read more than once"
        )
    if is_lmdb(path):
        return from_lmdb([path], labels)
    name = path.name.lower()
    if path.is_dir() or name.endswith(ARCHIVES):
        return from_path(path, labels, partial(from_folders, level=label_level))
    if name.endswith(ARRAYS):
        return from_array_file(path, labels)
    if name == FILE:
        raise UserError(f"data.source: {path} is part of an LMDB: give the folder, {path.parent}")
    what = "is one image" if is_image(name) else "is of no kind that can be read"
    raise UserError(f"data.source: {path} {what}; give the path of {KINDS}")


def first(source: S, limit: int) -> S:
    """The first `limit` images. Raises LabelError if a class has none of them."""
    if limit >= len(source):
        return source
    labels = source.labels and source.labels.take(slice(limit))
    if labels and (lost := labels.empty_classes):
        raise LabelError(
            f"data.max_images: the first {limit} images of {source.name} have none of class "
            f"{', '.join(lost[:10])}; raise it, or set data.labels=false"
        )
    key = content_key(source.key, limit)
    return replace(source, key=key, items=source.items[:limit], labels=labels)
