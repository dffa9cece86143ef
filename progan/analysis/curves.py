"""Metrics of a run against images shown and hours of training, read from its files."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from progan.config.metric_names import PROTOCOLS, canonical, is_whole, parts
from progan.runs.records import HOURS, STATS, lines_of, metrics_of, number
from progan.runs.which_run import other_run
from progan.runtime.errors import UserError, nearest
from progan.runtime.text import printable

MOST = 12  # metrics in one picture
WIDTH = 22  # of a run's name in the table, so that lines have 100 characters


class Point(NamedTuple):
    """A metric's value at some time; hours are None if the run has not recorded them."""

    nimg: int
    hours: float | None
    value: float


@dataclass(frozen=True)
class Run:
    """How far a run is, and its metrics by name, in order of images shown."""

    name: str
    folder: Path
    nimg: int
    hours: float | None
    metrics: dict[str, list[Point]]


def in_order(metrics: set[str]) -> list[str]:
    """Metrics sorted by kind, number of images and ending."""
    kinds = list(PROTOCOLS)

    def key(metric: str) -> tuple[int, int, str]:
        kind, count, ending = parts(metric)
        return kinds.index(kind), count, ending

    return sorted(metrics, key=key)


def read_ticks(file: Path) -> list[tuple[int, float]]:
    """(nimg, hours of training until then) for each tick, from (0, 0) on."""
    ticks = {0: 0.0}
    for nimg, line in lines_of(file):
        hours = number(line.get(HOURS))
        if nimg and hours is not None and hours >= 0:
            ticks[nimg] = hours
    return sorted(ticks.items())


def read_run(folder: Path, name: str) -> Run:
    """Read a run's files; later lines replace earlier ones.

    Raises:
        UserError: it is no run.
    """
    check_run(folder)
    ticks = read_ticks(folder / STATS)
    metrics = {
        metric: [Point(nimg, interpolate(ticks, nimg), v) for nimg, v in sorted(values.items())]
        for metric, values in metrics_of(folder).items()
    }
    reached = max((points[-1].nimg for points in metrics.values()), default=0)
    hours = ticks[-1][1] if len(ticks) > 1 else None
    return Run(name, folder, max(reached, ticks[-1][0]), hours, metrics)


def interpolate(curve: Sequence[tuple[float, float]], x: float) -> float | None:
    """The value at `x` on straight lines between points of rising x; None outside them."""
    i = bisect_left(curve, x, key=lambda point: point[0])
    if i == len(curve) or i == 0 and curve[0][0] > x:
        return None
    x1, y1 = curve[i]
    if x1 == x:
        return y1
    x0, y0 = curve[i - 1]
    share = (x - x0) / (x1 - x0)
    return (1 - share) * y0 + share * y1


def check_run(folder: Path) -> None:
    """Raises UserError unless it is a run's folder."""
    if not folder.is_dir():
        wrong = "is a file" if folder.exists() else "does not exist"
        raise UserError(
            f"{folder} {wrong}; give the folder of a run, such as runs/demo{other_run(folder)}"
        )
    if not (folder / "config.yaml").is_file():
        raise UserError(
            f"{folder} is no run: it has no config.yaml; give the folder of a run, such as "
            f"runs/demo{other_run(folder)}"
        )


def read_runs(folders: Sequence[Path]) -> tuple[list[Run], list[Path]]:
    """Runs with metrics, under the shortest names that differ, and folders of those without.

    Raises:
        UserError: one is no run, or none has metrics.
    """
    unique = list({folder.resolve(): folder for folder in folders}.items())
    names = short_names([path for path, _ in unique])
    runs = [read_run(folder, name) for (_, folder), name in zip(unique, names, strict=True)]
    there = [run for run in runs if any(map(is_whole, run.metrics))]
    without = [run.folder for run in runs if not any(map(is_whole, run.metrics))]
    if not there:
        which = f"{without[0]} has no" if len(without) == 1 else "none of these runs has"
        raise UserError(
            f"{which} metrics yet; make them with progan evaluate {without[0]}, or while training "
            "with run.metrics"
        )
    return there, without


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of different absolute paths, as many as it takes; cut if they still differ."""
    names = []
    for path in paths:
        count = 1
        while sum(other.parts[-count:] == path.parts[-count:] for other in paths) > 1:
            count += 1
        name = str(Path(*path.parts[-count:]))
        names.append(printable(name))
    cut = [n if len(n) <= WIDTH else f"{n[:8]}…{n[9 - WIDTH :]}" for n in names]
    return cut if len(set(cut)) == len(cut) else names


def chosen_metrics(runs: Sequence[Run], asked: str | None) -> list[str]:
    """The metrics in `asked`, or all whole metrics that any run has.

    Raises:
        UserError: no run has one of them.
    """
    there = in_order({metric for run in runs for metric in run.metrics})
    chosen = [metric for metric in there if is_whole(metric)]
    if asked is not None:
        chosen = []
        for name in map(str.strip, asked.split(",")):
            same = canonical(name)
            found = [m for m in there if m == same or is_whole(m) and m.startswith(f"{same}_")]
            if not found:
                whole = ", ".join(metric for metric in there if is_whole(metric))
                raise UserError(
                    f"--metrics: no run has '{name}'{nearest(name, there)}; there is: {whole}"
                )
            chosen += found
    return list(dict.fromkeys(chosen))
