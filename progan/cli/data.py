"""The commands of `progan data`: list known sets, inspect images, prepare them."""

import warnings
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from progan.cli.options import CheckedOption, PathOption, to_box, to_resolution
from progan.config.settings import DataConfig
from progan.config.value_types import check_colour
from progan.runtime.disk import replacing
from progan.runtime.errors import UserError
from progan.runtime.paths import to_path
from progan.runtime.stopping import ended_by_signals

if TYPE_CHECKING:
    from progan.data.pyramid.format import Pyramid
    from progan.data.sources.source import Source

ROOT = click.option(
    "--root",
    type=PathOption(),
    metavar="DIR",
    help="Folder of the known data sets. [default: $PROGAN_DATA, else ./data]",
)
LABEL_LEVEL = click.option(
    "--label-level",
    type=click.IntRange(1),
    metavar="N",
    help="Take classes from the Nth level of folders. [default: chosen, and said]",
)
WORKERS = click.option(
    "--workers",
    type=click.IntRange(0, 1024),
    metavar="N",
    help="Number of processes that decode images. [default: one per core]",
)


@click.group()
def data() -> None:
    """Inspect data sets, and prepare them for training.

    \b
    progan data list                     known data sets, and where their files go
    progan data info ./photos            what is in a folder, a zip, …
    progan data prepare ./photos ./made  prepare it for progan train --data ./made
    """
    warnings.filterwarnings("ignore", module="PIL")  # they name no file; we report bad images


@data.command()
@click.argument("source")
@click.argument("dest", type=PathOption())
@click.option(
    "--max-resolution",
    type=CheckedOption("resolution", to_resolution),
    metavar="R",
    help="Largest resolution to prepare, a power of two 4 … 1024. "
    "[default: the largest that nearly all images have]",
)
@click.option(
    "--channels",
    type=click.Choice(["1", "3"]),
    default="3",
    show_default=True,
    help="3 for colour, 1 for grey.",
)
@click.option("--labels", is_flag=True, help="Keep classes or attributes, to train on them.")
@LABEL_LEVEL
@click.option(
    "--crop",
    type=CheckedOption("box", to_box),
    metavar="X,Y,SIZE",
    help="Take this square of every image. [default: the largest in the centre]",
)
@click.option("--pad", is_flag=True, help="Pad images to squares with black bars instead.")
@click.option("--allow-upscale", is_flag=True, help="Enlarge images smaller than the resolution.")
@click.option(
    "--background",
    type=CheckedOption("colour", check_colour),
    default="white",
    show_default=True,
    metavar="COLOUR",
    help="Lay transparent images over this: white, black or '#rrggbb'.",
)
@click.option(
    "--storage",
    type=click.Choice(["auto", "raw", "png"]),
    default="auto",
    show_default=True,
    help="Format of images from 256x256 upward: raw arrays, PNG, or by free disk space.",
)
@click.option(
    "--max-bad",
    type=click.IntRange(0),
    default=DataConfig().max_bad,
    show_default=True,
    metavar="N",
    help="Number of bad images that may be left out.",
)
@click.option(
    "--drop-copies",
    is_flag=True,
    help="Leave out all but the first of images that are exactly equal.",
)
@click.option("--max-images", type=click.IntRange(1), metavar="N", help="Use only the first N.")
@WORKERS
@ROOT
@click.option("--download", is_flag=True, help="Let torchvision fetch a known data set.")
def prepare(
    source: str,
    dest: Path,
    max_resolution: int | None,
    channels: str,
    crop: tuple[int, int, int] | None,
    pad: bool,
    download: bool,
    **settings: Any,
) -> None:
    """Prepare SOURCE, a known data set or a path, in the folder DEST for training.

    Writes every image at every resolution from 4x4 upward, as docs/data.md describes. Ctrl-C loses
    nothing: the same command goes on.
    """
    if crop and pad:
        raise UserError("--crop takes a square of every image, --pad all of it; give one of them")
    fit = list(crop) if crop else "pad" if pad else "crop"
    data = settings_of(source, fit=fit, **settings)
    with ended_by_signals("stopped, nothing is lost; the same command goes on"):
        prepare_into(dest, data, max_resolution, int(channels), download)


