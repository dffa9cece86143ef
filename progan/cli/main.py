"""The group of all commands, and how mistakes are shown.

Heavy imports are inside the commands, so `progan --help` is instant."""

import errno
import logging
import os
import sys
from typing import Any

import click

from progan import __version__
from progan.cli.average import average
from progan.cli.balance import balance
from progan.cli.bench import bench
from progan.cli.checkpoint import checkpoint
from progan.cli.clean import clean
from progan.cli.compare import compare
from progan.cli.config import config
from progan.cli.data import data
from progan.cli.doctor import doctor
from progan.cli.evaluate import evaluate
from progan.cli.explore import explore
from progan.cli.export import export_command
from progan.cli.find_rate import find_rate
from progan.cli.hints import explained
from progan.cli.import_ import import_
from progan.cli.neighbours import neighbours
from progan.cli.project import project
from progan.cli.push import push
from progan.cli.report import report
from progan.cli.runs import runs
from progan.cli.sample import sample
from progan.cli.schedule import schedule
from progan.cli.show import show
from progan.cli.timelapse import timelapse
from progan.cli.train import train
from progan.cli.video import video
from progan.runtime.errors import LostProcessError, UserError, brief
from progan.runtime.launch import NEEDED, by_hand, let_threads_sleep, prints_errors, processes, rank
from progan.runtime.output import guard_output
from progan.runtime.stopping import ended_by_signals
from progan.runtime.text import printable

FULL = (errno.ENOSPC, errno.EDQUOT)
SHORT_MEMORY = "close other programs that use it, or choose a smaller resolution or batch"


class Commands(click.Group):
    """Shows a user's mistake as one message, with exit code 2."""

    def main(self, *arguments: Any, **more: Any) -> Any:
        if "_PROGAN_COMPLETE" not in os.environ:  # a shell asks for completions, as bytes
            guard_output()
        return super().main(*arguments, **more)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise explained(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        shown = prints_errors()  # one message per machine, however many processes make the mistake
        try:
            with ended_by_signals("stopped"):
                return super().invoke(ctx)
        except click.UsageError as error:
            raise explained(error) from None
        except UserError as error:
            message = str(error)
            shown = shown or isinstance(error, LostProcessError)
        except OSError as error:
            place = f"{printable(str(error.filename))}: " if error.filename is not None else ""
            if not place and error.errno not in FULL:  # nothing that a user could mend
                raise
            message = f"{place}{error.strerror}"
        except (RuntimeError, MemoryError) as error:
            from progan.runtime.memory import is_short

            if not is_short(error):
                raise
            message = f"out of memory ({brief(error)}); {SHORT_MEMORY}"
        if shown:
            lines = map(printable, message.split("\n"))  # names in files may be anything
            click.echo("Error: " + "\n".join(lines), err=True)
        sys.exit(2)


SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "color": True,  # else click drops what looks like colours from names; `Output` escapes it
}


@click.group(cls=Commands, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="progan")
def main() -> None:
    """Progressive-growing GANs: train, resume, sample.

    \b
    progan sample demo --grid            faces by a network that comes with progan
    progan doctor                        does this machine train correctly?
    progan train --data demo             train on the embedded cartoon faces
    progan data info FOLDER              what is in it, and can it be used?
    progan train --data FOLDER           train on your own images
    progan config                        all settings, and what they mean
    progan find-rate --data FOLDER       which learning rate?
    progan bench --config celeba         how fast is this machine?
    progan runs                          which runs are there, and how far is each?
    progan show runs/demo                a page of one
    progan clean runs/demo               what of it can be deleted?
    progan sample runs/demo --grid       a grid of what it learned
    progan video runs/demo               a walk through what it learned
    progan timelapse runs/demo           how it learned
    progan explore runs/demo             move through what it learned, in the browser
    progan project runs/faces a.png      which of its images is nearest to this one?
    progan evaluate runs/demo            how good is it?
    progan compare runs/a runs/b         which is better?
    progan neighbours runs/demo          does it memorize?
    progan balance runs/faces            does it exaggerate what its data has?
    progan average runs/faces --sweep    which length of average is best? (ema.kind=power)
    progan report runs/demo              a page about it, and a model card
    progan export RUN --to onnx --out X  a file for other programs
    progan push runs/demo user/faces     onto the Hugging Face Hub
    progan import FILE --out SNAPSHOT    weights that other projects have trained
    """
    try:
        os.getcwd()
    except OSError as error:  # torch would end the process, with another reason
        raise UserError(
            f"the current folder cannot be used ({error.strerror}); change to another one"
        ) from None
    let_threads_sleep()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("progan").setLevel(logging.INFO)
    if by_hand():
        click.echo(
            f"this is process {rank()} of {processes()}, as RANK and WORLD_SIZE are set in the "
            f"environment; for one process: unset {' '.join(NEEDED)}",
            err=True,
        )


for command in (
    *(average, balance, bench, checkpoint, clean, compare, config, data, doctor, evaluate),
    *(explore, export_command, find_rate, import_, neighbours, project, push, report, runs),
    *(sample, schedule, show, timelapse, train, video),
):
    main.add_command(command)
