"""Known data sets, in the files that their authors publish."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from progan.data.decode import BadImage, Content, Square, open_image, read_square
from progan.data.depth import Values
from progan.data.labels import Labels
from progan.data.sources import demo
from progan.data.sources.arrays import in_memory
from progan.data.sources.files import ClassesOf, from_path
from progan.data.sources.label_tables import from_attributes
from progan.data.sources.lsun import from_lmdb
from progan.data.sources.readers import FolderReader
from progan.data.sources.source import Source, content_key
from progan.runtime.errors import LabelError, UserError, brief
from progan.runtime.extras import how_to_install

# From the folder of data sets, places in it to look at, whether with labels, whether to download.
Find = Callable[[Path, list[Path], bool, bool], Source]


class DemoSource(Source):
    """The embedded data set, drawn at the wanted resolution, many images at a time."""

    def read(self, i: int, square: Square) -> np.ndarray:
        return self.read_batch([i], square)[0]

    def read_batch(self, indices: Sequence[int], square: Square) -> list[np.ndarray]:
        r = square.resolution
        drawn = demo.draw(0, [self.items[i] for i in indices], r).transpose(0, 2, 3, 1)
        return [read_square(image, Square(r, square.channels)) for image in drawn]


def draw_one(i: int) -> np.ndarray:
    return demo.draw(0, [i], 64)[0].transpose(1, 2, 0)


def demo_set(root: Path, places: list[Path], labels: bool, download: bool) -> Source:
    name_of = "demo image {}".format
    key = content_key(demo.SIZE, labels, demo.draw(0, range(16), 32).tobytes())
    hair = Labels(tuple(demo.CLASSES), demo.labels(0, range(demo.SIZE))) if labels else None
    return DemoSource("demo", key, range(demo.SIZE), draw_one, name_of, hair, values=Values())


# --- folders and zips ---


@dataclass
class CelebaCrop:
    """The 128x128 around (89, 121) of CelebA's aligned images, as the official code takes them."""

    read: Callable[[Any], Content]

    def __call__(self, item: Any) -> Image.Image:
        image = open_image(self.read(item))
        if image.size != (178, 218):
            raise BadImage(f"{image.width}x{image.height} is not CelebA's 178x218")
        return image.crop((89 - 64, 121 - 64, 89 + 64, 121 + 64))


def celeba(root: Path, places: list[Path], labels: bool, download: bool) -> Source:
    folder = root / "celeba"
    lists = [folder / "list_attr_celeba.txt", folder / "Anno" / "list_attr_celeba.txt"]
    page = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
    wanted = [places, lists] if labels and download else [places]
    if not all(any(path.exists() for path in paths) for paths in wanted):
        manual = f"get img_align_celeba.zip from {page} and put it, or its folder, into {folder}"
        ask_torchvision("celeba", "CelebA", root, manual, download)
    attributes = attributes_of(lists, f"get it from {page} into {folder}")
    files = from_path(first_place("celeba", places, ""), labels, attributes)
    key = content_key("celeba", files.key)
    return replace(files, name="celeba", key=key, content=CelebaCrop(files.content))


def attributes_of(lists: list[Path], remedy: str) -> ClassesOf:
    """Labels from the first of `lists` that exists: attributes, as CelebA's authors write them.

    The lists name images without their folders.
    """

    def classes(path: Path, names: list[str]) -> Labels:
        found = next(filter(Path.is_file, lists), None)
        if found is None:
            raise LabelError(
                f"data.labels: {lists[0]} is missing, which has the attributes: {remedy}, or set "
                "data.labels=false"
            )
        chunks = partial(FolderReader(found.parent).chunks, found.name)
        return from_attributes(str(found), chunks, [n.split("/")[-1] for n in names])

    return classes


def only_tables(path: Path, names: list[str]) -> Labels:
    raise LabelError(
        f"data.labels: {path} has no labels; put a labels.csv or a dataset.json into it, or set "
        "data.labels=false"
    )


