"""The command `progan checkpoint verify`: whether a run's files are undamaged."""

import sys
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
    """Read all checkpoints and snapshots of a run and verify their checksums.

    Exit code 2 if one is damaged. Training goes on from the newest checkpoint that is whole.
    """
    from progan.runs.checkpoint import checkpoints_of, read
    from progan.runs.snapshot_file import load_snapshot, snapshots_of
    from progan.runs.which_run import other_run

    snapshots = snapshots_of(run) + snapshots_of(run, "best")
    readers = dict.fromkeys(checkpoints_of(run), read) | dict.fromkeys(snapshots, load_snapshot)
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
