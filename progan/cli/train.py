"""The command `progan train`."""

import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from progan.cli.options import (
    CONFIG,
    OVERRIDES,
    SNAPSHOT,
    CheckedOption,
    PathOption,
    say,
    to_number,
)
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main, started
from progan.runtime.output import outlive_output

if TYPE_CHECKING:
    from progan.training.request import Asked


@click.command()
@click.option(
    "--data",
    metavar="NAME|PATH",
    help="A known data set (progan data list), or images: a folder, zip, tar, array, shards.",
)
@CONFIG
@OVERRIDES
@click.option(
    "--run-dir",
    type=PathOption(),
    metavar="DIR",
    help="Folder of the run; the same DIR again goes on with it. [default: runs/NAME]",
)
@click.option(
    "--resume",
    type=PathOption(),
    metavar="DIR",
    help="Go on with the run in DIR, with the settings it has.",
)
@click.option(
    "--init",
    type=SNAPSHOT,
    metavar="RUN|FILE",
    help="Start a new run from the networks of another one: its folder, a checkpoint or a snapshot "
    "(which has no critic; RUN@best and hf://USER/MODEL are such).",
)
@click.option(
    "--freeze-d",
    type=click.IntRange(0, 8),
    metavar="N",
    help="Leave the first N blocks of that critic that images meet as they are.",
)
@click.option("--download", is_flag=True, help="Let torchvision fetch a named data set.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only look at the data, and print the expected time, phases and settings.",
)
@click.option("--check", is_flag=True, help="Only try the data and the memory of every phase.")
@click.option(
    "--max-hours",
    type=CheckedOption("number", to_number),
    metavar="H",
    help="Stop after H hours, with a checkpoint and exit code 0.",
)
def train(
    data: str | None,
    config_name: str | None,
    overrides: tuple[str, ...],
    run_dir: Path | None,
    resume: Path | None,
    init: Path | None,
    freeze_d: int | None,
    download: bool,
    dry_run: bool,
    check: bool,
    max_hours: float | None,
) -> None:
    """Train a run, or go on with one.

    SIGTERM, SIGHUP, Ctrl-C, --max-hours and a file called stop in the run's folder end it in good
    order: the same command goes on.

    \b
    Without --config, a named data set uses its preset, and a path the paper's
    networks, at the largest resolution that nearly all of its images have.
    On a machine without a GPU, try
    progan train --data FOLDER --config demo

    \b
    All else is a setting, for example
    -o run.device=cpu            -o schedule.batch_size=8
    -o run.seed=1                -o schedule.total_kimg=1000
    -o network.resolution=64     -o data.workers=4
    """
    from progan.training.request import beginning, new_run, old_run

    outlive_output()
    shown = click.echo if is_main() else lambda line: None
    if resume:
        if data or config_name or run_dir or init or freeze_d is not None:
            raise UserError(
                "--resume DIR takes the settings and networks of the run in DIR: leave out --data, "
                "--config, --run-dir, --init and --freeze-d (-o may change lengths and intervals)"
            )
        asked = old_run(resume, overrides)
    else:
        overrides = (*beginning(init, freeze_d), *overrides)
        asked = new_run(data, config_name, overrides, run_dir, shown, any_folder=dry_run)
    if dry_run:
        from progan.cli.dry_run import dry_run as print_plan

        print_plan(*asked)
    else:
        start(asked, download, check, max_hours)


def start(asked: "Asked", download: bool, check: bool, max_hours: float | None) -> None:
    """Prepare the data, train, say how to go on."""
    from progan.data.opening import dataset_of, find_data
    from progan.runs.folder import STOP
    from progan.runtime.device import take_device
    from progan.runtime.stopping import OutOfTime, StopRequest, ended_by_signals
    from progan.training.start import already_complete, check_run, train_run

    config, run_dir, found = asked
    where = shlex.quote(str(run_dir))
    if not check and already_complete(config, run_dir, click.echo):
        if is_main():
            click.echo(f"make images with: progan sample {where} --grid")
        return
    device = take_device(config.run.device)
    stop = StopRequest(run_dir.absolute() / STOP if is_main() else None, max_hours, started())
    try:
        with (
            ended_by_signals("stopped, nothing is lost; the same command goes on"),
            stop.ended_in_time(),
        ):
            found = find_data(config.data, download, say) if found is None else found
            data = dataset_of(found, config, say)
    except OutOfTime as reached:
        if is_main():
            say(str(reached))
        return
    if check:
        with ended_by_signals("stopped; a check writes nothing"):
            return check_run(config, run_dir, data, device, click.echo)
    complete = train_run(config, run_dir, data, device, stop, click.echo)
    if is_main():
        reason = stop.reason()
        if complete:
            click.echo(f"done; make images with: progan sample {where} --grid")
        else:
            why = f" ({reason})" if reason else ""
            click.echo(f"stopped{why}, nothing is lost; go on with: progan train --resume {where}")
    if not complete and stop.signal == signal.SIGINT:
        sys.exit(130)
