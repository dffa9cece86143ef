"""Image files in a folder or a zip as a source: images by index, read as squares."""

import hashlib
import io
import math
import os
import re
import stat
import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from progan.data.images import FORMATS, BadImage, to_square
from progan.errors import UserError

SUFFIXES = [".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"]


@dataclass
class Source:
    """Images by index. Reading is safe from many threads.

    name: short, fit for a file name. key: hex, changes with the content. names: one an image.
    load: index to PIL image; None if a subclass draws. classes: names, () if unlabelled.
    labels: int64 [N], or None.
    """

    name: str
    key: str
    names: Sequence[str]
    load: Callable[[int], Image.Image] | None
    classes: tuple[str, ...] = ()
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    def item_name(self, i: int) -> str:
        """The name of image `i`, printable whatever bytes it has on disk."""
        return self.names[i].encode(errors="backslashreplace").decode()

    def read(self, i: int, resolution: int, channels: int) -> np.ndarray:
        """Image `i` as uint8 [channels, resolution, resolution]. Raises BadImage or TooSmall.

        See `to_square`. PIL's warnings pass; `prepare` silences them for all threads at once.
        """
        try:
            image = self.load(i)
            ImageOps.exif_transpose(image, in_place=True)
            return to_square(image, resolution, channels)
        except BadImage:
            raise
        except UnidentifiedImageError:
            raise BadImage("not an image, or of a kind that is not supported") from None
        except OSError as error:
            raise BadImage(error.strerror or str(error)) from error
        except Exception as error:  # PIL's decoders meet broken files with errors of any type
            raise BadImage(f"{type(error).__name__}: {error}") from error

    def read_batch(
        self, indices: Sequence[int], resolution: int, channels: int
    ) -> list[np.ndarray | BadImage]:
        """For each index the image as from `read`, or the error that `read` raises."""
        found: list[np.ndarray | BadImage] = []
        for i in indices:
            try:
                found.append(self.read(i, resolution, channels))
            except BadImage as error:
                found.append(error)
        return found


def from_folder(path: Path, labels: bool) -> Source:
    """All images below a folder. Links are followed, but no folder is entered twice."""

    def fail(error: OSError) -> None:
        raise error

    found, entered = [], set()
    for here, folders, files in os.walk(path, followlinks=True, onerror=fail):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(filter(_shown, folders))
        inside = Path(here).relative_to(path).as_posix()
        for name in filter(_is_image, files):
            stamp = _stamp(os.path.join(here, name))
            if stamp:
                found.append((name if inside == "." else f"{inside}/{name}", stamp))
    found.sort()
    names = [name for name, _ in found]
    return _files(path, names, found, lambda i: (path / names[i]).read_bytes(), labels)


def from_zip(path: Path, labels: bool) -> Source:
    """The images of a zip, read in place. Entries that point outside of it are ignored."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError) as error:
        raise UserError(
            f"data.source: {path} is neither a folder nor a .zip that can be read ({error}); "
            "unpack it and give the folder, or give a .zip of images"
        ) from error
    if any(info.flag_bits & 1 for info in archive.infolist()):
        raise UserError(f"data.source: {path} is encrypted; unpack it and give the folder")
    entries = {}
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        outside = re.match("/|[A-Za-z]:", name)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        # A ".." counts as hidden, so no entry can name a place outside either.
        if not outside and parts and all(map(_shown, parts)) and _is_image(parts[-1]):
            entries["/".join(parts)] = info
    common = os.path.commonpath([os.path.dirname(name) for name in entries]) if entries else ""
    names = sorted(entries)
    lock = threading.Lock()

    def read_bytes(i: int) -> bytes:
        with lock:  # opening and closing change the archive's own state, reading does not
            file = archive.open(entries[names[i]])
        try:
            return file.read()
        finally:
            with lock:
                file.close()

    inner = [name[len(common) :].lstrip("/") for name in names]
    stamps = [(name, f"{entries[name].file_size} {entries[name].CRC}") for name in names]
    return _files(path, inner, stamps, read_bytes, labels)


def _stamp(path: str) -> str | None:
    """What changes when a file does; None for a pipe, a device or a folder."""
    try:
        status = os.stat(path)
    except OSError as error:  # a dangling link, say: reading it will tell
        return str(error.errno)
    regular = stat.S_ISREG(status.st_mode)
    return f"{status.st_size} {status.st_mtime_ns}" if regular else None


def _shown(name: str) -> bool:
    """False for hidden files and folders and for macOS's bookkeeping in zips."""
    return not name.startswith(".") and name != "__MACOSX"


def _is_image(name: str) -> bool:
    return _shown(name) and os.path.splitext(name)[1].lower() in SUFFIXES


def _files(
    path: Path,
    names: list[str],
    stamps: list[tuple[str, str]],
    read_bytes: Callable[[int], bytes],
    labels: bool,
) -> Source:
    """A source of image files, their names relative to the folder or zip at `path`."""
    if not names:
        raise UserError(
            f"data.source: no images in {path}: files ending in {' '.join(SUFFIXES)} count, "
            "except hidden ones"
        )

    def load(i: int) -> Image.Image:
        data = read_bytes(i)
        if not data:
            raise BadImage("empty file")
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
            raise BadImage(f"{image.width}x{image.height} pixels: taken for a decompression bomb")
        return image

    classes, numbers = _class_folders(path, names) if labels else ((), None)
    stem = os.path.basename(os.path.abspath(path)).removesuffix(".zip")
    name = re.sub(r"\W+", "-", stem).strip("-")[:40] or "images"
    return Source(name, content_key(labels, *stamps), names, load, classes, numbers)


def _class_folders(path: Path, names: list[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Class names and labels out of the first folder of every name."""
    common = os.path.commonpath([os.path.dirname(name) for name in names])  # a folder around all
    names = [name[len(common) :].lstrip("/") for name in names]
    loose = [name for name in names if "/" not in name]
    if loose:
        raise UserError(
            f"data.labels: {len(loose)} of {len(names)} images of {path} lie in no class folder "
            f"({loose[0]}); lay them out as <class>/<image>, two or more folders, or set "
            "data.labels=false"
        )
    folders = [name.split("/")[0] for name in names]
    classes = sorted(set(folders))
    number = {name: k for k, name in enumerate(classes)}
    return tuple(classes), np.array([number[folder] for folder in folders], np.int64)


def content_key(*parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
    return digest.hexdigest()
