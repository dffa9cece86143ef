"""The command progan project: the generator's images that are nearest to given ones."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from progan.cli.options import DEVICE, SNAPSHOT, PathOption, check_folder, default_out, say
from progan.runtime.disk import replacing
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main
from progan.runtime.text import for_file_names, printable

if TYPE_CHECKING:
    import numpy as np
    import torch

    from progan.outputs.projection import Distance, Projection
    from progan.runs.snapshot import Snapshot

ENOUGH = 0.004  # of --from, 30 dB: the limit of PULSE, 0.001 between 0 and 1
LOSSES = ("pixels", "lpips", "critic")


@click.command()
@click.argument("source", metavar="RUN|SNAPSHOT", type=SNAPSHOT)
@click.argument("images", metavar="[IMAGE]...", nargs=-1, type=PathOption())
@click.option(
    "--from",
    "small",
    type=PathOption(),
    metavar="FILE",
    help="A small image: find large ones whose box averages are like it.",
)
@click.option(
    "--num",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    metavar="N",
    help="With --from: how many to find.",
)
@click.option(
    "--steps",
    type=click.IntRange(1, 100_000),
    default=500,
    show_default=True,
    metavar="N",
    help="How many steps each search makes (of Adam).",
)
@click.option(
    "--loss",
    type=click.Choice(LOSSES),
    default="pixels",
    show_default=True,
    help="What is made small: the difference of pixels, LPIPS (pip install '.[lpips]'), or "
    "that of the features of the run's critic.",
)
@click.option(
    "--lpips",
    "weights",
    type=PathOption(),
    metavar="FILE",
    help="Weights of VGG-16. [default: torchvision's, fetched once]",
)
@click.option(
    "--restarts",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    metavar="K",
    help="Search from K places; the nearest result counts.",
)
@click.option(
    "--class",
    "class_name",
    metavar="NAME",
    help="Name or number of a class, or the attributes to switch on. [default: all are tried]",
)
@click.option(
    "--out",
    type=PathOption(),
    metavar="DIR",
    help="The folder to write into. [default: projections-of-RUN]",
)
@DEVICE
def project(
    source: Path,
    images: tuple[Path, ...],
    small: Path | None,
    num: int,
    steps: int,
    loss: str,
    weights: Path | None,
    restarts: int,
    class_name: str | None,
    out: Path | None,
    device: str,
) -> None:
    """Find the images of a generator that are nearest to given ones.

    Writes for each image a picture (target, result, the way there), the way as an animation, the
    result, and its latents (.npz: z, c, loss, psnr). A face that is found proves nothing about the
    training data, and a face that --from makes is not the one that was there: docs/projection.md
    says what this must not be used for.

    \b
    progan project runs/faces photo.jpg
    progan project runs/faces *.png --loss critic --restarts 8
    progan project runs/faces --from small.png --num 8
    """
    from progan.outputs.targets import read_small, read_target
    from progan.runs.snapshot_file import load_snapshot
    from progan.runs.which_snapshot import find_snapshot
    from progan.runtime.device import take_device

    if not is_main():
        return
    check(images, small, loss, weights)
    where = take_device(device)
    snapshot = load_snapshot(find_snapshot(source))
    snapshot.labels_of([0], class_name)  # an error at once if there is no such class
    read = read_small if small else read_target
    targets = {file: read(file, snapshot) for file in ([small] if small else images)}
    snapshot.G.to(where)
    distance_to = distances(loss, weights, snapshot, where)
    out = out or default_out("projections", source)
    check_folder(out)
    size = f"{snapshot.resolution}x{snapshot.resolution}"
    click.echo(f"{snapshot.file}: {snapshot.nimg / 1000:g} kimg, {size}")
    starts, kept = (num, num) if small else (restarts, 1)
    enough = ENOUGH if small else None
    search = Search(snapshot, distance_to, loss, steps, starts, class_name, enough)
    note = write_all(search, targets, kept, out)
    click.echo(f"pictures, ways, images and latents in {out}{note}")


@dataclass(frozen=True)
class Search:
    """How each image is searched for."""

    snapshot: "Snapshot"
    distance_to: "Callable[[np.ndarray], Distance]"
    loss: str
    steps: int
    starts: int
    class_name: str | None
    enough: float | None


def write_all(search: Search, targets: "dict[Path, np.ndarray]", kept: int, out: Path) -> str:
    """Project all targets, by their files, and print what is found; returns what was replaced."""
    from progan.outputs.projection import candidates, project
    from progan.outputs.projection_files import decibels, paths_of, write_projection

    snapshot, starts, count = search.snapshot, search.starts, len(targets)
    say(
        f"{count} image{'s' * (count != 1)}: {search.steps:,} steps from {starts} "
        f"place{'s' * (starts != 1)}, the nearest of {starts * candidates(snapshot):,} seeds"
    )
    names = for_file_names([file.stem for file in targets])
    paths = [paths_of(out, name, kept) for name in names]
    note = replacing(list(chain(*paths)))
    side = next(iter(targets.values())).shape[-1]
    of_what = "" if side == snapshot.resolution else f" at {side}x{side}"
    for (file, target), places in zip(targets.items(), paths, strict=True):
        found = project(
            snapshot,
            search.distance_to(target),
            steps=search.steps,
            starts=starts,
            classes=search.class_name,
            enough=search.enough,
            say=say,
        ).first(kept)
        for i, value in enumerate(write_projection(places, target, found, snapshot)):
            click.echo(
                f"{printable(file.name)} -> {places[3 + i].name}: PSNR {decibels(value)}{of_what}, "
                f"{search.loss} loss {found.losses[i]:.3g}, from seed {found.seeds[i]}"
                + labels_text(found, i, snapshot)
            )
    return note


def labels_text(found: "Projection", i: int, snapshot: "Snapshot") -> str:
    """The class or the attributes of a result."""
    if found.labels is None or snapshot.labels is None:
        return ""
    names, label = snapshot.labels.shown, found.labels[i]
    if snapshot.labels.kind == "classes":
        return f", class {names[label]}"
    return f", attributes {','.join(n for n, on in zip(names, label, strict=True) if on) or 'none'}"


def check(images: tuple[Path, ...], small: Path | None, loss: str, weights: Path | None) -> None:
    """Raises UserError if options do not go together."""
    if bool(images) == bool(small):
        raise UserError(
            "give images to find, or one small image by --from"
            + (", not both" if small else "")
            + ": progan project RUN photo.jpg"
        )
    if small and loss != "pixels":
        raise UserError(
            f"--loss {loss} cannot be used with --from: networks that have seen images of one size "
            "say little about small ones; leave it out"
        )
    if weights and loss != "lpips":
        raise UserError(f"--lpips {weights} is for --loss lpips, and the loss is {loss}")


def distances(
    loss: str, weights: Path | None, snapshot: "Snapshot", device: "torch.device"
) -> "Callable[[np.ndarray], Distance]":
    """From a target to the distance that is made small.

    Raises:
        UserError: the network that it needs is missing, or takes no images so small.
    """
    from progan.outputs.distances import critic, lpips, pixels
    from progan.outputs.lpips import SMALLEST, load_lpips
    from progan.runs.critic import load_critic

    if loss == "pixels":
        return partial(pixels, device=device)
    if loss == "critic":
        D, nimg = load_critic(snapshot, "--loss critic")
        say(f"the critic is that of {nimg / 1000:g} kimg")
        return partial(critic, D=D.to(device), alpha=snapshot.alpha)
    if snapshot.resolution < SMALLEST:
        r = snapshot.resolution
        raise UserError(f"--loss lpips takes images of {SMALLEST}x{SMALLEST} or more, not {r}x{r}")
    return partial(lpips, network=load_lpips(weights, device, say))
