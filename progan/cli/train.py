"""The command `progan train`: what is refused at once, the start, what is said at the end."""

import shlex
import signal
import sys
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from progan.cli.options import CONFIG, OVERRIDES, PathOption, PositiveNumber
from progan.config.config import Config
from progan.config.load import load_config
from progan.config.yaml_io import dump_yaml
from progan.runs.folder import base_name
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main, processes, started

if TYPE_CHECKING:
    from progan.data.dataset import Dataset
    from progan.training.trainer import Trainer


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
    help="Where the run is kept; the same DIR again goes on with it. [default: runs/NAME]",
)
@click.option(
    "--resume",
    type=PathOption(),
    metavar="DIR",
    help="Go on with the run in DIR, with the settings it has.",
)
@click.option("--download", is_flag=True, help="Let torchvision fetch a named data set.")
@click.option(
    "--dry-run", is_flag=True, help="Print settings, phases and the time expected, and stop."
)
@click.option(
    "--check", is_flag=True, help="Try the data and the memory of every phase first, and stop."
)
@click.option(
    "--max-hours",
    type=PositiveNumber(),
    metavar="H",
    help="Stop after so long, with a checkpoint and exit code 0.",
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
    """Train, or go on with, a run.

    SIGTERM, Ctrl-C, --max-hours and a file called stop in the run's folder end it in good order:
    the same command goes on.

    \b
    Without --config, a named data set takes the preset for it, and a path
    the paper's networks at 128x128. On a machine without a GPU, try
    progan train --data FOLDER --config demo
    """
    if resume:
        if data or config_name or run_dir:
            raise UserError(
                "--resume DIR takes the settings of the run in DIR: "
                "leave out --data, --config and --run-dir (-o may change lengths and intervals)"
            )
        from progan.runs.folder import read_config

        config, run_dir = read_config(resume, list(overrides)), resume
    else:
        config = resolve(data, config_name, list(overrides))
    config = with_absolute_paths(config, resume)
    if config.data.source is None:
        raise UserError("what to train on? give --data demo, or --data with a folder of images")
    run_dir = run_dir or Path("runs") / base_name(config.data.source)
    check_start(config, run_dir)
    if dry_run:
        preview(config)
    else:
        start(config, run_dir, download, check, max_hours)


def resolve(data: str | None, config_name: str | None, overrides: list[str]) -> Config:
    """Preset or file, then `--data`, then `-o`."""
    from progan.data.sources.find import NAMED

    if data == "":
        raise UserError("--data is empty; give a name, or the path of a folder or zip of images")
    if data in NAMED and config_name is None:
        config_name = NAMED[data].preset
    if data is not None:
        overrides = [f"data.source={dump_yaml(data)}", *overrides]
    return load_config(config_name, overrides)


def with_absolute_paths(config: Config, resume: Path | None) -> Config:
    """Paths are kept absolute, so that the run can be resumed from any folder."""
    from progan.data.sources.find import NAMED, is_missing

    if config.run.inception:
        weights = str(Path(config.run.inception).expanduser().resolve())
        run = config.run.model_copy(update={"inception": weights})
        config = config.model_copy(update={"run": run})
    source = config.data.source
    if source is None or source in NAMED or "://" in source:
        return config
    if is_missing(source):
        if resume:
            raise UserError(
                f"the data of this run, {source}, is not there; if it has moved, go on with "
                f"--resume {resume} -o data.source=PATH"
            )
        return config  # what else it might be will be told where it is looked for
    absolute = config.data.model_copy(update={"source": str(Path(source).resolve())})
    return config.model_copy(update={"data": absolute})


def check_start(config: Config, run_dir: Path) -> None:
    """What can be refused before any work is done, by `--dry-run` too."""
    from progan.config.schedule import check_batches
    from progan.runs.folder import check_run_dir
    from progan.runs.tracking import check_tracker

    check_batches(config.make_schedule(), processes(), config.network.stddev_group)
    check_tracker(config.run.tracker)
    check_run_dir(run_dir, config)


def preview(config: Config) -> None:
    """What `--dry-run` prints."""
    from progan.cli.phases import phase_table
    from progan.runtime.accelerator import make_accelerator
    from progan.runtime.device import take_device
    from progan.runtime.numerics import deterministic
    from progan.training.build import make_costs, make_loss, make_networks

    schedule = config.make_schedule()
    accelerator = make_accelerator(Path("."), None, device=take_device(config.run.device))
    G, D = make_networks(config, 0, accelerator.device)
    with deterministic(config.run.deterministic):  # as the run will compute
        costs = make_costs(config, make_loss(config), schedule, G, D, accelerator)
    if is_main():
        click.echo(config.to_yaml())
        click.echo(phase_table(schedule, costs))
        if config.run.metrics:
            click.echo(f"and what {', '.join(config.run.metrics)} take, which is not counted here")


def start(
    config: Config, run_dir: Path, download: bool, check: bool, max_hours: float | None
) -> None:
    """Prepare the data, train, say how to go on."""
    from progan.data.opening import open_data
    from progan.runs.folder import COMPLETE, STOP, lock_run
    from progan.runtime.accelerator import make_accelerator
    from progan.runtime.device import take_device
    from progan.runtime.numerics import deterministic
    from progan.runtime.stopping import StopRequest, ended_by_signals
    from progan.training.trainer import Trainer

    device = take_device(config.run.device)
    with ended_by_signals("stopped, nothing is lost; the same command goes on"):
        data = open_data(config, download, lambda line: click.echo(line, err=True))
    stop = StopRequest(run_dir / STOP if is_main() else None, max_hours, started())
    with (
        lock_run(run_dir) if is_main() and not check else nullcontext(),
        ended_by_signals("stopped; a check writes nothing") if check else stop,
        deterministic(config.run.deterministic),
    ):
        accelerator = make_accelerator(run_dir, config.run.tracker, config.run.timeout, device)
        if is_main():
            tell_data(config, data)
        trainer = Trainer(config, data, run_dir, accelerator, stop)
        if check:
            return tell_trial(trainer)
        if is_main():
            tell_start(trainer)
        complete = trainer.run()
    if is_main():
        where, reason = shlex.quote(str(run_dir)), stop.reason()
        if complete:
            (run_dir / COMPLETE).touch()
            click.echo(f"done; make images with: progan sample {where} --grid")
        else:
            why = f" ({reason})" if reason else ""
            click.echo(f"stopped{why}, nothing is lost; go on with: progan train --resume {where}")
    accelerator.wait_for_everyone()  # no process ends before it can be seen that all is done
    with suppress(OSError):  # of a tracker whose disk was full, which has been said
        accelerator.end_training()
    if not complete and stop.signal == signal.SIGINT:
        sys.exit(130)


def tell_data(config: Config, data: "Dataset") -> None:
    click.echo(f"{data.count:,} images of {config.data.source}")
    if labels := data.labels:
        click.echo(f"{len(labels.names)} {labels.kind}: {', '.join(labels.names)}")


def tell_start(trainer: "Trainer") -> None:
    """Where the run is kept and what it runs on; recorded, and compared with the start before."""
    from progan.runs.folder import COMPLETE, record_start
    from progan.runtime import machine

    (trainer.run_dir / COMPLETE).unlink(missing_ok=True)
    run_dir, device = trainer.run_dir, trainer.accelerator.device
    click.echo(f"run folder {run_dir}; samples while it trains: {run_dir / 'images'}")
    if trainer.config.run.tracker == "tensorboard":
        click.echo(f"curves and samples: tensorboard --logdir {run_dir}")
    count = f"{processes()} x " if processes() > 1 else ""
    click.echo(f"on {count}{machine.device_name(device)}, in {trainer.step.precision}")
    environment = machine.environment(device)
    environment |= {"processes": processes(), "precision": trainer.step.precision}
    for line in record_start(run_dir, environment):
        click.echo(f"not as at the last start: {line}; results may differ in rounding")


def tell_trial(trainer: "Trainer") -> None:
    """What `--check` prints; nothing is written."""
    from progan.training.memory_fit import try_phases

    with closing(trainer.feed.stream):
        for line in try_phases(trainer.step, trainer.feed, trainer.schedule):
            if is_main():
                click.echo(line)
    if is_main():
        click.echo("every phase fits; without --check, training starts")
