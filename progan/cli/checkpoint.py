"""The command `progan checkpoint verify`: whether a run's files are undamaged."""

import sys
from collections.abc import Callable
from pathlib import Path

import click

from progan.cli.options import PathOption
from progan.runtime.errors import UserError, brief
from progan.runtime.text import human_bytes


@click.group()
def checkpoint() -> None:
    """Check the files of a run."""


@checkpoint.command()
@click.argument("run", metavar="RUN", type=PathOption())
def verify(run: Path) -> None:
    """Read all checkpoints, snapshots and kept averages of a run and verify their checksums.

    Exit code 2 if one is damaged. Training goes on from the newest checkpoint that is whole.
    """
    from progan.runs.averages import average_files, read_averages
    from progan.runs.checkpoint import checkpoints_of, read
    from progan.runs.snapshot_file import load_snapshot
    from progan.runs.which_run import other_run
    from progan.runs.which_snapshot import snapshots_of

    snapshots = [f for kind in ("snapshot", "best", "average") for f in snapshots_of(run, kind)]
    readers: dict[Path, Callable[[Path], object]] = dict.fromkeys(checkpoints_of(run), read)
    readers |= dict.fromkeys(snapshots, load_snapshot)
    readers |= dict.fromkeys(average_files(run), read_averages)
    if not readers:
        raise UserError(
            f"{run} has no checkpoints and no snapshots; give a run that has trained"
            f"{other_run(run)}"
        )
    damaged = 0
    for path, reader in readers.items():
        try:
            reader(path)
            click.echo(f"{path}: whole, {human_bytes(path.stat().st_size)}")
        except Exception as error:  # damage may raise anything
            damaged += 1
            click.echo(f"{path}: DAMAGED: {brief(error)}")
    if damaged:
        click.echo(f"{damaged} of {len(readers)} files are damaged", err=True)
        sys.exit(2)
