"""Image files in a folder, a zip or a tar as a source.

Archives are read in place, nothing is unpacked. The images of folders and zips are in the order of
their names, those of a tar in the tar's own order: a compressed tar can only be read from its
beginning, so each process that reads the images decompresses it once.
"""

import lzma
import os
import posixpath
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from progan.data.decode import BadImage
from progan.data.formats import SUFFIXES
from progan.data.labels import Labels
from progan.data.sources.label_folders import common_folder, from_folders
from progan.data.sources.label_tables import TABLES, from_table
from progan.data.sources.names import LeftOut, is_image, is_kept, why_left_out
from progan.data.sources.readers import FolderReader, TarReader, ZipReader, open_tar
from progan.data.sources.source import Source, content_key, short_name
from progan.data.sources.tars import BadTar, Member, members
from progan.data.sources.thumbnails import thumbnails
from progan.data.sources.zip_names import entry_name, warn_of_guesses
from progan.runtime.errors import UserError
from progan.runtime.text import human_bytes, printable

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVES = (".zip", *TARS)
# What zipfile raises for one that is damaged.
UNREADABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)
UNPACKED_BYTES = 2**32  # of a file in a compressed tar, where it stands before all that follows

ClassesOf = Callable[[Path, list[str]], Labels]


@dataclass
class Files:
    """Images and tables of labels. Of `items`, `names` and `stamps` there is one for each file.

    Args:
        read: an item to the file's bytes.
        stamps: numbers that change when the file does.
        left_out: files that are not read.
    """

    names: list[str]
    items: np.ndarray
    read: FolderReader | ZipReader | TarReader
    stamps: np.ndarray
    left_out: LeftOut


def from_path(path: Path, labels: bool, classes: ClassesOf = from_folders) -> Source:
    """The images below a folder, or in a .zip or in a .tar, which may be compressed.

    Args:
        classes: from the path and the images' names to labels, if no table of labels lies next to
            the images or above them.
    """
    if path.is_dir():
        files = list_folder(path)
    else:
        files = list_tar(path) if path.name.lower().endswith(TARS) else list_zip(path)
    tables = {name: i for i, name in enumerate(files.names) if posixpath.basename(name) in TABLES}
    images = without_thumbnails(files, [i for i, n in enumerate(files.names) if n not in tables])
    around = common_folder([files.names[i] for i in images]) if images else ""
    above = {name: i for name, i in tables.items() if around.startswith(folder_of(name))}
    for name in tables.keys() - above.keys():
        files.left_out.add("as tables of labels that lie next to some images only", name)
    names = inner = [files.names[i] for i in images]
    left_out = str(files.left_out)
    also = f"; left out: {left_out}" if left_out else ""
    if not names:
        raise UserError(
            f"data.source: no images in {path}: files ending in {' '.join(SUFFIXES)} count, "
            f"except hidden ones{also}{suggest_shards(path)}"
        )
    if around and not path.is_dir():  # the folder that most archives have around everything
        inner = [name.removeprefix(around) for name in names]
    stamps = files.stamps[images].tobytes()
    key = content_key("\0".join(inner).encode(errors="surrogatepass"), stamps)
    found = None
    if labels:
        found = read_table(path, names, above, files) if above else classes(path, names)
        key = content_key(key, found.names, found.values.dtype, found.values.tobytes())
    items = files.items[images]
    return Source(short_name(path), key, items, files.read, inner.__getitem__, found, left_out)


def without_thumbnails(files: Files, images: list[int]) -> list[int]:
    """The images that are no thumbnails of others; these are counted."""
    names = [files.names[i] for i in images]
    dropped = {images[k] for k in thumbnails(names)}
    for i in dropped:
        files.left_out.add("thumbnails of others", files.names[i])
    return [i for i in images if i not in dropped]


def list_folder(path: Path) -> Files:
    left_out = LeftOut()
    found = sorted(walk(path, left_out))
    names = [name for name, _, _ in found]
    stamps = np.array([stamp for _, *stamp in found], np.int64).reshape(-1, 2)
    return Files(names, np.array(names, object), FolderReader(path), stamps, left_out)


def walk(path: Path, left_out: LeftOut) -> Iterator[tuple[str, int, int]]:
    """Every file of interest below a folder: its name, and two numbers that change when it does.

    The others are counted. Links are followed, but no folder is entered twice.
    """

    def fail(error: OSError) -> None:
        raise error

    entered = set()
    for here, folders, files in os.walk(path, followlinks=True, onerror=fail):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in entered:
            left_out.add(
                "as folders entered by another name", Path(here).relative_to(path).as_posix()
            )
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        inside = Path(here).relative_to(path).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        if prefix and is_run(files):
            for name in filter(is_image, all_files(here, prefix)):
                left_out.add("in folders of progan's own runs", name)
            folders.clear()
            continue
        kept = [folder for folder in folders if is_kept(folder)]
        for folder in kept:
            for name in all_files(f"{here}/{folder}", f"{prefix}{folder}/"):
                left_out.add_if_unread(name)
        folders[:] = sorted(set(folders) - set(kept))
        for name in [*files, *(folder for folder in folders if folder in TABLES)]:
            if left_out.add_if_unread(prefix + name):
                continue
            try:
                status = os.stat(f"{here}/{name}")
            except OSError as error:  # a dangling link, say: reading it will raise it again
                yield prefix + name, -1, error.errno or 0
                continue
            # A table of labels that is none is told where it is read.
            if stat.S_ISREG(status.st_mode) or name in TABLES:
                yield prefix + name, status.st_size, status.st_mtime_ns


