"""The command `progan train`."""

import shlex
import signal
import sys
from pathlib import Path

import click

from progan.cli.options import CONFIG, OVERRIDES, PathOption, PositiveNumber, say
from progan.config.config import Config
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main, started
from progan.runtime.output import outlive_output


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
@click.option("--download", is_flag=True, help="Let torchvision fetch a named data set.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only look at the data, and print the expected time, phases and settings.",
)
@click.option("--check", is_flag=True, help="Only try the data and the memory of every phase.")
@click.option(
    "--max-hours",
    type=PositiveNumber(),
    metavar="H",
    help="Stop after H hours, with a checkpoint and exit code 0.",
)
def train(
    data: str | None,
    config_name: str | None,
    overrides: tuple[str, ...],
    run_dir: Path | None,
    resume: Path | None,
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
    from progan.training.request import asked_for, check_settings, new_run, old_run

    outlive_output()
    shown = click.echo if is_main() else lambda line: None
    if resume:
        if data or config_name or run_dir:
            raise UserError(
                "--resume DIR takes the settings of the run in DIR: "
                "leave out --data, --config and --run-dir (-o may change lengths and intervals)"
            )
        config, run_dir = old_run(resume, overrides)
    elif dry_run:
        config, run_dir = asked_for(data, config_name, overrides, run_dir, shown)
        check_settings(config, run_dir)
    else:
        config, run_dir = new_run(data, config_name, overrides, run_dir, shown)
    if dry_run:
        from progan.cli.dry_run import dry_run as print_plan

        print_plan(config, run_dir)
    else:
        start(config, run_dir, download, check, max_hours)


def start(
    config: Config, run_dir: Path, download: bool, check: bool, max_hours: float | None
) -> None:
    """Prepare the data, train, say how to go on."""
    from progan.data.opening import open_data
    from progan.runs.folder import STOP
    from progan.runtime.device import take_device
    from progan.runtime.stopping import StopRequest, ended_by_signals
    from progan.training.start import already_complete, check_run, train_run

    where = shlex.quote(str(run_dir))
    if not check and already_complete(config, run_dir, click.echo):
        if is_main():
            click.echo(f"make images with: progan sample {where} --grid")
        return
    device = take_device(config.run.device)
    with ended_by_signals("stopped, nothing is lost; the same command goes on"):
        data = open_data(config, download, say)
    if check:
        with ended_by_signals("stopped; a check writes nothing"):
            return check_run(config, run_dir, data, device, click.echo)
    stop = StopRequest(run_dir / STOP if is_main() else None, max_hours, started())
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
