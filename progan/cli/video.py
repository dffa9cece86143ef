"""The command `progan video`: looping walks through what a generator has learned."""

import re
from pathlib import Path
from typing import Literal

import click

from progan.cli.options import (
    DEVICE,
    SNAPSHOT,
    CheckedOption,
    PathOption,
    check_target,
    default_out,
    parse_seeds,
    say,
    to_number,
)
from progan.runtime.launch import is_main
from progan.runtime.text import human_bytes

MOST_TILES = 32  # in a row or a column


def to_grid(text: str) -> tuple[int, int]:
    """Columns and rows as 3x2."""
    match = re.fullmatch(r"(\d{1,2})x(\d{1,2})", text)
    if not match or not all(1 <= int(side) <= MOST_TILES for side in match.groups()):
        raise ValueError(f"is not COLUMNSxROWS, such as 3x2; each is from 1 to {MOST_TILES}")
    return int(match[1]), int(match[2])


FPS = click.option(
    "--fps", type=int, metavar="F", default=30, show_default=True, help="Frames a second."
)
SECONDS = CheckedOption("seconds", to_number)


@click.command()
@click.argument("source", metavar="RUN|SNAPSHOT", type=SNAPSHOT)
@click.option(
    "--seeds",
    metavar="LIST",
    help="For example 0-7. In a grid, the first ones are those of the first frame, the next ones "
    "those of the next stop; with --mode smooth one a tile. [default: from 0 on, 8 stops]",
)
@click.option(
    "--out",
    type=PathOption(),
    metavar="FILE",
    help="An .mp4 (pip install '.[video]'), .webp, .gif or .apng. [default: walk-of-RUN.mp4]",
)
@click.option(
    "--grid",
    type=CheckedOption("grid", to_grid),
    default="1x1",
    show_default=True,
    metavar="COLUMNSxROWS",
    help="Several walks side by side.",
)
@click.option(
    "--seconds",
    type=SECONDS,
    metavar="S",
    help="Length of the loop. [default: 1 for each stop; with --mode smooth 10]",
)
@FPS
@click.option(
    "--mode",
    type=click.Choice(["slerp", "smooth"]),
    default="slerp",
    show_default=True,
    help="slerp: from seed to seed; smooth: along smoothed noise, as in the paper's videos.",
)
@click.option(
    "--class",
    "class_name",
    metavar="NAME",
    help="Class of all tiles, or attributes, as for progan sample. [default: those of each tile's "
    "first seed]",
)
@click.option(
    "--scale",
    type=click.IntRange(1, 256),
    metavar="K",
    help="Enlarge pixel by pixel. [default: to 128 pixels or more]",
)
@DEVICE
def video(
    source: Path,
    seeds: str | None,
    out: Path | None,
    grid: tuple[int, int],
    seconds: float | None,
    fps: int,
    mode: Literal["slerp", "smooth"],
    class_name: str | None,
    scale: int | None,
    device: str,
) -> None:
    """Make a video: a walk through what a generator has learned.

    Of a run the newest snapshot is taken, unless you say which (RUN@best, RUN@600). The walk is a
    loop: its end meets its beginning. A tile keeps its class.

    \b
    progan video runs/demo
    progan video runs/demo --seeds 0-47 --grid 3x2 --out walk.webp
    progan video runs/demo --mode smooth --grid 4x4 --seconds 20
    """
    if not is_main():
        return
    from progan.outputs.walks import write_walk
    from progan.runs.snapshot_file import load_snapshot
    from progan.runs.which_snapshot import find_snapshot
    from progan.runtime.device import take_device

    numbers = None if seeds is None else parse_seeds(seeds)
    out = out or default_out("walk", source, ".mp4")
    written = check_target(out, "--out")
    where = take_device(device)
    write_walk(
        load_snapshot(find_snapshot(source)),
        out,
        numbers,
        mode=mode,
        grid=grid,
        seconds=seconds,
        fps=fps,
        classes=class_name,
        scale=scale,
        device=where,
        say=say,
    )
    click.echo(f"a walk that is a loop, {human_bytes(out.stat().st_size)}, in {written}")
