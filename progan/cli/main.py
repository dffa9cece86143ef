"""The commands. Heavy imports are inside them, so `progan --help` is instant."""

import io
import logging
import sys
from typing import Any

import click

from progan import __version__
from progan.cli.balance import balance
from progan.cli.bench import bench
from progan.cli.checkpoint import checkpoint
from progan.cli.compare import compare
from progan.cli.data import data as data_commands
from progan.cli.doctor import doctor
from progan.cli.evaluate import evaluate
from progan.cli.neighbours import neighbours
from progan.cli.sample import sample
from progan.cli.schedule import schedule
from progan.cli.train import train
from progan.runtime.errors import LostProcessError, UserError, brief
from progan.runtime.launch import let_threads_sleep, speaks
from progan.runtime.text import printable

SHORT_MEMORY = "close other programs that use it, or choose a smaller resolution or batch"


class Commands(click.Group):
    """Shows mistakes of the user's as one message with exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        tells = speaks()  # one message a machine, however many processes made the same mistake
        try:
            return super().invoke(ctx)
        except UserError as error:
            message = str(error)
            tells = tells or isinstance(error, LostProcessError)
        except OSError as error:
            if error.filename is None:  # not of a file or folder: nothing a user could mend
                raise
            message = f"{error.filename}: {error.strerror}"
        except (RuntimeError, MemoryError) as error:
            from progan.runtime.memory import is_short

            if not is_short(error):
                raise
            message = f"out of memory ({brief(error)}); {SHORT_MEMORY}"
        if tells:
            lines = map(printable, message.split("\n"))  # a stranger's file may name anything
            click.echo("Error: " + "\n".join(lines), err=True)
        sys.exit(2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="progan")
def main() -> None:
    """Progressive-growing GANs: train, resume, sample.

    \b
    progan doctor                        does this machine train right?
    progan train --data demo             train on the embedded cartoon faces
    progan sample runs/demo --grid       a grid of what it learned
    progan neighbours runs/demo          does it memorize?
    progan train --data FOLDER           train on your own images
    progan data info FOLDER              what is in it, and is it fit?
    progan balance runs/faces            does it amplify what its data has?
    progan bench --config celeba         how fast is this machine?
    progan evaluate runs/demo            how good is it?
    progan compare runs/a runs/b         at equal images and hours, which is better?
    """
    let_threads_sleep()
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name may be no text
        sys.stdout.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("progan").setLevel(logging.INFO)


main.add_command(data_commands)
main.add_command(balance)
main.add_command(bench)
main.add_command(checkpoint)
main.add_command(compare)
main.add_command(doctor)
main.add_command(evaluate)
main.add_command(neighbours)
main.add_command(sample)
main.add_command(schedule)
main.add_command(train)
