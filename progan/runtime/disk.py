"""Files that are whole or absent, and files of JSON lines, any of which may be torn."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from progan.runtime.errors import UserError, brief


class DiskError(UserError):
    """A file could not be written; what was there before is unchanged."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls `write` on a temporary file, syncs and renames it: `path` is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    try:
        write(temporary)
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if os.name == "posix":  # sync the new name, too
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
    except (OSError, RuntimeError) as error:  # torch.save raises the latter on a full disk
        raise DiskError(f"cannot write {path}: {why_write_failed(error, path.parent)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically; into a pipe, a device or a link (/dev/stdout) directly.

    Raises:
        ValueError: a number is NaN or infinite, for which JSON has no word.
        DiskError, OSError: it could not be written.
    """
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    if can_be_replaced(path):
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    else:
        path.write_text(text, encoding="utf-8")


def can_be_replaced(path: Path) -> bool:
    """True for a file, and where there is nothing yet; False for links, pipes and devices."""
    return not path.is_symlink() and (path.is_file() or not path.exists())


def append(path: Path, text: str) -> None:
    """Appends `text` and syncs it. On an error the file is as it was."""
    with open(path, "ab", buffering=0) as file:
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
    full = shutil.disk_usage(folder).free < 2**20
    return "no space is left on the disk" if full else brief(error)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The dictionaries in a file of JSON lines, without torn lines; none if there is no file."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    found = []
    for line in lines:
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
    """
    before = file.read_bytes() if file.exists() else b""
    torn = bool(before) and not before.endswith(b"\n")
    append(file, "\n" * torn + json.dumps(content) + "\n")
