"""The commands of `progan data`: what there is, what it is like, and preparing it."""

import os
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from progan.cli.options import BoxOption, PathOption, ResolutionOption
from progan.runtime.errors import UserError
from progan.runtime.stopping import ended_by_signals

if TYPE_CHECKING:
    from progan.data.pyramid.format import Pyramid
    from progan.data.sources.source import Source

ROOT = click.option(
    "--root",
    type=PathOption(),
    metavar="DIR",
    help="Where known data sets are kept. [default: $PROGAN_DATA, else ./data]",
)
WORKERS = click.option(
    "--workers",
    type=click.IntRange(0, 1024),
    metavar="N",
    help="Processes that decode images. [default: one a core]",
)


@click.group()
def data() -> None:
    """Look at data sets, and prepare them for training.

    \b
    progan data list                     data sets with a name, and where they are looked for
    progan data info ./photos            what is in a folder, a zip, …
    progan data prepare ./photos ./made  a folder that progan train --data ./made takes
    """
    warnings.filterwarnings("ignore", module="PIL")  # they name no file; what is bad is told


@data.command()
@click.argument("source")
@click.argument("dest", type=PathOption())
@click.option(
    "--max-resolution",
    type=ResolutionOption(),
    metavar="R",
    help="Largest level to build, a power of two 4 … 1024. "
    "[default: the largest that nearly all images have]",
)
@click.option("--channels", type=click.Choice(["1", "3"]), default="3", show_default=True)
@click.option("--labels", is_flag=True, help="Keep classes or attributes, to train on them.")
@click.option(
    "--crop",
    type=BoxOption(),
    metavar="X,Y,SIZE",
    help="Take this square of every image. [default: the largest at its centre]",
)
@click.option("--pad", is_flag=True, help="Take whole images, with black bars.")
@click.option("--allow-upscale", is_flag=True, help="Enlarge images that are too small.")
@click.option(
    "--storage",
    type=click.Choice(["auto", "raw", "png"]),
    default="auto",
    show_default=True,
    help="Levels from 256: raw arrays, PNG, or by the space that is free.",
)
@click.option(
    "--max-bad",
    type=click.IntRange(0),
    default=100,
    show_default=True,
    help="Images that may be bad and are left out.",
)
@click.option("--max-images", type=click.IntRange(1), metavar="N", help="Only the first N.")
@WORKERS
@ROOT
@click.option("--download", is_flag=True, help="Let torchvision fetch a known data set.")
def prepare(source: str, dest: Path, **options: Any) -> None:
    """Make SOURCE, a known data set or a path, into a folder DEST that `progan train` takes.

    It has every image at every resolution from 4x4. Ctrl-C loses nothing: the same command goes
    on. What it writes: docs/data.md.
    """
    if options["crop"] and options["pad"]:
        raise UserError("--crop takes a square of every image and --pad all of it: give one")
    with ended_by_signals("stopped, nothing is lost; the same command goes on"):
        prepare_into(dest, source, **options)


def prepare_into(
    dest: Path,
    name: str,
    *,
    max_resolution: int | None,
    channels: str,
    crop: tuple[int, int, int] | None,
    pad: bool,
    allow_upscale: bool,
    **options: Any,
) -> None:
    from progan.data.decode import Square
    from progan.data.info.report import train_command
    from progan.data.info.resolution import choose_resolution
    from progan.data.pyramid.prepare import prepare

    labels, max_bad = options["labels"], options["max_bad"]
    source = open_source(name, labels, options["root"], options["max_images"], options["download"])
    fit = crop or ("pad" if pad else "crop")
    if max_resolution is None:
        max_resolution, why = choose_resolution(source, fit, max_bad)
        click.echo(why)
    elif crop and crop[2] < max_resolution and not allow_upscale:
        raise UserError(
            f"--crop takes squares of {crop[2]} pixels, and --max-resolution is {max_resolution}; "
            "take larger ones, a smaller resolution, or --allow-upscale"
        )
    there = (dest / "meta.json").exists()
    pyramid = prepare(
        source,
        dest,
        Square(max_resolution, int(channels), fit, allow_upscale),
        storage=options["storage"],
        max_bad=max_bad,
        workers=options["workers"],
        say=click.echo,
    )
    state = "has been prepared already" if there else "is prepared"
    click.echo(
        f"{dest} {state}: {pyramid.count:,} images from 4x4 to {max_resolution}x{max_resolution}"
    )
    click.echo(f"train on it with: {train_command(dest, max_resolution, int(channels), labels)}")


