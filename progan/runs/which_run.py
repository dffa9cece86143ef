"""Which folders are runs, and which run is meant where a path is none. Loads no torch."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from progan.runs.records import STATS
from progan.runtime.errors import nearest
from progan.runtime.text import printable

LOCK = ".lock"
CONFIG = "config.yaml"
STARTS = "starts.jsonl"
IMPORTED = "imported.pt"  # networks of another project, with which the run begins
DEEPEST = 3  # folders within folders in which runs are looked for
MOST = 10  # runs that are listed


def is_run(folder: Path) -> bool:
    """Whether a folder is a run, begun or just imported; other programs have a config.yaml, too."""
    parts = (LOCK, STARTS, STATS, IMPORTED, "snapshots", "checkpoints")
    return os.path.isfile(folder / CONFIG) and any(os.path.lexists(folder / part) for part in parts)


def runs_below(folder: Path, depth: int = DEEPEST) -> Iterator[Path]:
    """The runs in a folder and the folders in it, by name; or the folder itself, if it is one.

    Links to folders are not followed.
    """
    if is_run(folder):
        yield folder
    elif depth:
        try:
            with os.scandir(folder) as entries:
                inner = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except OSError:  # not to be listed, or gone
            return
        for name in inner:
            if not name.startswith("."):
                yield from runs_below(folder / name, depth - 1)


def newest_first(folder: Path) -> list[Path]:
    """The runs that lie in a folder, the last to be written in first."""

    def changed(run: Path) -> float:
        return max(path.lstat().st_mtime for path in run.iterdir())

    try:
        found = [run for run in runs_below(folder, depth=1) if run != folder]
        return sorted(found, key=changed, reverse=True)
    except OSError:  # gone meanwhile
        return []


def board_command(run: Path) -> str:
    """The command that shows a run in TensorBoard, with up to 100 grids of each resolution.

    TensorBoard's own limit is ten, and its 0 stands for all in one of its readers and for none in
    the other. The folder above gives runs their names, and shows others beside this one. It must
    hold nothing but runs, as TensorBoard searches all that is below.
    """
    above = run.parent
    try:
        folders = [path for path in above.iterdir() if path.is_dir() and path.name[0] != "."]
    except OSError:  # not to be listed
        folders = [above]
    # The run itself may be too new to have a config.
    only_runs = all(path == run or is_run(path) for path in folders)
    logdir = shlex.quote(str(above if only_runs else run))
    return f"tensorboard --logdir {logdir} --samples_per_plugin images=100"


def listed(folder: Path) -> str:
    """The runs in a folder, a line each; empty if there are none."""
    found = newest_first(folder)
    lines = "".join(f"\n  {printable(str(run))}" for run in found[:MOST])
    more = f"\n  and {len(found) - MOST:,} more" if len(found) > MOST else ""
    return f"; runs in {folder}, newest first:{lines}{more}" if found else ""


def other_run(path: Path) -> str:
    """What to add to a message that `path` is no run; empty if there is nothing to propose."""
    if path.is_dir():
        return listed(path)
    if path.exists():
        return ""
    if path == Path("demo"):
        network = "; the network demo that comes with progan has no run"
        own = Path("runs") / path
        return f"{network}; did you mean {own}?" if is_run(own) else network
    place = path.parent if path.parent.name and path.parent.is_dir() else Path("runs")
    known = [run.name for run in newest_first(place)]
    if place != path.parent and path.name in known:
        return f"; did you mean {place / path.name}?"
    return nearest(path.name, known).replace("'", f"'{place}/", 1) or listed(place)
