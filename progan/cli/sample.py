"""The command progan sample."""

from pathlib import Path

import click

from progan.cli.options import DEVICE, PathOption
from progan.runs.folder import base_name
from progan.runtime.launch import is_main


@click.command()
@click.argument("source", metavar="RUN|SNAPSHOT", type=PathOption())
@click.option(
    "--seeds", help="For example 0-63 or 1,5,8-11. [default: those of the grids in training]"
)
@click.option(
    "--out",
    type=PathOption(),
    metavar="DIR|FILE",
    help="A folder, or with --grid or a single seed a picture such as x.png. "
    "[default: samples-of-RUN]",
)
@click.option(
    "--grid", "as_grid", is_flag=True, help="One picture instead of one file for each seed."
)
@click.option(
    "--class",
    "class_name",
    metavar="NAME",
    help="Name of a class, or its number if no name is a number; or the attributes to switch on, "
    "all others off: Smiling,Male",
)
@DEVICE
def sample(
    source: Path,
    seeds: str | None,
    out: Path | None,
    as_grid: bool,
    class_name: str | None,
    device: str,
) -> None:
    """Make images from the averaged generator of a run (its newest snapshot) or a snapshot file.

    A seed always gives the same image. With classes, each seed makes one image of every class; a
    grid has a row for each class. With attributes, each seed has those of an image of the data.
    """
    from progan.cli.options import check_picture, parse_seeds
    from progan.runs.samples import SUFFIXES, is_picture, write_samples
    from progan.runs.snapshot_file import find_snapshot, load_snapshot
    from progan.runtime.device import take_device

    if not is_main():
        return
    numbers = None if seeds is None else parse_seeds(seeds)
    if out and is_picture(out):
        check_picture(out, "--out", SUFFIXES)
    where = take_device(device)
    snapshot = load_snapshot(find_snapshot(source))
    out = out or Path(f"samples-of-{base_name(source.resolve())}")
    for line in write_samples(snapshot, numbers, class_name, out, as_grid, where):
        click.echo(line)
