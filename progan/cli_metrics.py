"""The command `progan evaluate`: metrics of snapshots, told and recorded."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from progan.errors import UserError
from progan.launch import is_main
from progan.metrics.protocols import FEWEST, MOST, STANDARD, parse_list
from progan.options import JSON, PathOption, check_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from accelerate import Accelerator

    from progan.config import Config
    from progan.data.stream import Images
    from progan.metrics.inception import Inception
    from progan.snapshot import Snapshot

WORDS = {"floor": "reals against other reals", "reals": "reals themselves"}
DATA = click.option(
    "--data",
    metavar="NAME|PATH",
    help="What to compare with. [default: the data that the run was trained on]",
)
INCEPTION = click.option(
    "--inception",
    type=PathOption(),
    metavar="FILE",
    help="Weights of Inception-v3. [default: torch-fidelity downloads them, once]",
)


@click.command()
@click.argument("sources", metavar="RUN|SNAPSHOT…", nargs=-1, required=True, type=PathOption())
@DATA
@click.option(
    "--metrics",
    default="swd16k,msssim10k",
    show_default=True,
    help=f"Of {', '.join(STANDARD)}; a plain number is one of images: swd2000.",
)
@click.option(
    "--num",
    type=click.IntRange(FEWEST, MOST),
    metavar="N",
    help="So many fakes (of msssim pairs) for each metric, and N in its name.",
)
@JSON
@INCEPTION
def evaluate(
    sources: tuple[Path, ...],
    data: str | None,
    metrics: str,
    num: int | None,
    json_file: Path | None,
    inception: Path | None,
) -> None:
    """Tell how good a run is (its newest snapshot), or snapshot files.

    Fakes are compared with the data at the network's full resolution. Results go into the run's
    metrics.jsonl and TensorBoard, too. fid, kid, is and pr need pip install 'progan[metrics]'.

    \b
    progan evaluate runs/faces
    progan evaluate runs/faces --metrics swd,fid --num 5000
    progan evaluate runs/faces/snapshots/* --metrics swd2000
    torchrun --nproc_per_node 8 -m progan evaluate runs/faces --metrics fid50k,pr50k
    """
    from progan.distributed import make_accelerator
    from progan.metrics.inception import loader
    from progan.snapshot import find_snapshot

    names = parse_list(metrics, num)
    check_target(json_file)
    files = [find_snapshot(source) for source in sources]
    accelerator = make_accelerator(Path("."), None)
    load = loader(inception, accelerator)
    results = [result_of(file, data, names, load, accelerator) for file in files]
    if is_main() and json_file:
        from progan import machine

        content = {"versions": machine.versions(), "snapshots": results}
        json_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        click.echo(f"all results in {json_file}")
    accelerator.wait_for_everyone()
    accelerator.end_training()


def result_of(
    file: Path,
    data: str | None,
    names: list[str],
    load: "Callable[[], Inception]",
    accelerator: "Accelerator",
) -> dict[str, Any]:
    """All metrics of one snapshot; printed, and recorded in its run."""
    from progan.metrics.evaluate import Evaluation, check_resolution
    from progan.metrics.images import Fakes, Reals
    from progan.metrics.kept import Kept
    from progan.metrics.registry import make
    from progan.snapshot import load_snapshot

    snapshot = load_snapshot(file)
    config = snapshot.config
    full = config.network.resolution
    check_resolution(file, full)
    images = data_of(snapshot, data)
    source = data or config.data.source
    G = snapshot.G.to(accelerator.device)
    reals = Reals(images, full, config.data.mirror, accelerator.device)
    kept = Kept(config.data.cache and Path(config.data.cache), images, full, config.data.mirror)
    evaluation = Evaluation(reals, accelerator, kept, say if is_main() else None)
    fakes = Fakes(G, images, snapshot.resolution, snapshot.alpha, full)
    results = evaluation.of([make(name, load) for name in names], fakes)
    images.close()
    if is_main():
        tell(file, snapshot, f"{images.count:,} images of {source}", names, results)
        if run := run_of(file):
            write(run, snapshot, results)
    return {
        "snapshot": str(file),
        "nimg": snapshot.nimg,
        "resolution": snapshot.resolution,
        "data": {"source": source, "images": images.count, "identity": images.identity},
        "metrics": results,
    }


def say(line: str) -> None:
    click.echo(line, err=True)


def data_of(snapshot: "Snapshot", data: str | None, labels: bool = False) -> "Images":
    """The images that a snapshot is compared with, prepared as its run's.

    labels: with labels, even if the run was trained without.

    Raises:
        UserError: they are not there, or have no labels where the generator needs some.
    """
    from progan.build import open_data
    from progan.data.sources import is_missing

    config = with_data(snapshot.config, data, labels=labels or bool(snapshot.classes))
    if config.data.source is None:
        raise UserError("the snapshot does not say what it was trained on; give --data")
    if data is None and is_missing(config.data.source):
        raise UserError(
            f"the data of this run, {config.data.source}, is not there; if it has moved, give "
            "--data PATH"
        )
    try:
        images = open_data(config, False, say if is_main() else lambda line: None)
    except UserError as error:
        if labels or not str(error).endswith("data.labels=false"):
            raise
        # Its remedy, to do without labels, is none here.
        raise UserError(
            f"{str(error).split('; ')[0]}; the generator makes images of labels, whose shares it "
            "takes from the data: give its own data as --data"
        ) from None
    if snapshot.classes and images.classes != snapshot.classes:
        raise UserError(
            f"the labels of {images.title} ({', '.join(images.classes)}) are not those that the "
            f"generator knows ({', '.join(snapshot.classes)}); give its own data as --data"
        )
    return images


def with_data(config: "Config", data: str | None, labels: bool) -> "Config":
    """The config with other data, and with or without labels."""
    changes: dict[str, Any] = {"labels": labels}
    if data is not None:
        changes |= {"source": data, "max_images": None}
    return config.model_copy(update={"data": config.data.model_copy(update=changes)})


def run_of(file: Path) -> Path | None:
    """The run in whose snapshots/ the file lies."""
    folder = file.resolve().parent
    run = folder.parent
    return run if folder.name == "snapshots" and (run / "config.yaml").is_file() else None


def tell(
    file: Path, snapshot: "Snapshot", beside: str, names: list[str], results: dict[str, float]
) -> None:
    """A line a metric, with what it must be seen beside."""
    full = snapshot.config.network.resolution
    size = f"{snapshot.resolution}x{snapshot.resolution}"
    enlarged = "" if snapshot.resolution == full else f", enlarged to {full}x{full}"
    click.echo(f"{file}: {snapshot.nimg / 1000} kimg, {size}{enlarged}, beside {beside}")
    for name in names:
        more = {key[len(name) + 1 :]: v for key, v in results.items() if key.startswith(name + "_")}
        details = ", ".join(f"{WORDS.get(k, k.replace('_', ' '))} {v:.4g}" for k, v in more.items())
        value = f"{results[name]:.4g}" if name in results else ""
        click.echo(f"  {name:<12}{value:<10}{details}")


def write(run: Path, snapshot: "Snapshot", results: dict[str, float]) -> None:
    """Into the run's metrics.jsonl and, as a curve of its own, TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    from progan.metrics.record import SECTION, record

    record(run, snapshot.nimg, results)
    if snapshot.config.run.tracker == "tensorboard":
        # A folder of its own: TensorBoard follows only the newest file of one, which may be
        # that of a training that goes on.
        with SummaryWriter(str(run / "tensorboard" / "evaluate")) as board:
            for name, value in results.items():
                board.add_scalar(SECTION + name, value, snapshot.nimg)
