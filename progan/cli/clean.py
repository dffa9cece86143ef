"""The command `progan clean`: what can be deleted of runs and of the cache, with sizes."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from progan.cli.options import PathOption
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main
from progan.runtime.text import human_bytes, printable, table

if TYPE_CHECKING:
    from progan.runs.spare import Spare


@click.command()
@click.argument("folders", metavar="[RUN]…", nargs=-1, type=PathOption())
@click.option(
    "--cache",
    is_flag=True,
    help="Instead of runs, clean the cache: prepared data that no run in the given folders (by "
    "default runs) uses, and compiled code.",
)
@click.option("--yes", is_flag=True, help="Delete it; without this, it is only listed.")
def clean(folders: tuple[Path, ...], cache: bool, yes: bool) -> None:
    """List what can be deleted, with sizes; delete it with --yes.

    Of a run: checkpoints older than the newest, snapshots older than the newest, and damaged or
    half-written files. Best snapshots, averages, grids, curves and records stay. Older snapshots
    show how the run grew; without them only the grids do. A run that is running is left alone.

    \b
    progan clean runs/demo
    progan clean runs/demo --yes
    progan clean --cache
    progan clean --cache runs ../other/runs
    """
    if not is_main():
        return
    if cache:
        found = list(in_cache(folders or (Path("runs"),), yes))
    elif folders:
        found = list(in_runs(folders, yes))
    else:
        raise UserError("what to clean? give a run, such as runs/demo, or --cache")
    if not found:
        click.echo("nothing to delete")
        return
    rows = [(printable(str(path)), human_bytes(size), why) for path, size, why in found]
    click.echo(table(rows, left=(0, 2)))
    total = human_bytes(sum(spare.size for spare in found))
    if yes:
        click.echo(f"deleted: {total}")
        return
    words = shlex.join(["--cache"] * cache + [str(folder) for folder in folders])
    click.echo(f"{total}; nothing is deleted yet. To delete it: progan clean {words} --yes")


def in_runs(folders: tuple[Path, ...], yes: bool) -> "Iterator[Spare]":
    """What can go of runs; deleted if `yes`."""
    from progan.runs.folder import read_config
    from progan.runs.spare import spare_in_run

    for run in folders:
        read_config(run, [])  # raises what there is to say of another folder
    for run in folders:
        yield from spare_in_run(run, delete=yes)


def in_cache(folders: tuple[Path, ...], yes: bool) -> "Iterator[Spare]":
    """What can go of the cache; deleted if `yes`."""
    from progan.runs.spare_cache import is_deleted, spare_in_cache
    from progan.runs.summary import summary_of
    from progan.runs.which_run import runs_below
    from progan.runtime.cache import cache_folder

    for folder in folders:
        if not folder.is_dir():
            raise UserError(
                f"there is no folder {folder}; give the one in which your runs are, so that what "
                "they use is kept. (All of the cache may go at any time: it is made again)"
            )
    runs = [summary_of(run) for folder in folders for run in runs_below(folder)]
    click.echo(
        f"cache: {cache_folder(None)}. What runs in {', '.join(map(str, folders))} use "
        f"({len(runs):,} found) is kept; runs elsewhere would prepare their data again"
    )
    for spare in spare_in_cache(runs):
        if not yes or is_deleted(spare):
            yield spare
