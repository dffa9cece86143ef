"""The command `progan balance`: shares of labels in samples and in the data, and a chart."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from progan.cli.options import (
    DATA,
    DEVICE,
    JSON,
    SNAPSHOT,
    PathOption,
    check_picture,
    check_target,
    default_out,
    say,
)
from progan.runs.folder import base_name
from progan.runtime.disk import write_json
from progan.runtime.launch import is_main
from progan.runtime.text import printable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from progan.analysis.balance import Row
    from progan.analysis.classifier import Classifier
    from progan.data.dataset import Dataset
    from progan.runs.snapshot import Snapshot

FEWEST, MOST = 100, 1_000_000


@click.command()
@click.argument("source", metavar="RUN|SNAPSHOT", type=SNAPSHOT)
@DATA
@click.option(
    "--num",
    type=click.IntRange(FEWEST, MOST),
    default=2000,
    show_default=True,
    metavar="N",
    help="Number of samples.",
)
@click.option(
    "--out", type=PathOption(), metavar="FILE", help="The chart. [default: balance-of-RUN.png]"
)
@DEVICE
@JSON
def balance(
    source: Path,
    data: str | None,
    num: int,
    out: Path | None,
    device: str,
    json_file: Path | None,
) -> None:
    """Count classes or attributes in samples and in the data.

    A generator may amplify what is frequent and lose what is rare. A small classifier learns the
    data's labels and counts them in samples; the run itself may have been trained without labels.
    The counts are corrected for its errors on held-out reals (Rogan and Gladen's estimate). It may
    err more on samples that look unlike the data: look at the samples, too.

    \b
    progan balance runs/faces
    progan balance runs/faces --data labelled-faces --num 10000
    """
    out = out or default_out("balance", source, ".png")
    drawn_in = check_picture(out, "--out")
    figures_in = check_target(json_file)
    if not is_main():
        return
    from progan.analysis.balance import chart, compare_shares, figures, sentences
    from progan.metrics.reference_data import open_reference_data, source_of
    from progan.runs.snapshot_file import load_snapshot
    from progan.runs.which_snapshot import find_snapshot
    from progan.runtime.device import take_device

    where = take_device(device)
    snapshot = load_snapshot(find_snapshot(source))
    with closing(open_reference_data(snapshot, data, say, labels=True)) as images:
        classifier = classifier_for(snapshot, images, where)
        rows = compare_shares(classifier, samples_of(snapshot, images, num))
    title = printable(base_name(source_of(snapshot, data)))
    click.echo(
        f"{snapshot.file}: {snapshot.nimg / 1000:,.10g} kimg; {num:,} samples compared with "
        f"{images.count:,} images of {title}, at {classifier.resolution}x{classifier.resolution}"
    )
    click.echo(f"\n{figures(rows, classifier.labels.kind)}\n")
    click.echo("\n".join(sentences(rows)))
    run = printable(base_name(source.resolve()))
    chart(rows, f"{run}: {num:,} samples compared with {title}", out)
    click.echo(f"drawn in {drawn_in}")
    if json_file:
        write_json(json_file, content(snapshot, images, classifier, num, rows))
        click.echo(f"all figures in {figures_in}")


def classifier_for(snapshot: "Snapshot", images: "Dataset", device: "torch.device") -> "Classifier":
    """A classifier for the resolution to compare at, on `device`, where the generator goes, too."""
    from progan.analysis.classifier import FINEST, train

    snapshot.G.to(device)
    # A block that fades in is not yet as sharp as reals; one level below, both are alike.
    resolution = snapshot.resolution // (1 if snapshot.alpha is None else 2)
    mirror = snapshot.config.data.mirror
    return train(images, min(FINEST, resolution), mirror=mirror, device=device, say=say)


def samples_of(snapshot: "Snapshot", images: "Dataset", num: int) -> Iterator["Tensor"]:
    """`num` images of the snapshot's generator, in batches uint8 [n, C, r, r]."""
    from progan.metrics.evaluate import batch_size
    from progan.metrics.inputs import Fakes
    from progan.runtime.progress import progress_bar

    fakes = Fakes(snapshot.G, images, snapshot.resolution, snapshot.alpha, snapshot.resolution)
    size = batch_size(snapshot.resolution)
    with progress_bar("samples", num, 0, say) as made:
        for first in range(0, num, size):
            batch = fakes.batch(first, min(size, num - first))
            yield batch
            made(len(batch))


def content(
    snapshot: "Snapshot", images: "Dataset", classifier: "Classifier", num: int, rows: list["Row"]
) -> dict[str, Any]:
    """All figures, for JSON."""
    from progan.runtime import machine

    return {
        "versions": machine.versions(),
        "snapshot": str(snapshot.file),
        "nimg": snapshot.nimg,
        "data": {"title": images.title, "images": images.count, "identity": images.identity},
        "samples": num,
        "resolution": classifier.resolution,
        "labels": classifier.labels.kind,
        "learned_from": classifier.shown,
        "held_out": int(classifier.trial.having[0] + classifier.trial.lacking[0]),
        "rows": [row.to_dict() for row in rows],
    }
