"""The command `progan timelapse`: the same samples through a whole training."""

from pathlib import Path
from typing import Literal

import click

from progan.cli.options import PathOption, check_target, default_out, say
from progan.cli.video import FPS, SECONDS
from progan.runtime.launch import is_main
from progan.runtime.text import human_bytes


@click.command()
@click.argument("run", metavar="RUN", type=PathOption())
@click.option(
    "--out",
    type=PathOption(),
    metavar="FILE",
    help="An .mp4 (pip install '.[video]'), .webp, .gif or .apng. [default: timelapse-of-RUN.mp4]",
)
@click.option(
    "--seconds",
    type=SECONDS,
    default=20,
    show_default=True,
    metavar="S",
    help="Until the last picture, which stands for 2 seconds more.",
)
@FPS
@click.option(
    "--pace",
    type=click.Choice(["images", "phases"]),
    default="phases",
    show_default=True,
    help="What takes the same time: equal numbers of images shown, or each phase.",
)
def timelapse(
    run: Path, out: Path | None, seconds: float, fps: int, pace: Literal["images", "phases"]
) -> None:
    """Make a video of how a run learned.

    It shows samples of the same seeds, from the first tick to the last. The pictures are the grids
    that training wrote, all in one size. Where a grid is missing, the snapshot of that moment gives
    one.

    \b
    progan timelapse runs/demo
    progan timelapse runs/demo --pace images --seconds 10 --out growing.webp
    """
    if not is_main():
        return
    from progan.outputs.timelapse import write_timelapse

    out = out or default_out("timelapse", run, ".mp4")
    written = check_target(out, "--out")
    write_timelapse(run, out, seconds, fps, pace, say)
    click.echo(f"a timelapse, {human_bytes(out.stat().st_size)}, in {written}")
