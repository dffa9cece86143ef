"""What of a run can be deleted: files that it no longer needs."""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from progan.runs.checkpoint import checkpoints_of, read
from progan.runs.folder import check_own, folders_of
from progan.runs.hold import Hold
from progan.runs.snapshot_file import load_snapshot
from progan.runs.state import RUNNING, state_of
from progan.runs.which_snapshot import snapshots_of
from progan.runtime.disk import half_written
from progan.runtime.errors import UserError

log = logging.getLogger("progan")


class Spare(NamedTuple):
    """A file or, in the cache, a folder that can go.

    Args:
        size: bytes.
        why: it is not needed.
    """

    path: Path
    size: int
    why: str


def spare_in_run(run_dir: Path, delete: bool = False) -> list[Spare]:
    """Files that a run needs neither to go on nor to make its newest and best images.

    Args:
        delete: delete them, while nobody can train there.

    Raises:
        UserError: it is running, or a file of it is a link.
    """
    check_own(run_dir)
    state = state_of(run_dir)
    if state.name == RUNNING:
        raise UserError(f"{run_dir} is running ({state.because}); stop it first")
    if not delete:
        return spare_files(run_dir)
    with Hold(run_dir):
        return [spare for spare in spare_files(run_dir) if is_deleted(spare)]


def is_deleted(spare: Spare) -> bool:
    """Deletes a file: its name, never what a link leads to. Logs a warning if that cannot be."""
    try:
        spare.path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s is left, as it cannot be deleted: %s", spare.path, error.strerror)
        return False
    return True


def spare_files(run_dir: Path) -> list[Spare]:
    """All but the newest checkpoint and the newest snapshot that can be read, which is tried; and
    what is damaged or half-written. Best snapshots, averages, grids and records stay."""
    found: dict[Path, str] = {}
    kinds: list[tuple[list[Path], Callable[[Path], object]]] = [
        (checkpoints_of(run_dir), read),
        (snapshots_of(run_dir), load_snapshot),
    ]
    for files, reader in kinds:
        for file in reversed(files):
            with suppress(Exception):  # damage may raise any
                reader(file)
                found |= {f: f"older than {file.name}" for f in files[: files.index(file)]}
                break
    damaged = [path for path in run_dir.glob("checkpoints/*.pt.damaged") if path.is_file()]
    found |= dict.fromkeys(damaged, "cannot be read")
    parts = half_written(folders_of(run_dir))
    found |= dict.fromkeys(parts, "left half-written by a start that was killed")
    return [Spare(path, path.lstat().st_size, why) for path, why in sorted(found.items())]