def celeba_hq(root: Path, places: list[Path], labels: bool, download: bool) -> Source:
    path = first_place(
        "celeba-hq",
        places,
        "make it from CelebA with the official code of progressive growing, or get CelebAMask-HQ, "
        "which has the same images, from its authors' page",
    )
    lists = [path.parent / "CelebAMask-HQ-attribute-anno.txt"]
    attributes = attributes_of(lists, "it comes with CelebAMask-HQ; or use a labels.csv")
    return replace(from_path(path, labels, attributes), name="celeba-hq")


def ffhq(root: Path, places: list[Path], labels: bool, download: bool) -> Source:
    manual = "get images1024x1024 from the page of NVlabs' ffhq-dataset"
    return replace(from_path(first_place("ffhq", places, manual), labels, only_tables), name="ffhq")


def lsun(root: Path, places: list[Path], labels: bool, download: bool) -> Source:
    manual = "unpack a category's zip, such as bedroom_train_lmdb.zip, from LSUN's page there"
    first_place("lsun", places, manual)
    return from_lmdb(places, labels)


def first_place(name: str, places: list[Path], manual: str) -> Path:
    """The first of `places` that exists. Raises a UserError with the `manual` way if none does."""
    for path in places:
        if path.exists():
            return path
    raise UserError(
        f"{name}: not found; looked for {', '.join(map(str, places))}; {manual}, or set data.root "
        "or $PROGAN_DATA to where it lies"
    )


# --- read by torchvision ---


def ask_torchvision(
    name: str, kind: str, root: Path, manual: str, download: bool, **options: str
) -> Any:
    """Torchvision's data set of class `kind`. Raises a UserError with the `manual` way.

    CIFAR's files are pickles: torchvision opens them only if they have the published checksums.
    """
    try:
        from torchvision import datasets

        return getattr(datasets, kind)(str(root), download=download, **options)
    except Exception as error:  # of any type: no gdown, no network, a spent quota, half a file
        said = brief(error).removesuffix(" You can use download=True to download it")
        said = f"{type(error).__name__}: {said}"
    if download:
        raise UserError(f"{name}: the download failed ({said}); {manual}")
    raise UserError(
        f"{name}: not found in {root}, or damaged ({said}); {manual}, set data.root or "
        "$PROGAN_DATA to where it lies, or add --download to let torchvision try"
    )


def with_labels(source: Source, classes: list[str], numbers: Any) -> Source:
    numbers = np.asarray(numbers, np.int64)
    key = content_key(source.key, classes, numbers.tobytes())
    return replace(source, key=key, labels=Labels(tuple(classes), numbers))


def cifar(name: str, root: Path, places: list[Path], labels: bool, download: bool) -> Source:
    archive = name.replace("cifar", "cifar-") + "-python.tar.gz"
    manual = f"unpack {archive} from its authors' page, giving {places[0]}"
    data = ask_torchvision(name, name.upper(), root, manual, download)
    source = in_memory(name, data.data)
    return with_labels(source, data.classes, data.targets) if labels else source


def mnist(
    name: str, kind: str, root: Path, places: list[Path], labels: bool, download: bool
) -> Source:
    """Digits or clothes of 28x28, with a border of two black pixels: 32x32, a power of two."""
    manual = f"unpack its four idx files into {places[0]}"
    data = ask_torchvision(name, kind, root, manual, download)
    source = in_memory(name, np.pad(data.data.numpy(), ((0, 0), (2, 2), (2, 2))))
    return with_labels(source, data.classes, data.targets) if labels else source


def svhn(root: Path, places: list[Path], labels: bool, download: bool) -> Source:
    try:
        import scipy.io  # noqa: F401
    except ImportError:
        raise UserError(f"svhn: its files are read with scipy: {how_to_install('svhn')}") from None
    folder = next(filter(Path.exists, places), places[0]).parent
    manual = f"get train_32x32.mat from its authors' page into {places[0].parent}"
    data = ask_torchvision("svhn", "SVHN", folder, manual, download, split="train")
    source = in_memory("svhn", data.data.transpose(0, 2, 3, 1))
    return with_labels(source, list(map(str, range(10))), data.labels) if labels else source
