"""Whether a run is new, running, stopped, complete or dead, as its own files tell. Loads no torch.

Whoever trains holds a lock on the run's folder, and renews the file `running` (see `heartbeat`).
The lock counts where it can be asked; elsewhere, as on a disk that several machines share, the
time of the file does. The file is removed by a run that ends in good order.
"""

import time
from pathlib import Path
from typing import NamedTuple

from progan.runs.folder import COMPLETE, shown
from progan.runs.heartbeat import SILENT, read_life
from progan.runs.records import HOURS, STATS, lines_of, number
from progan.runs.which_run import LOCK
from progan.runs.which_snapshot import snapshots_of
from progan.runtime.lock import is_held
from progan.runtime.text import human_time, kimg_of

NEW, RUNNING, STOPPED = "new", "running", "stopped"
COMPLETED, DEAD, DAMAGED = "complete", "dead", "damaged"
TAIL = 100_000  # bytes of statistics, some 100 ticks: what is newest needs no more
LATE = 3  # times the usual tick, after which the next one is not to be expected


class State(NamedTuple):
    """
    Args:
        name: one of the above.
        because: what in the folder says so.
    """

    name: str
    because: str


def state_of(run_dir: Path) -> State:
    """The state of a run.

    Raises:
        UserError: a file of the run is a link.
    """
    held, life = is_held(run_dir / LOCK), read_life(run_dir)
    if held:
        return State(RUNNING, f"{life or 'a process'} holds its lock")
    if life:
        seen = f"last sign of life {human_time(life.age)} ago"
        if life.age < SILENT and not (life.here and held is False):
            return State(RUNNING, f"{life}: {seen}")
        return State(DEAD, f"{life} has ended without a word: {seen}")
    if (run_dir / COMPLETE).is_file():
        return State(COMPLETED, f"the file {COMPLETE} is there")
    return before_heartbeats(run_dir)


def before_heartbeats(run_dir: Path) -> State:
    """The state of a run that nothing says to train. Older versions said it by no file.

    A run that ends in good order has a snapshot of all that it has shown.
    """
    ticks = lines_of(run_dir / STATS, TAIL)
    reached = max([shown(run_dir), *(nimg for nimg, _ in ticks[-1:])])
    snapshots = snapshots_of(run_dir)
    if not (reached or ticks or snapshots):
        return State(NEW, "nothing has been trained there yet")
    if snapshots and round(1000 * kimg_of(snapshots[-1])) >= reached:
        return State(STOPPED, "its newest snapshot is of all that it has shown")
    hours = [h for _, line in ticks[-2:] if (h := number(line.get(HOURS))) is not None]
    if len(hours) == 2:
        usual = 3600 * (hours[1] - hours[0])
        age = time.time() - (run_dir / STATS).lstat().st_mtime
        if age < LATE * usual:
            because = f"its newest tick is {human_time(age)} old, the one before took as"
            return State(RUNNING, f"{because} long as {human_time(usual)}")
    return State(DEAD, "nothing trains there, and its newest snapshot is older than its statistics")
