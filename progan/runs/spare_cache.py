"""What can be deleted of the cache: prepared data that no run uses, and compiled code."""

import logging
import re
import shutil
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from safetensors import safe_open

from progan.data.pyramid.format import Pyramid
from progan.data.pyramid.prepare import LOCK
from progan.data.sources.source import short_name
from progan.runs.snapshot_file import DAMAGE, check_header
from progan.runs.spare import Spare
from progan.runs.state import DAMAGED, RUNNING
from progan.runs.summary import Summary, sizes_of
from progan.runs.which_snapshot import snapshots_of
from progan.runtime.cache import cache_folder, pyramids_folder
from progan.runtime.errors import UserError, brief
from progan.runtime.lock import Busy, file_lock, is_held

log = logging.getLogger("progan")

DELETED = ".deleted"  # ends the name of a folder that is being deleted
OURS = re.compile(rf".+-[0-9a-f]{{16}}({re.escape(DELETED)})?")  # names of what progan keeps


def spare_in_cache(runs: Sequence[Summary]) -> list[Spare]:
    """Prepared data that none of the runs uses, with what was measured of them; compiled code, if
    none of them is running. All of it is made again where it is needed.

    A run uses the data whose identity its newest snapshot has; if there is none such, all that are
    called as its source.

    Raises:
        UserError: a run is damaged, so that its data are not known.
    """
    for run in runs:
        if run.state.name == DAMAGED:
            raise UserError(
                f"{run.folder} is damaged ({run.state.because}), so that its data are not known; "
                "mend it, or move it away"
            )
    cache, found = cache_folder(None), list[Spare]()
    prepared = filter(is_ours, folders_in(pyramids_folder(None)))
    known = {folder: identities(folder) for folder in prepared}
    kept = {folder for run in runs for folder in used_by(run, known)}
    for folder in known:
        if folder.name.endswith(DELETED):
            found.append(Spare(folder, size_of(folder), "begun to be deleted"))
        elif folder not in kept and not is_held(folder / LOCK):
            found.append(Spare(folder, size_of(folder), "prepared data that no run here uses"))
            measured = folders_in(cache / "metrics", f"{folder.name}-")
            found += [Spare(path, size_of(path), "what was measured of them") for path in measured]
    if not any(run.state.name == RUNNING for run in runs):
        code = [folder for folder in folders_in(cache) if folder.name == "compiled"]
        found += [Spare(path, size_of(path), "compiled code") for path in code]
    return found


def folders_in(folder: Path, start: str = "") -> list[Path]:
    """Folders that are no links, by name."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        path
        for path in found
        if path.name.startswith(start) and path.is_dir() and not path.is_symlink()
    )


def is_ours(folder: Path) -> bool:
    """Whether a folder among the prepared data has a name that progan gives: others are somebody
    else's, as $PROGAN_CACHE may be any folder."""
    return OURS.fullmatch(folder.name) is not None


def size_of(folder: Path) -> int:
    return sum(sizes_of(folder).values())


def identities(folder: Path) -> set[str]:
    """Of prepared data, with and without labels; none if they are damaged or not finished."""
    found = set()
    with suppress(UserError):
        for labels in (False, True):
            with closing(Pyramid.open(folder, labels=labels, workers=0)) as pyramid:
                found.add(pyramid.identity)
    return found


def used_by(run: Summary, known: dict[Path, set[str]]) -> list[Path]:
    """The prepared data of a run."""
    identity = None
    for file in snapshots_of(run.folder)[-1:]:
        with suppress(*DAMAGE):
            check_header(file)
            with safe_open(file, framework="numpy") as opened:
                identity = opened.metadata().get("data")
    same = [folder for folder, has in known.items() if identity in has]
    name = short_name(Path(str(run.config.data.source))) if run.config else ""
    return same or [folder for folder in known if folder.name.startswith(name)]


def is_deleted(spare: Spare) -> bool:
    """Deletes a folder of the cache; if that is interrupted, the rest is no longer in the way.

    Logs a warning if it cannot be, as when data are being prepared there.
    """
    try:
        with file_lock(spare.path / LOCK, wait=False):
            gone = spare.path.with_name(f"{spare.path.name.removesuffix(DELETED)}{DELETED}")
            spare.path.rename(gone)
        shutil.rmtree(gone)  # follows no link
    except (Busy, OSError, UserError) as error:
        why = "data are being prepared there" if isinstance(error, Busy) else brief(error)
        log.warning("%s is left, as it cannot be deleted: %s", spare.path, why)
        return False
    return True
