"""The commands. Heavy imports are inside them, so `progan --help` is instant."""

import json
import logging
import re
import shlex
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from progan import __version__
from progan.cli_bench import bench
from progan.cli_data import data as data_commands
from progan.config import Config
from progan.errors import UserError
from progan.launch import is_main, let_threads_sleep, processes, speaks
from progan.options import PathOption
from progan.settings import load_config

OVERRIDES = click.option(
    "-o",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Change a setting, for example -o network.resolution=64; may be repeated.",
)
CONFIG = click.option(
    "--config", "config_name", metavar="FILE|PRESET", help="A YAML file, or a preset's name."
)


class Commands(click.Group):
    """Shows mistakes of the user's as one message with exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            message = str(error)
        except OSError as error:
            if error.filename is None:  # not of a file or folder: nothing a user could mend
                raise
            message = f"{error.filename}: {error.strerror}"
        if speaks():  # one message a machine, however many processes made the same mistake
            click.echo(f"Error: {message}", err=True)
        sys.exit(2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="progan")
def main() -> None:
    """Progressive-growing GANs: train, resume, sample.

    \b
    progan train --data demo             train on the embedded cartoon faces
    progan sample runs/demo --grid       a grid of what it learned
    progan train --data FOLDER           train on your own images
    progan data info FOLDER              what is in it, and is it fit?
    progan bench --config celeba         how fast is this machine?
    """
    let_threads_sleep()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("progan").setLevel(logging.INFO)


main.add_command(data_commands)
main.add_command(bench)


@main.command()
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
def train(
    data: str | None,
    config_name: str | None,
    overrides: tuple[str, ...],
    run_dir: Path | None,
    resume: Path | None,
    download: bool,
    dry_run: bool,
) -> None:
    """Train, or go on with, a run.

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
        from progan.runs import read_config

        config, run_dir = read_config(resume, list(overrides)), resume
    else:
        config = resolve(data, config_name, list(overrides))
    config = with_absolute_source(config, resume)
    if config.data.source is None:
        raise UserError("what to train on? give --data demo, or --data with a folder of images")
    run_dir = run_dir or Path("runs") / base_name(config.data.source)
    check_start(config, run_dir)
    if dry_run:
        preview(config)
    else:
        start(config, run_dir, download)


def resolve(data: str | None, config_name: str | None, overrides: list[str]) -> Config:
    """Preset or file, then `--data`, then `-o`."""
    from progan.data.sources import NAMED

    if data == "":
        raise UserError("--data is empty; give a name, or the path of a folder or zip of images")
    if data in NAMED and config_name is None:
        config_name = NAMED[data].preset
    if data is not None:
        overrides = [f"data.source={json.dumps(data, ensure_ascii=False)}", *overrides]
    return load_config(config_name, overrides)


def with_absolute_source(config: Config, resume: Path | None) -> Config:
    """A path is kept absolute, so that the run can be resumed from any folder."""
    from progan.data.shards import is_shards
    from progan.data.sources import NAMED

    source = config.data.source
    if source is None or source in NAMED or "://" in source:
        return config
    if not Path(source).exists() and not is_shards(source):
        if resume:
            raise UserError(
                f"the data of this run, {source}, is not there; if it has moved, go on with "
                f"--resume {resume} -o data.source=PATH"
            )
        return config  # what else it might be will be told where it is looked for
    absolute = config.data.model_copy(update={"source": str(Path(source).resolve())})
    return config.model_copy(update={"data": absolute})


def base_name(path: str | Path) -> str:
    """What a run or its samples are called by default."""
    name = re.sub(r"-*[{}*?]+", "-", Path(path).name)  # of shards' patterns
    return re.sub(r"\.(zip|tar|tgz|tar\.\w+|np[yz]|safetensors)$", "", name).strip("-") or "run"


def check_start(config: Config, run_dir: Path) -> None:
    """What can be refused before any work is done, by `--dry-run` too."""
    from progan.runs import check_run_dir
    from progan.schedule import check_batches
    from progan.tracking import check_tracker

    check_batches(config.make_schedule(), processes(), config.network.stddev_group)
    check_tracker(config.run.tracker)
    check_run_dir(run_dir, config)


