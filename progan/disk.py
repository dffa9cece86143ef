"""Files that are whole or not there."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from progan.errors import UserError, brief


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """`write(temporary)`, sync, rename: `path` is whole or it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    try:
        write(temporary)
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if os.name == "posix":  # the new name, too, is on the disk
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
    except (OSError, RuntimeError) as error:  # torch.save raises the latter on a full disk
        full = shutil.disk_usage(path.parent).free < 2**20
        why = "no space is left on the disk" if full else brief(error)
        raise UserError(f"cannot write {path}: {why}") from error
    finally:
        temporary.unlink(missing_ok=True)
