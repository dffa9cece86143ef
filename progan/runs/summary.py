"""What there is to say of a run at a glance, from its files. Loads no torch."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from progan.config.config import Config
from progan.config.metric_names import is_whole
from progan.runs.best import best_files
from progan.runs.folder import check_own, read_config, shown
from progan.runs.records import (
    HOURS,
    HOURS_LEFT,
    STATS,
    amount,
    lines_of,
    metrics_of,
)
from progan.runs.state import DAMAGED, RUNNING, TAIL, State, state_of
from progan.runs.which_snapshot import snapshots_of
from progan.runtime.errors import UserError, brief
from progan.runtime.text import kimg_of


@dataclass(frozen=True)
class Best:
    """The best snapshot by a metric; no value if it is not in the records."""

    kimg: float
    value: float | None


@dataclass(frozen=True)
class Summary:
    """A run at a glance. A damaged one has a state and a folder only.

    Args:
        nimg, total_nimg: images shown, and those of the whole run.
        hours: spent on updates; None: not recorded.
        seconds_left: of training, as likely at the newest tick; None: not recorded.
        snapshots: their kimg, in order.
        best: by metric.
        metrics: the newest value of each, by name.
        tick: the newest line of statistics.
        age: of the file that it is in, in seconds; a copy of a run is younger than its ticks.
    """

    folder: Path
    state: State
    config: Config | None = None
    nimg: int = 0
    total_nimg: int = 0
    resolution: int = 0
    hours: float | None = None
    seconds_left: float | None = None
    snapshots: tuple[float, ...] = ()
    best: dict[str, Best] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tick: dict[str, Any] = field(default_factory=dict)
    age: float | None = None

    def content(self) -> dict[str, Any]:
        """For JSON."""
        same = ("nimg", "total_nimg", "resolution", "hours", "seconds_left", "metrics")
        return {
            "run": str(self.folder),
            "state": self.state.name,
            "because": self.state.because,
            **{name: getattr(self, name) for name in same},
            "snapshots": list(self.snapshots),
            "best": {name: vars(best) for name, best in self.best.items()},
        }


def summary_of(run_dir: Path) -> Summary:
    """Reads a run's files. Whatever is wrong with them is told by the state."""
    try:
        check_own(run_dir)
        return of_whole(run_dir, read_config(run_dir, []))
    except (UserError, OSError) as error:
        return Summary(run_dir, State(DAMAGED, brief(error)))


def of_whole(run_dir: Path, config: Config) -> Summary:
    """`summary_of` for a run whose config can be read."""
    schedule, state = config.make_schedule(), state_of(run_dir)
    ticks = lines_of(run_dir / STATS, TAIL)
    first: tuple[int, dict[str, Any]] = (0, {})
    at, tick = max(reversed(ticks), key=lambda line: line[0], default=first)
    nimg = min(max(at, shown(run_dir)), schedule.total_nimg)
    age = max(time.time() - (run_dir / STATS).stat().st_mtime, 0.0) if ticks else None
    hours_left = amount(tick.get(HOURS_LEFT))
    left = None if hours_left is None else 3600 * hours_left
    if left is not None and state.name == RUNNING:
        left = max(left - (age or 0.0), 0.0)
    values = {name: by_nimg for name, by_nimg in metrics_of(run_dir).items() if is_whole(name)}
    return Summary(
        run_dir,
        state,
        config,
        nimg,
        schedule.total_nimg,
        schedule.reached(nimg)[0],
        amount(tick.get(HOURS)),
        left,
        tuple(kimg for file in snapshots_of(run_dir) if (kimg := kimg_of(file)) >= 0),
        {
            name: Best(kimg, values.get(name, {}).get(round(1000 * kimg)))
            for name, files in best_files(run_dir).items()
            if (kimg := kimg_of(files[-1])) >= 0
        },
        {name: by_nimg[max(by_nimg)] for name, by_nimg in values.items()},
        tick,
        age,
    )


def sizes_of(run_dir: Path) -> dict[str, int]:
    """Bytes in each folder of a run and, as "other files", beside them, the largest first."""
    found: dict[str, int] = {}
    for folder, _, names in os.walk(run_dir):
        inner = Path(folder).relative_to(run_dir).parts
        part = inner[0] if inner else "other files"
        for name in names:
            with suppress(OSError):  # a running run removes files
                found[part] = found.get(part, 0) + os.lstat(os.path.join(folder, name)).st_size
    return dict(sorted(found.items(), key=lambda item: -item[1]))
