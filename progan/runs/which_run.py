"""The run that is meant where a path is none. Loads no torch."""

import shlex
from pathlib import Path

from progan.runtime.errors import nearest

MOST = 10  # runs that are listed


def runs_in(folder: Path) -> list[Path]:
    """The runs that lie in a folder, the last to be written in first."""

    def changed(run: Path) -> float:
        return max(path.lstat().st_mtime for path in run.iterdir())

    try:
        return sorted((file.parent for file in folder.glob("*/config.yaml")), key=changed)[::-1]
    except OSError:  # gone meanwhile, or not to be listed
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
    only_runs = all(path == run or (path / "config.yaml").is_file() for path in folders)
    logdir = shlex.quote(str(above if only_runs else run))
    return f"tensorboard --logdir {logdir} --samples_per_plugin images=100"


def listed(folder: Path) -> str:
    """The runs in a folder, a line each; empty if there are none."""
    found = runs_in(folder)
    lines = "".join(f"\n  {run}" for run in found[:MOST])
    more = f"\n  and {len(found) - MOST:,} more" if len(found) > MOST else ""
    return f"; runs in {folder}, newest first:{lines}{more}" if found else ""


def other_run(path: Path) -> str:
    """What to add to a message that `path` is no run; empty if there is nothing to propose."""
    if path.is_dir():
        return listed(path)
    if path.exists():
        return ""
    place = path.parent if path.parent.name else Path("runs")
    known = [run.name for run in runs_in(place)]
    if place != path.parent and path.name in known:
        return f"; did you mean {place / path.name}?"
    return nearest(path.name, known).replace("'", f"'{place}/", 1) or listed(place)