def open_source(
    name: str, labels: bool, root: Path | None, limit: int | None = None, download: bool = False
) -> "Source":
    """The images that are no pyramid yet. UserError if there are none."""
    from progan.data.pyramid.format import is_pyramid
    from progan.data.sources.bit_depth import warn_of_darkness
    from progan.data.sources.find import NAMED, find
    from progan.data.sources.shards import from_shards, is_shards
    from progan.runtime.cache import lock

    if not name:
        raise UserError("SOURCE is empty; give a name, or the path of a folder or zip of images")
    if name not in NAMED and is_pyramid(Path(name).expanduser()):
        raise UserError(f"{name} is a prepared folder, no source: train with --data {name}")
    if name not in NAMED and not Path(name).expanduser().exists() and is_shards(name):
        if limit:
            raise UserError("--max-images is not for shards; name fewer of them")
        return from_shards(name, labels=labels, say=click.echo)
    with lock("download", None) if download else nullcontext():
        found = find(name, root=root, labels=labels, download=download, limit=limit)
    warn_of_darkness(found)
    return found


@data.command("list")
@ROOT
def list_known(root: Path | None) -> None:
    """Known data sets: what they need, where that is looked for, whether it is there."""
    from progan.data.info.report import known_report

    where = root or Path(os.environ.get("PROGAN_DATA") or "data")
    say(known_report(where, root))


@data.command()
@click.argument("source", metavar="PATH|NAME")
@click.option("--labels", is_flag=True, help="Insist on labels: say what is wrong with them.")
@click.option(
    "--sheet",
    type=PathOption(),
    metavar="FILE.png",
    help="Draw a contact sheet of evenly spaced images; with classes a row each.",
)
@WORKERS
@ROOT
def info(
    source: str, labels: bool, sheet: Path | None, workers: int | None, root: Path | None
) -> None:
    """What is in a source, or in a prepared folder: sizes, kinds, bad images, labels, disk space.

    Every image of a source is read to its end, as training would.
    """
    from progan.data.info.contact_sheet import check_sheet
    from progan.data.info.report import pyramid_report, unfinished_report
    from progan.data.pyramid.format import JOURNAL, Pyramid, is_pyramid
    from progan.data.sources.find import NAMED

    path = Path(source).expanduser()
    if sheet:
        check_sheet(sheet, None if source in NAMED else path)
    if source in NAMED or not is_pyramid(path):
        info_of_source(source, labels, sheet, workers, root)
    elif (path / JOURNAL).exists() and not (path / "meta.json").exists():
        say(unfinished_report(path))
    else:
        pyramid = Pyramid.open(path)
        say(pyramid_report(pyramid))
        draw_sheet(sheet, pyramid, range(pyramid.count))
        pyramid.close()


def info_of_source(
    name: str, labels: bool, sheet: Path | None, workers: int | None, root: Path | None
) -> None:
    from progan.data.info.report import source_report
    from progan.data.info.survey import survey

    why_not = ""
    try:
        source = open_source(name, True, root)
    except UserError as error:
        if labels:
            raise
        source = open_source(name, False, root)
        why_not = str(error).removeprefix("data.labels: ")
    seen = survey(source, workers, click.echo)
    say(source_report(name, source, seen, why_not))
    draw_sheet(sheet, source, [i for i in range(len(source)) if i not in seen.bad])


def draw_sheet(path: Path | None, data: "Source | Pyramid", good: Sequence[int]) -> None:
    from progan.data.info.contact_sheet import reader_of, rows_of, write_sheet

    if path and good:
        write_sheet(path, rows_of(good, data.labels), reader_of(data))
        rows = "; a row a class" if data.labels and data.labels.kind == "classes" else ""
        click.echo(f"contact sheet: {path}{rows}")


def say(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
