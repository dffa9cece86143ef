"""The command `progan runs`: all runs in a folder, and how far each is."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from progan.cli.options import JSON, PathOption, check_target
from progan.runtime.disk import write_json
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main
from progan.runtime.text import human_time, kimg, printable, table

if TYPE_CHECKING:
    from progan.runs.summary import Summary

HEAD = ("run", "state", "kimg", "size", "left", "newest", "best", "metrics")
WITHOUT = "-"


@click.command()
@click.argument("folder", metavar="[DIR]", type=PathOption(), default="runs")
@JSON
def runs(folder: Path, json_file: Path | None) -> None:
    """List the runs in a folder, and how far each is.

    Shows their state, progress, snapshots and metrics. Looks in DIR (by default runs) and three
    levels of folders below. A run is new (imported, not begun), running, stopped (in good order),
    complete, dead (ended otherwise) or damaged. The columns newest and best are snapshots, by their
    kimg: RUN@newest, RUN@best.

    \b
    progan runs
    progan runs experiments --json runs.json
    """
    from progan.runs.summary import summary_of
    from progan.runs.which_run import runs_below

    if not is_main():
        return
    figures_in = check_target(json_file)
    found = [summary_of(run) for run in runs_below(folder)]
    if not found:
        what = f"no run in {folder}" if folder.is_dir() else f"there is no folder {folder}"
        raise UserError(
            f"{what}; give the folder in which your runs are, or start one: "
            "progan train --data demo"
        )
    click.echo(table([HEAD, *(row(run, folder) for run in found)], left=(0, 1, 6, 7)))
    for line in filter(None, map(trouble, found)):
        click.echo(line)
    if json_file:
        write_json(json_file, [run.content() for run in found])
        click.echo(f"all figures in {figures_in}")


def row(run: "Summary", folder: Path) -> tuple[str, ...]:
    """A run's line of the table; its name is relative to the folder."""
    inner = run.folder if run.folder == folder else run.folder.relative_to(folder)
    if run.config is None:
        return printable(str(inner)), run.state.name, *(WITHOUT,) * 6
    return (
        printable(str(inner)),
        run.state.name,
        progress(run),
        f"{run.resolution}x{run.resolution}",
        human_time(run.seconds_left or None),
        f"{run.snapshots[-1]:g}" if run.snapshots else WITHOUT,
        ", ".join(best_of(run)) or WITHOUT,
        ", ".join(metrics_of(run)) or WITHOUT,
    )


def progress(run: "Summary") -> str:
    """`20.0 of 36.0`"""
    return f"{kimg(run.nimg, run.total_nimg)} of {kimg(run.total_nimg, run.total_nimg)}"


def best_of(run: "Summary") -> list[str]:
    """`1200 (swd16k 6.91)` for each metric."""
    return [
        f"{best.kimg:g} ({name}{'' if best.value is None else f' {best.value:.4g}'})"
        for name, best in run.best.items()
    ]


def metrics_of(run: "Summary") -> list[str]:
    """`swd16k 7.25` for each metric."""
    return [f"{name} {value:.4g}" for name, value in run.metrics.items()]


def trouble(run: "Summary") -> str:
    """Why a run is new, dead or damaged, and what to do; nothing for others."""
    from progan.runs.state import DAMAGED, DEAD, NEW

    folder = printable(str(run.folder))
    if run.state.name in (DEAD, NEW):
        return f"{folder} is {run.state.name}: {run.state.because}. {going_on(run)}"
    return f"{folder}: {run.state.because}" if run.state.name == DAMAGED else ""


def going_on(run: "Summary") -> str:
    """How to go on with a run that has ended, or to begin one that is new."""
    from progan.runs.state import NEW

    what = "begin" if run.state.name == NEW else "go on"
    data = "" if run.config and run.config.data.source else " -o data.source=PATH"
    return f"To {what}: progan train --resume {shlex.quote(str(run.folder))}{data}"