def preview(config: Config) -> None:
    """What `--dry-run` prints."""
    from progan.build import make_costs, make_loss, make_networks
    from progan.distributed import make_accelerator
    from progan.preview import phase_table

    schedule = config.make_schedule()
    accelerator = make_accelerator(Path("."), None)
    G, D = make_networks(config, 0, accelerator.device)
    costs = make_costs(config, make_loss(config), schedule, G, D, accelerator)
    if is_main():
        click.echo(config.to_yaml())
        click.echo(phase_table(schedule, costs))


def start(config: Config, run_dir: Path, download: bool) -> None:
    """Prepare the data, train, say how to go on."""
    from progan.build import open_data
    from progan.distributed import make_accelerator
    from progan.machine import device_name
    from progan.runs import lock_run
    from progan.stopping import StopRequest, ended_by_signals
    from progan.trainer import Trainer

    with ended_by_signals("stopped, nothing is lost; the same command goes on"):
        data = open_data(config, download, lambda line: click.echo(line, err=True))
    with lock_run(run_dir) if is_main() else nullcontext(), StopRequest() as stop:
        accelerator = make_accelerator(run_dir, config.run.tracker)
        if is_main():
            click.echo(f"{data.count:,} images of {config.data.source}; run folder {run_dir}")
            if config.data.labels:
                kind = "attributes" if data.labels.ndim == 2 else "classes"
                click.echo(f"{len(data.classes)} {kind}: {', '.join(data.classes)}")
            click.echo(f"samples while it trains: {run_dir / 'images'}")
            if config.run.tracker == "tensorboard":
                click.echo(f"curves and samples: tensorboard --logdir {run_dir}")
        trainer = Trainer(config, data, run_dir, accelerator, stop)
        if is_main():
            count = f"{processes()} x " if processes() > 1 else ""
            name = device_name(accelerator.device)
            click.echo(f"on {count}{name}, in {trainer.step.precision}")
        complete = trainer.run()
    if is_main():
        where = shlex.quote(str(run_dir))
        if complete:
            click.echo(f"done; make images with: progan sample {where} --grid")
        else:
            click.echo(f"stopped, nothing is lost; go on with: progan train --resume {where}")
    accelerator.end_training()
    if not complete and stop.signal == signal.SIGINT:
        sys.exit(130)


@main.command()
@click.argument("source", metavar="RUN|SNAPSHOT", type=PathOption())
@click.option("--seeds", help="Such as 0-63 or 1,5,8-11. [default: those of training's grids]")
@click.option("--out", type=PathOption(), metavar="DIR", help="[default: samples-of-RUN]")
@click.option("--grid", "as_grid", is_flag=True, help="One picture instead of one a seed.")
@click.option(
    "--class",
    "class_name",
    metavar="K",
    help="Number or name of a class; of attributes those to have, all others off: Smiling,Male",
)
def sample(
    source: Path, seeds: str | None, out: Path | None, as_grid: bool, class_name: str | None
) -> None:
    """Make images from the averaged generator of a run (its newest snapshot) or a snapshot file.

    A seed always gives the same image. A run with classes makes one of each class for a seed, in
    a grid a row a class. A run with attributes gives each seed those of an image of the data.
    """
    from progan.checkpoint import find_snapshot, load_snapshot
    from progan.sampling import parse_seeds, write_samples

    if not is_main():
        return
    numbers = None if seeds is None else parse_seeds(seeds)
    snapshot = load_snapshot(find_snapshot(source))
    out = out or Path(f"samples-of-{base_name(source.resolve())}")
    for line in write_samples(snapshot, numbers, class_name, out, as_grid):
        click.echo(line)


@main.command()
@CONFIG
@OVERRIDES
@click.option(
    "--plot",
    "plot_file",
    type=PathOption(),
    metavar="FILE.png",
    help="Draw resolution, alpha, batch size and rates over images shown.",
)
def schedule(config_name: str | None, overrides: tuple[str, ...], plot_file: Path | None) -> None:
    """Print the phases of a schedule, and plot it over images shown."""
    from progan.preview import phase_table, plot

    made = load_config(config_name, list(overrides)).make_schedule()
    click.echo(phase_table(made))
    if plot_file:
        plot(made, plot_file)
        click.echo(f"plotted in {plot_file}")