def all_files(folder: str, prefix: str) -> Iterator[str]:
    """Names of all files in a folder that is not read, as far as they can be listed."""
    for inside, _, files in os.walk(folder):
        below = Path(inside).relative_to(folder).as_posix()
        yield from (
            f"{prefix}{name}" if below == "." else f"{prefix}{below}/{name}" for name in files
        )


def is_run(files: Collection[str]) -> bool:
    """Whether a folder is that of a run, which `train --data .` puts among the images.

    Other projects have a config.yaml and checkpoints, too, so progan's own records count.
    """
    return "config.yaml" in files and not {"starts.jsonl", "stats.jsonl"}.isdisjoint(files)


def list_zip(path: Path) -> Files:
    """Links and entries that lead out of the zip are left out."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (*UNREADABLE, ValueError) as error:
        raise unreadable(path, f"cannot be read as a zip: {error}") from error
    if any(info.flag_bits & 1 for info in infos):
        raise UserError(f"data.source: {path} is encrypted; unpack it and give the folder")
    entries = [entry_name(info) for info in infos]
    warn_of_guesses(path, [name for name, guessed in entries if guessed])
    left_out, files = LeftOut(), []
    for i, (name, _) in zip(infos, entries, strict=True):
        kind = stat.S_IFMT(i.external_attr >> 16)
        if kind in (0, stat.S_IFREG):
            place = i.header_offset, i.compress_size, i.file_size, i.CRC, i.compress_type
            files.append((name, place))
        elif kind == stat.S_IFLNK:
            left_out.add_link(name)
    places = select(files, left_out)
    names = sorted(places)
    table = np.array([places[name] for name in names], np.uint64).reshape(-1, 5)
    # Sizes and checksums, not places: a zip made again of the same files is the same.
    return Files(names, table, ZipReader(path), table[:, 2:4], left_out)


def list_tar(path: Path) -> Files:
    """Links and members that lead out of the tar are left out."""
    status = path.stat()
    stamp, left_out = (status.st_size, status.st_mtime_ns), LeftOut()
    try:
        file, compressed = open_tar(path)
        with file:
            found = members(file, 2**62 if compressed else status.st_size, left_out.add_link)
            if compressed:
                found = (not_huge(path, member) for member in found)
            places = select(((name, place) for name, *place in found), left_out)
    except BadTar as error:
        raise unreadable(path, str(error)) from error
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise unreadable(path, f"is cut off or damaged: {error}") from error
    warn_of_guesses(path, [name for name in places if re.search("[\udc80-\udcff]", name)])
    table = np.array(list(places.values()), np.int64).reshape(-1, 2)
    stamps = np.tile(stamp, (len(table), 1))
    return Files(list(places), table, TarReader(path, compressed, stamp), stamps, left_out)


def not_huge(path: Path, member: Member) -> Member:
    """A member of a compressed tar, which must be unpacked to come to the next one."""
    if member.size > UNPACKED_BYTES:
        raise UserError(
            f"data.source: {path} holds {printable(member.name)} of {human_bytes(member.size)}, "
            "which each process would have to unpack to come to what follows; unpack the tar and "
            "give the folder"
        )
    return member


def select(entries: Iterable[tuple[str, Any]], left_out: LeftOut) -> dict[str, Any]:
    """The places of the entries of an archive that are of interest, by their plain names.

    Of two with one name it is the later; the other is counted.

    Args:
        entries: (name, place) each.
        left_out: counts those that are not read, images that lead out of the archive among them.
    """
    places: dict[str, Any] = {}
    for entry, place in entries:
        name = re.sub(r"(?<![\udc80-\udcff])\\", "/", entry)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.endswith("/") or not parts:
            continue
        plain = "/".join(parts)
        if ".." in parts or re.match("/|[A-Za-z]:", name):
            if why_left_out(parts[-1]) is None:
                left_out.add("with an absolute path or '..'", entry)
        elif not left_out.add_if_unread(plain):
            if places.pop(plain, None) is not None:
                left_out.add("replaced by others of the same name", plain)
            places[plain] = place
    return places


def unreadable(path: Path, why: str) -> UserError:
    return UserError(
        f"data.source: {path} {why}; get or make it again, or unpack it and give the folder"
    )


def suggest_shards(path: Path) -> str:
    """What to give instead of a folder that has tars."""
    tars = path.is_dir() and any(path.glob("*.tar"))
    return f"; its .tar files may be shards: give '{path}/*.tar', in quotes" if tars else ""


def read_table(path: Path, names: list[str], tables: dict[str, int], files: Files) -> Labels:
    """Labels from the table in `files`, which must be the only one."""
    if len(tables) > 1:
        raise UserError(
            f"data.labels: {path} has several tables of labels, {' and '.join(sorted(tables))}; "
            "leave one"
        )
    ((name, i),) = tables.items()
    start = len(folder_of(name))
    chunks = partial(files.read.chunks, files.items[i])
    try:
        return from_table(str(path / name), chunks, [name[start:] for name in names])
    except (BadImage, *UNREADABLE) as error:
        raise UserError(f"data.labels: cannot read {path / name}: {error}") from error


def folder_of(name: str) -> str:
    """`a/b/` of `a/b/c`, nothing of `c`."""
    return name[: name.rfind("/") + 1]
