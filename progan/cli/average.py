"""The command `progan average`: averages of other lengths, made after training."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from progan.cli.options import (
    DATA,
    DEVICE,
    JSON,
    PathOption,
    check_picture,
    check_target,
    default_out,
    say,
)
from progan.config.ema import LONGEST, SHORTEST
from progan.config.metric_names import better, parse_list
from progan.runtime.disk import replacing, write_json
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main

if TYPE_CHECKING:
    from progan.runs.averages import KeptAverages

SWEPT = (0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2)
FAR = 0.05  # a profile that is farther from the wanted one is worth a word


@click.command()
@click.argument("run", metavar="RUN", type=PathOption())
@click.option(
    "--length",
    "asked",
    metavar="L",
    help=f"Relative length, from {SHORTEST} to {LONGEST}: the standard deviation of when the "
    "averaged images were shown, as a share of all images. With --sweep one or more: 0.03,0.05. "
    f"[default with --sweep: {','.join(map(str, SWEPT))}]",
)
@click.option("--sweep", is_flag=True, help="Measure several lengths, and write the best one.")
@click.option(
    "--metric",
    metavar="NAME",
    default="swd2048",
    show_default=True,
    help="What --sweep measures; see progan evaluate --metrics.",
)
@click.option(
    "--out",
    type=PathOption(),
    metavar="FILE",
    help="The snapshot, .safetensors. [default: in RUN/snapshots, with length and images in its "
    "name]",
)
@click.option(
    "--plot",
    type=PathOption(),
    metavar="FILE",
    help="The picture that --sweep draws. [default: lengths-of-RUN.png]",
)
@DATA
@JSON
@DEVICE
def average(
    run: Path,
    asked: str | None,
    sweep: bool,
    metric: str,
    out: Path | None,
    plot: Path | None,
    data: str | None,
    json_file: Path | None,
    device: str,
) -> None:
    """Make the average of any length from a run, after training.

    The run must have been begun with -o ema.kind=power. It then keeps two averages in RUN/averages
    every now and then, and others are made of these. The result is a snapshot at the newest of
    them, which sample, evaluate and others take.

    \b
    progan average runs/faces --length 0.07
    progan average runs/faces --sweep
    progan average runs/faces --sweep --metric fid5000 --length 0.03,0.05,0.08
    """
    if not is_main():
        return
    lengths, name = parse_lengths(asked, sweep), parse_metric(metric)
    if json_file and not sweep:
        raise UserError("--json is for the figures of --sweep; add --sweep, or leave --json out")
    plot = plot or default_out("lengths", run, ".png")
    drawn_in = check_picture(plot, "--plot") if sweep else ""
    figures_in = check_target(json_file)
    if out and out.suffix != ".safetensors":
        raise UserError(f"--out {out} must end in .safetensors")
    check_target(out, "--out")

    from progan.runs.averages import find_averages

    kept = find_averages(run)
    if sweep:
        from progan.analysis.lengths import best_of, content, draw, figures, measured
        from progan.model.grid import save_figure

        found = measured(kept, lengths, name, data, device, say)
        click.echo(figures(found, name, kept.newest.nimg))
        save_figure(draw(found, name, kept.newest.nimg), plot)
        click.echo(f"plotted in {drawn_in}")
        if json_file:
            write_json(json_file, content(found, name, kept.newest.nimg))
            click.echo(f"all figures in {figures_in}")
        lengths = [best_of(found, name).length]
    write(kept, run, lengths[0], out)


def write(kept: "KeptAverages", run: Path, length: float, out: Path | None) -> None:
    """Make the average of one length, write it, and say what it is."""
    from dataclasses import replace

    from progan.runs.snapshot_file import average_path, save_snapshot

    snapshot, missed = kept.snapshot(length)
    file = out or average_path(run, length, snapshot.nimg)
    replaced = replacing([file])
    save_snapshot(replace(snapshot, file=file))
    click.echo(
        f"length {length:g} at {snapshot.nimg / 1000:g} kimg, of {len(kept.files)} files: "
        f"{file}{replaced}"
    )
    if missed > FAR:
        click.echo(
            f"note: its profile is {100 * missed:.0f} % from the wanted one. Lengths near those "
            "that the run kept are nearer (ema.lengths: "
            f"{', '.join(map(str, snapshot.config.ema.lengths or ()))})"
        )


def parse_lengths(asked: str | None, sweep: bool) -> list[float]:
    """The lengths in `--length`.

    Raises:
        UserError: there is none, one is no length, or there are several and no sweep.
    """
    if asked is None:
        if sweep:
            return list(SWEPT)
        raise UserError(
            "progan average needs a length: give --length 0.05, or --sweep to find the best one"
        )
    lengths = []
    for text in asked.split(","):
        try:
            length = float(text)
        except ValueError:
            length = 0.0
        if not SHORTEST <= length <= LONGEST:  # true for nan, too
            raise UserError(
                f"--length: '{text.strip()}' is no relative length; give {SHORTEST} to {LONGEST}"
            )
        lengths.append(length)
    if len(lengths) > 1 and not sweep:
        raise UserError(f"--length {asked}: give one length, or add --sweep to compare several")
    return sorted(set(lengths))


def parse_metric(text: str) -> str:
    """The metric in `--metric`; raises UserError unless it has one value, and a direction."""
    names = parse_list(text, None)
    if len(names) > 1 or better(names[0]) is None:
        raise UserError(
            f"--metric '{text}': the best length is found by one of swd, fid, kid and is, such as "
            "swd2048 or fid5000"
        )
    return names[0]
