"""The group of all commands, and how mistakes are shown.

Heavy imports are inside the commands, so `progan --help` is instant."""

import logging
import sys
from typing import Any

import click

from progan import __version__
from progan.cli.balance import balance
from progan.cli.bench import bench
from progan.cli.checkpoint import checkpoint
from progan.cli.compare import compare
from progan.cli.config import config
from progan.cli.data import data
from progan.cli.doctor import doctor
from progan.cli.evaluate import evaluate
from progan.cli.hints import explained
from progan.cli.neighbours import neighbours
from progan.cli.sample import sample
from progan.cli.schedule import schedule
from progan.cli.train import train
from progan.runtime.errors import LostProcessError, UserError, brief
from progan.runtime.launch import NEEDED, by_hand, let_threads_sleep, prints_errors, processes, rank
from progan.runtime.output import guard_output
from progan.runtime.stopping import ended_by_signals
from progan.runtime.text import printable

SHORT_MEMORY = "close other programs that use it, or choose a smaller resolution or batch"


class Commands(click.Group):
    """Shows a user's mistake as one message, with exit code 2."""

    def main(self, *arguments: Any, **more: Any) -> Any:
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
            if error.filename is None:  # not about a file or folder: nothing a user could mend
                raise
            message = f"{printable(str(error.filename))}: {error.strerror}"
        except (RuntimeError, MemoryError) as error:
            from progan.runtime.memory import is_short

            if not is_short(error):
                raise
            message = f"out of memory ({brief(error)}); {SHORT_MEMORY}"
        if shown:
            lines = map(printable, message.split("\n"))  # names in files may be anything
            click.echo("Error: " + "\n".join(lines), err=True)
        sys.exit(2)


SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "color": True,  # else click drops what looks like colours from names; `Output` escapes it
}


@click.group(cls=Commands, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="progan")
def main() -> None:
    """Progressive-growing GANs: train, resume, sample.

    \b
    progan doctor                        does this machine train correctly?
    progan train --data demo             train on the embedded cartoon faces
    progan sample runs/demo --grid       a grid of what it learned
    progan neighbours runs/demo          does it memorize?
    progan train --data FOLDER           train on your own images
    progan data info FOLDER              what is in it, and can it be used?
    progan config                        all settings, and what they mean
    progan balance runs/faces            does it exaggerate what its data has?
    progan bench --config celeba         how fast is this machine?
    progan evaluate runs/demo            how good is it?
    progan compare runs/a runs/b         which is better?
    """
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
    *(balance, bench, checkpoint, compare, config, data, doctor, evaluate, neighbours, sample),
    *(schedule, train),
):
    main.add_command(command)
