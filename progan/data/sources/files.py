"""Image files in a folder, a zip or a tar as a source.

Archives are read in place, nothing is unpacked. The images of folders and zips are in the order of
their names, those of a tar in the order they have in it: a compressed tar can only be read from its
beginning, and so each process that reads the images decompresses it once.
"""

import logging
import lzma
import os
import posixpath
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from progan.data.decode import BadImage
from progan.data.labels import Labels
from progan.data.sources.label_tables import TABLES, common_folder, from_folders, from_table
from progan.data.sources.readers import FolderFiles, TarFiles, ZipFiles, open_tar
from progan.data.sources.source import Source, content_key, short_name
from progan.data.sources.tars import BadTar, members
from progan.runtime.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVES = (".zip", *TARS)
log = logging.getLogger("progan")

ABSOLUTE = "/|[A-Za-z]:"  # how a path begins that leads out of an archive
TABLE_BYTES = 2**28  # of labels: one of a million images with 40 attributes takes half of it

ClassesOf = Callable[[Path, list[str]], Labels]


def from_path(path: Path, labels: bool, classes: ClassesOf = from_folders) -> Source:
    """The images below a folder, or in a .zip or in a .tar, which may be compressed.

    classes: from the path and the images' names to labels, where no table of them is beside the
    images or above.
    """
    if path.is_dir():
        return _from_folder(path, labels, classes)
    if path.name.lower().endswith(TARS):
        return _from_tar(path, labels, classes)
    return _from_zip(path, labels, classes)


def _from_folder(path: Path, labels: bool, classes: ClassesOf) -> Source:
    found = sorted(_walk(path))
    names = [name for name, _, _ in found]
    stamps = np.array([stamp for _, *stamp in found], np.int64)
    return _source(path, names, FolderFiles(path, names), stamps, labels, classes)


def _walk(path: Path) -> Iterator[tuple[str, int, int]]:
    """Every file of interest below a folder: its name, and two numbers that change when it does.

    Links are followed, but no folder is entered twice.
    """

    def fail(error: OSError) -> None:
        raise error

    entered = set()
    for here, folders, files in os.walk(path, followlinks=True, onerror=fail):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(filter(_shown, folders))
        inside = Path(here).relative_to(path).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        for name in filter(_wanted, files):
            try:
                status = os.stat(f"{here}/{name}")
            except OSError as error:  # a dangling link, say: reading it will tell
                yield prefix + name, -1, error.errno or 0
                continue
            if stat.S_ISREG(status.st_mode):
                yield prefix + name, status.st_size, status.st_mtime_ns


def _from_zip(path: Path, labels: bool, classes: ClassesOf) -> Source:
    """Entries that point outside of the zip, and links, are ignored."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise _unreadable(path, f"cannot be read as a zip: {error}") from error
    if any(info.flag_bits & 1 for info in infos):
        raise UserError(f"data.source: {path} is encrypted; unpack it and give the folder")
    places = {}
    for info in infos:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind in (0, stat.S_IFREG) and (name := _inner(info.filename)):
            place = info.header_offset, info.compress_size, info.file_size
            places[name] = *place, info.CRC, info.compress_type
    names = sorted(places)
    table = np.array([places[name] for name in names], np.uint64).reshape(-1, 5)
    outside = [info.filename for info in infos if _outside(info.filename)]
    # Sizes and checksums, not places: a zip made anew of the same files is the same.
    return _source(path, names, ZipFiles(path, table), table[:, 2:4], labels, classes, outside)


def _from_tar(path: Path, labels: bool, classes: ClassesOf) -> Source:
    """Members that point outside of the tar, and links, are ignored."""
    places, outside = {}, []
    status = path.stat()
    try:
        file, compressed = open_tar(path)
        with file:
            for entry, *place in members(file, 2**62 if compressed else status.st_size):
                if name := _inner(entry):
                    places.pop(name, None)  # of two members of one name the later one counts
                    places[name] = place
                elif _outside(entry):
                    outside.append(entry)
    except BadTar as error:
        raise _unreadable(path, str(error)) from error
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise _unreadable(path, f"is cut off or damaged: {error}") from error
    stamp = status.st_size, status.st_mtime_ns
    table = np.array(list(places.values()), np.int64).reshape(-1, 2)
    files = TarFiles(path, compressed, table, stamp)
    return _source(
        path, list(places), files, np.tile(stamp, (len(table), 1)), labels, classes, outside
    )


def _unreadable(path: Path, why: str) -> UserError:
    return UserError(
        f"data.source: {path} {why}; get or make it anew, or unpack it and give the folder"
    )


def _inner(name: str) -> str | None:
    """The plain name of an archive's entry, if it is of interest and lies inside the archive."""
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if re.match(ABSOLUTE, name) or name.endswith("/"):
        return None
    # A ".." counts as hidden, so no entry can name a place outside.
    shown = parts and all(map(_shown, parts)) and _wanted(parts[-1])
    return "/".join(parts) if shown else None


