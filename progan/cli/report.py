"""The command `progan report`: a page about a run, and a model card."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from progan.cli.options import PathOption, default_out, say
from progan.runtime.disk import replacing
from progan.runtime.launch import is_main
from progan.runtime.text import human_bytes

if TYPE_CHECKING:
    import numpy as np

SEEDS = 8  # next to their nearest training images


@click.command()
@click.argument("run", metavar="RUN", type=PathOption())
@click.option(
    "--out",
    type=PathOption(),
    metavar="DIR|FILE.html",
    help="A folder for the page and a model card, or the page alone. [default: report-of-RUN]",
)
@click.option(
    "--neighbours",
    is_flag=True,
    help="Show samples next to their nearest training images. Opens the data of the run, and puts "
    "some training images into the page.",
)
def report(run: Path, out: Path | None, neighbours: bool) -> None:
    """Write a page about a run, and a model card to publish it with.

    The page, report.html, has samples, a timelapse, curves, metrics, data, schedule and
    environment. It is one file: it opens from disk, on a phone, too, and loads nothing. The card,
    README.md, is for Hugging Face. What only you can know is marked "To fill in".

    \b
    progan report runs/demo
    progan report runs/demo --out demo.html
    """
    if not is_main():
        return
    from progan.outputs.report import check_out, make_report, write_report
    from progan.runs.folder import read_config

    read_config(run, [])  # what is no run is told before what --out would replace
    files = check_out(out or default_out("report", run))
    note = replacing(files)
    made = make_report(run, neighbours_of(run) if neighbours else None, say)
    write_report(made, files)
    written = [path for path in files if path.exists()]
    sizes = ", ".join(f"{path} {human_bytes(path.stat().st_size)}" for path in written)
    todo = made.page.count("To fill in:")
    click.echo(f"a report: {sizes}{note}; {todo} places are marked To fill in")


def neighbours_of(run: Path) -> "np.ndarray":
    """Samples of the newest snapshot beside the training images nearest to them: uint8 [3, H, W].

    Raises:
        UserError: there is no snapshot, or the data cannot be opened.
    """
    from contextlib import closing

    from progan.cli.neighbours import picture_of
    from progan.metrics.reference_data import open_reference_data
    from progan.runs.snapshot_file import load_snapshot
    from progan.runs.which_snapshot import find_snapshot
    from progan.runtime.device import take_device

    snapshot = load_snapshot(find_snapshot(run))
    with closing(open_reference_data(snapshot, None, say)) as images:
        title, seeds = f"{snapshot.nimg / 1000:g} kimg", list(range(SEEDS))
        return picture_of(title, snapshot, images, seeds, None, take_device("auto"))
