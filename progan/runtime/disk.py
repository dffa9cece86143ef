"""Files that are whole or absent, and files of JSON lines, any of which may be torn.

A folder that came from somebody else may hold links in place of files. Nothing here writes through
one, but for `write_json` where a user has named it.
"""

import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from progan.runtime.errors import UserError, brief


class DiskError(UserError):
    """A file could not be written; what was there before is unchanged."""


MOST_BYTES = 2**28  # of a file of lines; those of 300,000 ticks have so many
# What `write_atomically` puts after a name; that of older versions has no random part.
PARTIAL = re.compile(r".+\.partial(-[0-9a-f]{8})?")
# A link fails to open, and a pipe without a reader does not hang.
NOT_THROUGH = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def check_plain(path: Path | str, written: bool = True) -> None:
    """Raises UserError if `path` is there and is no file of its own.

    Args:
        written: whether it will be; then it must have no other name (a hard link), either.
    """
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    remedy = "put a copy of the file in its place, or remove it"
    if stat.S_ISLNK(found.st_mode):
        what = f"a link to {os.readlink(path)}"
    elif not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        remedy = "move it away"
    elif written and found.st_nlink > 1:
        what = "one of several names of the same file (a hard link)"
    else:
        return
    raise UserError(
        f"{path} is {what}; progan keeps a file of its own there and leaves this as it is: {remedy}"
    )


def open_plain(path: Path | str, flags: int) -> int:
    """An `opener` for `open`.

    Raises:
        UserError: `path` is no file of its own.
    """
    check_plain(path, written=bool(flags & (os.O_WRONLY | os.O_RDWR)))
    return os.open(path, flags | NOT_THROUGH, 0o666)


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls `write` on a temporary file, syncs and renames it: `path` is whole or absent.

    A link is replaced, and what it leads to stays as it is.

    Raises:
        DiskError: it cannot be written, or a folder, a pipe or a device is there.
    """
    check_room(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # torch.save writes the part before the last dot into the file, so chance comes after it.
    temporary = path.with_name(f"{path.name}.partial-{secrets.token_hex(4)}")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOT_THROUGH, 0o666))
        write(temporary)
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_name(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save raises the latter on a full disk
        raise DiskError(f"cannot write {path}: {why_write_failed(error, path.parent)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_room(path: Path) -> None:
    """Raises DiskError if what is at `path` is neither a file nor a link, and so not replaced."""
    with suppress(FileNotFoundError, NotADirectoryError):
        kind = os.lstat(path).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISLNK(kind):
            what = "a folder" if stat.S_ISDIR(kind) else "a pipe or a device"
            raise DiskError(f"cannot write {path}: there is {what}; give another name, or move it")


def half_written(folders: Iterable[Path]) -> list[Path]:
    """Files in these folders that `write_atomically` has begun in a process that was killed.

    Others are somebody's own, whatever they are called.
    """
    files = (path for folder in folders if folder.is_dir() for path in folder.iterdir())
    return [path for path in files if PARTIAL.fullmatch(path.name) and not path.is_dir()]


def write_text(path: Path, text: str) -> None:
    """Writes text atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def sync_name(folder: Path) -> None:
    """Syncs the names of the files in a folder, where the system can: some cannot open a folder,
    and some network file systems cannot sync one."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Any, replace: bool = False) -> None:
    """Write indented JSON atomically; into a pipe, a device or a link (/dev/stdout) directly.

    Args:
        replace: those, too, as in folders where nobody has asked for them.

    Raises:
        ValueError: a number is NaN or infinite, for which JSON has no word.
        DiskError, OSError: it could not be written.
    """
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    if replace or can_be_replaced(path):
        write_text(path, text)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:  # it may name no file
        raise DiskError(f"cannot write {path}: {brief(error)}") from error


def can_be_replaced(path: Path) -> bool:
    """True for a file, and where there is nothing yet; False for links, pipes and devices."""
    return not path.is_symlink() and (path.is_file() or not path.exists())


def replacing(paths: Sequence[Path]) -> str:
    """What to add, once they are written, to the name of results that are there already.

    A result replaces an older one under its name, but never without a word.
    """
    there = sum(path.is_file() for path in paths)
    if not there:
        return ""
    return f" ({replaced(there, len(paths))})"


def replaced(count: int, of: int) -> str:
    """`3 files replaced`, or `replaced` where there is one file only."""
    if of == 1:
        return "replaced"
    return f"{count:,} {'file' if count == 1 else 'files'} replaced"


def append(path: Path, text: str) -> None:
    """Appends `text` and syncs it. On an error the file is as it was.

    Raises:
        DiskError, OSError: it could not be written.
        UserError: `path` is a link, or something else than a file.
    """
    with open(path, "ab", buffering=0, opener=open_plain) as file:
        size, left = file.tell(), memoryview(text.encode())
        try:
            while left:  # a nearly full disk takes a part
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError as error:
            file.truncate(size)
            raise DiskError(
                f"cannot write {path}: {why_write_failed(error, path.parent)}"
            ) from error


def why_write_failed(error: Exception, folder: Path) -> str:
    """Why writing failed. The error itself may not know that the disk is full."""
    if shutil.disk_usage(folder).free < 2**20:
        return "no space is left on the disk"
    if "inline_container" in str(error):  # of torch, which does not know why
        return "the disk takes no more of it; is there a quota, or a limit on the size of files?"
    named = isinstance(error, OSError) and error.strerror  # else with the name of a temporary file
    return named or brief(error)


def read_plain(file: Path, last: int = 0) -> bytes:
    """The content of a file of progan's own; nothing if it is not there.

    Args:
        last: only so many bytes at its end; 0: all.

    Raises:
        UserError: it is a link, or something else than a file, or larger than any that progan has
            written: a file with holes takes no room on a disk, but all of it in memory.
    """
    try:
        with open(file, "rb", opener=open_plain) as opened:
            size = opened.seek(0, os.SEEK_END)
            if size > MOST_BYTES and not last:
                raise UserError(
                    f"{file} has {size:,} bytes, and progan writes {MOST_BYTES:,} at most there; "
                    "move it away"
                )
            opened.seek(max(0, size - last) if last else 0)
            return opened.read()
    except FileNotFoundError:
        return b""


def read_lines(file: Path, last: int = 0) -> list[dict[str, Any]]:
    """The dictionaries in a file of JSON lines, without torn lines; none if there is no file.

    Args:
        last: only so many bytes at its end; 0: all.

    Raises:
        UserError: see `read_plain`.
    """
    found = []
    for line in read_plain(file, last).decode(errors="replace").splitlines():
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):  # the latter for deeply nested brackets
            continue
        if isinstance(content, dict):
            found.append(content)
    return found


def append_line(file: Path, content: dict[str, Any]) -> None:
    """Appends a line of JSON, also after a torn one.

    Raises:
        DiskError, OSError: it could not be written; the file is as it was.
        UserError: see `append`.
    """
    torn = read_plain(file, last=1) not in (b"", b"\n")
    append(file, "\n" * torn + json.dumps(content) + "\n")