def _outside(name: str) -> bool:
    """Whether an archive's entry is an image by its name, and lies outside of the archive."""
    name = name.replace("\\", "/")
    parts = name.split("/")
    return _wanted(parts[-1]) and (".." in parts or bool(re.match(ABSOLUTE, name)))


def _shown(name: str) -> bool:
    """False for hidden files and folders and for macOS's bookkeeping in zips."""
    return not name.startswith(".") and name != "__MACOSX"


def _wanted(name: str) -> bool:
    """Whether a file of this name is an image or a table of labels."""
    return (name.lower().endswith(SUFFIXES) and _shown(name)) or name in TABLES


def _source(
    path: Path,
    names: list[str],
    files: FolderFiles | ZipFiles | TarFiles,
    stamps: np.ndarray,
    labels: bool,
    classes: ClassesOf,
    outside: Sequence[str] = (),
) -> Source:
    """A source of the images among `files`; their names and stamps, one a file, make its key.

    outside: entries of an archive that lead out of it, and are left out.
    """
    content = files
    tables = {name: i for i, name in enumerate(names) if posixpath.basename(name) in TABLES}
    if tables:
        images = [i for i, name in enumerate(names) if name not in tables]
        content, stamps, names = files.pick(images), stamps[images], [names[i] for i in images]
    ignored = _ignored(outside)
    if not names:
        raise UserError(
            f"data.source: no images in {path}: files ending in {' '.join(SUFFIXES)} count, "
            f"except hidden ones{ignored and f'; {ignored}'}{_shards_in(path)}"
        )
    around = common_folder(names)
    inner = names
    if around and not path.is_dir():  # the folder that most archives have around everything
        inner = [name.removeprefix(around) for name in names]
    key = content_key("\0".join(inner).encode(errors="surrogatepass"), stamps.tobytes())
    found = None
    if labels:
        above = {name: i for name, i in tables.items() if around.startswith(_folder(name))}
        found = _from_tables(path, names, above, files) if above else classes(path, names)
        key = content_key(key, found.names, found.values.dtype, found.values.tobytes())
    if ignored:
        log.warning("%s: %s", path, ignored)
    return Source(short_name(path), key, inner, content, found)


def _ignored(outside: Sequence[str]) -> str:
    if not outside:
        return ""
    first = outside[0].encode(errors="backslashreplace").decode()
    return f"{len(outside):,} entries with absolute paths or '..' are left out, as {first}"


def _shards_in(path: Path) -> str:
    """What to give instead of a folder that has tars."""
    tars = path.is_dir() and any(path.glob("*.tar"))
    return f"; its .tar files may be shards: give '{path}/*.tar', in quotes" if tars else ""


def _from_tables(
    path: Path, names: list[str], tables: dict[str, int], files: Callable[[int], bytes]
) -> Labels:
    """Labels from the only one of `tables`, whose content `files` has."""
    if len(tables) > 1:
        raise UserError(
            f"data.labels: {path} has several tables of labels, {' and '.join(sorted(tables))}; "
            "leave one"
        )
    ((name, i),) = tables.items()
    try:
        data = files(i)
    except BadImage as error:
        raise UserError(f"data.labels: cannot read {path / name}: {error}") from error
    if len(data) > TABLE_BYTES:
        raise UserError(f"data.labels: {path / name} is larger than {TABLE_BYTES} bytes")
    start = len(_folder(name))
    return from_table(str(path / name), data, [name[start:] for name in names])


def _folder(name: str) -> str:
    """`a/b/` of `a/b/c`, nothing of `c`."""
    return name[: name.rfind("/") + 1]
