"""The command progan sample."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from progan.cli.options import (
    DEVICE,
    MOST_SEEDS,
    SNAPSHOT,
    CheckedOption,
    PathOption,
    check_folder,
    check_picture,
    check_target,
    default_out,
    parse_seeds,
    say,
    to_resolution,
)
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main, processes

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from progan.runs.samples import Samples

# Of files, by format; the first for those that progan names.
ENDINGS = {"png": [".png"], "webp": [".webp"], "jpeg": [".jpg", ".jpeg"], "npz": [".npz"]}


@click.command()
@click.argument("source", metavar="RUN|SNAPSHOT", type=SNAPSHOT)
@click.option(
    "--seeds",
    metavar="LIST",
    help="For example 0-63 or 1,5,8-11. [default: those of the grids in training]",
)
@click.option(
    "--num",
    "--images",
    "num",
    type=click.IntRange(1, MOST_SEEDS),
    metavar="N",
    help="The seeds from 0 to N-1. Under torchrun write --images, as torchrun has a --num of its "
    "own.",
)
@click.option(
    "--latents",
    type=PathOption(),
    metavar="FILE",
    help="In place of seeds: a .npy, .npz or .safetensors with latents [N, z_dim], as progan "
    "project writes them.",
)
@click.option(
    "--out",
    type=PathOption(),
    metavar="DIR|FILE",
    help="A folder; a .zip or .npz with all images; or with --grid or a single seed a picture such "
    "as x.png. [default: samples-of-RUN]",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(ENDINGS)),
    help="Of the pictures; npz: one file of arrays. [default: as --out ends, else png]",
)
@click.option(
    "--grid",
    "as_grid",
    is_flag=True,
    help="One picture instead of one file for each seed; seeds and classes are written in it.",
)
@click.option(
    "--class",
    "class_name",
    metavar="NAME",
    help="Name of a class, or its number if no name is a number; or the attributes to switch on, "
    "all others off: Smiling,Male",
)
@click.option(
    "--resolution",
    type=CheckedOption("resolution", to_resolution),
    metavar="R",
    help="What an earlier stage of the network gives, from its own last layer. Its colours may be "
    "off: training has left that layer behind.",
)
@click.option(
    "--scale",
    type=click.IntRange(1, 256),
    default=1,
    metavar="K",
    help="Enlarge: each pixel becomes K x K pixels.",
)
@click.option(
    "--best-of",
    type=click.IntRange(2, 64),
    metavar="K",
    help="For each seed the best of K latents by the critic's score, from the run's checkpoint.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 1024),
    default=16,
    show_default=True,
    metavar="N",
    help="Images that a GPU makes at a time.",
)
@DEVICE
def sample(
    source: Path,
    seeds: str | None,
    num: int | None,
    out: Path | None,
    kind: str | None,
    as_grid: bool,
    device: str,
    **how: Any,
) -> None:
    """Make images with a run, a snapshot, or demo.

    Of a run the newest snapshot is taken, unless you say which (RUN@best, RUN@600). demo is a
    network that comes with progan. Images come from the averaged generator.

    A seed always gives the same image. With classes, each seed makes one image of every class; a
    grid has a row for each class. With attributes, each seed has those of an image of the data.

    Images that are there already, made in the same way, are not made again, so the same command
    goes on where it was stopped. Each file says that it was generated.

    \b
    progan sample runs/faces --grid
    progan sample runs/faces --num 100 --out faces --format webp
    progan sample runs/faces --num 16 --best-of 8 --grid --out best.png
    progan sample runs/faces --latents projections-of-faces/photo-latents.npz --out again
    torchrun --nproc_per_node 8 -m progan sample runs/faces --images 50000 --out fakes.zip
    """
    from progan.runs.sample_files import is_picture, write_samples
    from progan.runs.sample_grid import write_grid

    one = as_grid or (out is not None and is_picture(out))
    if one and not is_main():
        return
    numbers = seeds_of(seeds, num)
    if how["latents"] and (numbers is not None or how["best_of"]):
        raise UserError("--latents are in place of seeds: leave out --seeds, --num and --best-of")
    out = out or default_out("samples", source, ".npz" if kind == "npz" else "")
    check_out(out, kind, as_grid)
    where, accelerator = join(device, together=not one)
    samples = samples_of(source, where, numbers, **how)
    suffix, shown = ENDINGS[kind or "png"][0], say if is_main() else None
    if as_grid:
        line = write_grid(samples, out, suffix, shown)
    else:
        line = write_samples(samples, out, suffix, accelerator, shown)
    if is_main():
        click.echo(line)
    if accelerator is not None:
        accelerator.end_training()


def samples_of(
    source: Path,
    device: "torch.device",
    seeds: list[int] | None,
    latents: Path | None,
    class_name: str | None,
    best_of: int | None,
    **how: Any,
) -> "Samples":
    """The images that are asked for, not made yet."""
    from progan.runs.best_of import BestOf
    from progan.runs.latents_file import read_latents
    from progan.runs.samples import Samples
    from progan.runs.snapshot_file import load_snapshot
    from progan.runs.which_snapshot import find_snapshot

    snapshot = load_snapshot(find_snapshot(source))
    given = None if latents is None else read_latents(latents, snapshot)
    snapshot.G.to(device)
    best = None if best_of is None else BestOf(snapshot, best_of, device)
    return Samples(snapshot, seeds, class_name, best_of=best, given=given, **how)


def join(device: str, together: bool) -> "tuple[torch.device, Accelerator | None]":
    """Where this process computes, and, if there are several, what joins them."""
    from progan.runtime.accelerator import make_accelerator
    from progan.runtime.device import take_device

    where = take_device(device)
    if processes() == 1 or not together:
        return where, None
    accelerator = make_accelerator(Path("."), None, device=where)
    return accelerator.device, accelerator


def seeds_of(seeds: str | None, num: int | None) -> list[int] | None:
    """The seeds that are asked for; None: those of the grids in training."""
    if seeds is not None and num is not None:
        raise UserError("give --seeds or --num, not both: --num 100 is --seeds 0-99")
    if num is not None:
        return list(range(num))
    return None if seeds is None else parse_seeds(seeds)


def check_out(out: Path, kind: str | None, as_grid: bool) -> None:
    """Raises UserError if what is asked for cannot be written to `out`."""
    from progan.runs.sample_files import SUFFIXES, is_archive, is_picture, parts_of

    if is_picture(out):
        check_picture(out, "--out", SUFFIXES)
    elif is_archive(out):
        check_target(out, "--out")
        check_folder(parts_of(out))
    else:
        check_folder(out)
    if as_grid and (kind == "npz" or is_archive(out)):
        raise UserError("--grid makes one picture: give a folder, or a file such as --out x.png")
    suffix = out.suffix.lower()
    fixed = kind == "npz" or suffix == ".npz" or is_picture(out)
    if kind and fixed and suffix not in ENDINGS[kind]:
        raise UserError(
            f"--out {out} does not end in {ENDINGS[kind][0]}, as --format {kind} asks for; give "
            "one of the two"
        )
