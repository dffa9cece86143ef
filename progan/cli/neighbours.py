"""The command `progan neighbours`: samples and their nearest training images."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from progan.cli.options import DATA, DEVICE, SNAPSHOT, PathOption, check_picture, default_out, say
from progan.runs.folder import base_name
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main
from progan.runtime.text import printable

if TYPE_CHECKING:
    import numpy as np
    import torch

    from progan.data.dataset import Dataset
    from progan.metrics.inception import Inception
    from progan.runs.snapshot import Snapshot

MOST_SEEDS = 64  # rows of the picture


@click.command()
@click.argument("source", metavar="RUN|SNAPSHOT", type=SNAPSHOT)
@DATA
@click.option(
    "--seeds",
    default="0-15",
    show_default=True,
    metavar="LIST",
    help=f"Which samples: at most {MOST_SEEDS} seeds.",
)
@click.option(
    "--out",
    type=PathOption(),
    metavar="FILE.png",
    help="The picture. [default: neighbours-of-RUN.png]",
)
@click.option(
    "--inception",
    type=PathOption(),
    metavar="FILE",
    help="Weights of Inception-v3. [default: those that torch-fidelity has downloaded, if any]",
)
@DEVICE
def neighbours(
    source: Path,
    data: str | None,
    seeds: str,
    out: Path | None,
    inception: Path | None,
    device: str,
) -> None:
    """Show samples next to their nearest training images.

    Does a run memorize? This compares pixels at 32x32, and Inception features if their weights are
    there; also flipped images, if the run mirrors its data. Prints how near samples are, and how
    near training images are to each other: samples at less than half that distance are likely
    copies. No sign is no proof.

    \b
    progan neighbours runs/faces
    progan neighbours runs/faces --seeds 0-31 --out memorized.png
    """
    from progan.cli.options import parse_seeds
    from progan.metrics.inception import library
    from progan.metrics.reference_data import open_reference_data, source_of
    from progan.model.grid import save_picture
    from progan.runs.snapshot_file import load_snapshot
    from progan.runs.which_snapshot import find_snapshot
    from progan.runtime.device import take_device

    if not is_main():
        return
    numbers = parse_seeds(seeds)
    if len(numbers) > MOST_SEEDS:
        raise UserError(f"--seeds {seeds} are {len(numbers):,}; give at most {MOST_SEEDS}")
    if inception:
        library("version")  # an error at once if it is missing
    where = take_device(device)
    out = out or default_out("neighbours", source, ".png")
    written = check_picture(out, "--out", (".png",))
    snapshot = load_snapshot(find_snapshot(source))
    with closing(open_reference_data(snapshot, data, say)) as images:
        size = f"{snapshot.resolution}x{snapshot.resolution}"
        mirrored = ", also flipped" if snapshot.config.data.mirror else ""
        click.echo(f"{snapshot.file}: {snapshot.nimg / 1000:,.10g} kimg, {size}")
        click.echo(f"{images.count:,} images of {source_of(snapshot, data)}{mirrored}")
        title = f"{printable(base_name(source.resolve()))}, {snapshot.nimg / 1000:g} kimg"
        picture = picture_of(title, snapshot, images, numbers, inception, where)
        save_picture(picture, out, snapshot.provenance(composite=True, seeds=seeds))
    click.echo(f"{len(numbers)} samples next to their nearest training images in {written}")


def picture_of(
    title: str,
    snapshot: "Snapshot",
    images: "Dataset",
    seeds: list[int],
    inception: Path | None,
    device: "torch.device",
) -> "np.ndarray":
    """Print the results; returns the picture, uint8 [3, H, W]."""
    from progan.analysis.neighbours import (
        SAME,
        TrainingImages,
        by_features,
        by_pixels,
        pixel_resolution,
        verdict,
    )
    from progan.analysis.neighbours_picture import Block, draw
    from progan.metrics.reference_cache import ReferenceCache
    from progan.metrics.reference_data import cache_of

    network = load_inception(inception, device)
    mirror, r = snapshot.config.data.mirror, snapshot.resolution
    originals = TrainingImages(images, mirror, device, say)
    snapshot.G.to(device)
    samples = snapshot.sample(seeds).transpose(0, 3, 1, 2)
    at = pixel_resolution(r, snapshot.alpha)
    found = by_pixels(samples, originals, at)
    unit = f"grey levels (root mean square) at {at}x{at}"
    blocks = [Block("nearest by pixels", unit, found)]
    lines = verdict(found, seeds, f"pixels at {at}x{at}", " grey levels", SAME)
    if network is None:
        lines.append("(Inception features were not compared: give their weights by --inception)")
    else:
        kept = ReferenceCache(cache_of(snapshot), images, r, mirror)
        found = by_features(samples, originals, network, kept)
        blocks.append(Block("nearest by Inception features", "Euclidean distance", found))
        lines += verdict(found, seeds, "Inception features", "")
    click.echo("\n".join(lines))
    return draw(title, seeds, samples, blocks, images)


def load_inception(file: Path | None, device: "torch.device") -> "Inception | None":
    """From the file, or torch's cache if it is there; None: not there, as nothing is downloaded."""
    from progan.metrics.inception import Inception, is_at_hand

    return Inception(file, device) if file or is_at_hand() else None