def prepare_into(
    dest: Path, data: DataConfig, resolution: int | None, channels: int, download: bool
) -> None:
    """Prepares the images that `data.source` names in `dest`."""
    from progan.data.info.advice import commands
    from progan.data.info.resolution import choose_resolution
    from progan.data.opening import preparation, say_what_is_read, square_of
    from progan.data.pyramid.prepare import prepare

    source = open_source(data, download)
    say_what_is_read(source, data, click.echo)
    square = square_of(data, resolution or 4, channels)
    if resolution is None:
        resolution, why = choose_resolution(source, square.fit, data.max_bad)
        square = square_of(data, resolution, channels)
        click.echo(why)
    elif not isinstance(square.fit, str) and square.fit[2] < resolution and not square.upscale:
        raise UserError(
            f"--crop takes squares of {square.fit[2]} pixels, and --max-resolution is "
            f"{resolution}; take larger ones, a smaller resolution, or --allow-upscale"
        )
    state = "has been prepared already" if (dest / "meta.json").exists() else "is prepared"
    pyramid = prepare(source, dest, square, say=click.echo, **preparation(data))
    size = f"{resolution}x{resolution}"
    click.echo(f"{dest} {state}: {pyramid.count:,} images from 4x4 to {size}")
    use = "-o data.labels=true" if data.labels else ""
    lines = commands(dest, pyramid.count, resolution, channels, use, has_gpu())
    for what, command in zip(lines, lines, strict=True):  # in pairs
        click.echo(f"to train on it, {what} {command}")


def settings_of(name: str, **settings: Any) -> DataConfig:
    """The data section for a source called `name`; --label-level asks for labels."""
    if not name:
        raise UserError("SOURCE is empty; give a name, or the path of a folder or zip of images")
    settings["labels"] = settings["labels"] or bool(settings["label_level"])
    return DataConfig().model_copy(update={"source": name, **settings})


def open_source(data: DataConfig, download: bool = False) -> "Source":
    """Images that are not prepared yet, or a UserError if there are none."""
    from progan.data.opening import find_data
    from progan.data.pyramid.format import Pyramid
    from progan.data.sources.bit_depth import warn_of_darkness

    # Of shards, training keeps no images and refuses settings of what is kept; `prepare` does.
    to_find = data.model_copy(update={"storage": "auto", "drop_copies": False})
    found = find_data(to_find, download, click.echo, known=True)
    if isinstance(found, Pyramid):
        name = data.source
        raise UserError(f"{name} is a prepared folder already: train with --data {name}")
    warn_of_darkness(found)
    return found


@data.command("list")
@ROOT
def list_known(root: Path | None) -> None:
    """List known data sets: which files they need, where, and whether these are there."""
    from progan.data.info.known import known_report
    from progan.data.sources.find import data_folder

    say(known_report(data_folder(root), root))


@data.command()
@click.argument("source", metavar="PATH|NAME")
@click.option("--labels", is_flag=True, help="Stop if the labels cannot be used, and say why.")
@LABEL_LEVEL
@click.option(
    "--sheet",
    type=PathOption(),
    metavar="FILE.png",
    help="Draw a contact sheet of evenly spaced images, with a row for each class.",
)
@WORKERS
@ROOT
def info(source: str, sheet: Path | None, **options: Any) -> None:
    """Describe images: sizes, kinds, bad ones, labels, disk space.

    Reads every image to its end, as training would. Takes prepared folders, too.
    """
    from progan.data.info.contact_sheet import check_sheet
    from progan.data.info.damage import damage_of
    from progan.data.info.report import pyramid_report, unfinished_report
    from progan.data.pyramid.format import JOURNAL, Pyramid, is_pyramid
    from progan.data.sources.find import is_local

    path = to_path(source, "SOURCE") if is_local(source) else None
    if sheet:
        check_sheet(sheet, path)
    if path is None or not is_pyramid(path):
        info_of_source(source, sheet, **options)
    elif (path / JOURNAL).exists() and not (path / "meta.json").exists():
        say(unfinished_report(path))
    else:
        pyramid = Pyramid.open(path)
        with closing(pyramid):
            say(pyramid_report(pyramid, list(damage_of(pyramid, click.echo)), has_gpu()))
            draw_sheet(sheet, pyramid, range(pyramid.count))


def info_of_source(
    name: str,
    sheet: Path | None,
    labels: bool,
    label_level: int | None,
    workers: int | None,
    root: Path | None,
) -> None:
    from progan.data.info.report import source_report
    from progan.data.info.survey import survey

    why_not = ""
    try:
        source = open_source(settings_of(name, labels=True, label_level=label_level, root=root))
    except UserError as error:
        if labels:
            raise
        source = open_source(settings_of(name, labels=False, label_level=None, root=root))
        why_not = str(error).removeprefix("data.labels: ")
        why_not = why_not.removesuffix(", or set data.labels=false")  # they are off
    seen = survey(source, workers, click.echo)
    say(source_report(name, source, seen, why_not, label_level, has_gpu()))
    draw_sheet(sheet, source, [i for i in range(len(source)) if i not in seen.bad])


def has_gpu() -> bool:
    from progan.runtime.device import fastest_device  # late, as it loads torch

    return fastest_device().type != "cpu"


def draw_sheet(path: Path | None, data: "Source | Pyramid", good: Sequence[int]) -> None:
    from progan.data.info.contact_sheet import write_sheet

    if path and good:
        note = replacing([path])
        write_sheet(path, data, good)
        rows = "; a row a class" if data.labels and data.labels.kind == "classes" else ""
        click.echo(f"contact sheet: {path}{note}{rows}")


def say(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
