"""The command `progan show`: a page of one run."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from progan.cli.options import PathOption
from progan.cli.runs import best_of, going_on, metrics_of, progress
from progan.runtime.launch import is_main
from progan.runtime.text import human_bytes, human_time, printable, short, table

if TYPE_CHECKING:
    from progan.runs.summary import Summary

SHOWN = (("D", "Loss/D"), ("G", "Loss/G"), ("images/s", "Timing/images_per_sec"))
MOST = 12  # snapshots in a line


@click.command()
@click.argument("run", metavar="RUN", type=PathOption())
def show(run: Path) -> None:
    """Show a page of one run.

    It has state, progress, data, starts, snapshots, metrics and disk space.
    """
    from progan.runs.folder import read_config
    from progan.runs.summary import of_whole

    if not is_main():
        return
    found = of_whole(run, read_config(run, []))
    click.echo(f"{run} is {found.state.name}: {found.state.because}")
    rows = [*about_training(found), *about_files(found)]
    click.echo(table([(f"  {name}", printable(text)) for name, text in rows], left=(0, 1)))
    click.echo(what_next(found))


def about_training(run: "Summary") -> Iterator[tuple[str, str]]:
    """How far it is, and on what it trains."""
    from progan.runs.records import number
    from progan.runs.state import RUNNING

    assert run.config is not None
    schedule, config = run.config.make_schedule(), run.config
    phase = schedule.at(max(run.nimg - 1, 0))
    place = f"phase {schedule.phases.index(phase) + 1} of {len(schedule.phases)}, {phase}"
    yield "progress", f"{progress(run)} kimg, {place}"
    if run.hours is not None:
        left = f"; about {human_time(run.seconds_left)} left" if run.seconds_left else ""
        yield "trained", f"{human_time(3600 * run.hours)} of updates{left}"
    if run.age is not None:
        values = ((name, number(run.tick.get(key))) for name, key in SHOWN)
        text = ", ".join(f"{name} {short(value)}" for name, value in values if value is not None)
        # Only of a run that trains: any other may be a copy, with new times.
        ago = f", {human_time(run.age)} ago" if run.state.name == RUNNING else ""
        yield "newest tick", f"at {run.tick['nimg'] / 1000:g} kimg{ago}: {text}"
    labels = "with" if config.data.labels else "without"
    source = "none yet" if config.data.source is None else f"{config.data.source}, {labels} labels"
    yield "data", source
    size, network = config.network.resolution, config.network
    channels = "1 channel" if network.channels == 1 else f"{network.channels} channels"
    yield "network", f"{size}x{size}, {channels}, z_dim {network.z_dim}"


def about_files(run: "Summary") -> Iterator[tuple[str, str]]:
    """Its starts, what it has saved, and how much space that takes."""
    from progan.runs.summary import sizes_of
    from progan.runs.which_run import STARTS
    from progan.runtime.disk import read_lines

    starts = read_lines(run.folder / STARTS)
    if starts:
        last = starts[-1]
        keys = ("time", "device", "precision", "torch")
        yield "starts", f"{len(starts)}; the last: {', '.join(str(last.get(k)) for k in keys)}"
        yield "command", str(last.get("command"))
    if run.snapshots:
        more = f"{len(run.snapshots) - MOST} more, " if len(run.snapshots) > MOST else ""
        listed = ", ".join(f"{kimg:g}" for kimg in run.snapshots[-MOST:])
        yield "snapshots", f"{more}{listed} kimg"
    for name, found in (("best", best_of(run)), ("metrics", metrics_of(run))):
        if found:
            yield name, ", ".join(found)
    grids = sorted(run.folder.glob("images/fakes-*.png"))
    if grids:
        yield "newest grid", str(grids[-1])
    sizes = sizes_of(run.folder)
    parts = (f"{name} {human_bytes(size)}" for name, size in sizes.items() if size)
    yield "on disk", f"{human_bytes(sum(sizes.values()))}: {', '.join(parts)}"


def what_next(run: "Summary") -> str:
    """The command that most want to give next."""
    from progan.runs.folder import STOP
    from progan.runs.state import DEAD, NEW, RUNNING, STOPPED

    where = shlex.quote(str(run.folder))
    if run.state.name in (NEW, STOPPED, DEAD):
        return going_on(run)
    if run.state.name == RUNNING:
        return f"To stop it in good order: touch {shlex.quote(str(run.folder / STOP))}"
    return f"To see samples: progan sample {where} --grid" if run.snapshots else ""
