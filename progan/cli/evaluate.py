"""The command `progan evaluate`: metrics of snapshots, printed and recorded."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from progan.cli.options import DATA, DEVICE, JSON, SNAPSHOT, PathOption, check_target, say
from progan.config.metric_names import FEWEST, MOST, STANDARD, parse_list
from progan.runtime.disk import write_json
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main

if TYPE_CHECKING:
    from progan.metrics.metric import Metric
    from progan.metrics.of_snapshot import Comparison
    from progan.runs.snapshot import Snapshot

WORDS = {"floor": "reals against other reals", "reals": "reals themselves"}
INCEPTION = click.option(
    "--inception",
    type=PathOption(),
    metavar="FILE",
    help="Weights of Inception-v3. [default: torch-fidelity downloads them, once]",
)


@click.command()
@click.argument("sources", metavar="RUN|SNAPSHOT…", nargs=-1, required=True, type=SNAPSHOT)
@DATA
@click.option(
    "--metrics",
    default="swd16k,msssim10k",
    show_default=True,
    metavar="LIST",
    help=f"Any of {', '.join(STANDARD)}; or with another number of images: swd2000.",
)
@click.option(
    "--num",
    "--images",
    "num",
    type=click.IntRange(FEWEST, MOST),
    metavar="N",
    help="Number of fakes (msssim: of pairs) for each metric; its name then has N. Under torchrun "
    "write --images, as torchrun has a --num of its own.",
)
@JSON
@INCEPTION
@DEVICE
def evaluate(
    sources: tuple[Path, ...],
    data: str | None,
    metrics: str,
    num: int | None,
    json_file: Path | None,
    inception: Path | None,
    device: str,
) -> None:
    """Measure how good a run or a snapshot is.

    Of a run the newest snapshot is measured, unless you say which (RUN@best, RUN@600). Fakes are
    compared with the data at the network's full resolution. Results on the run's own data are also
    recorded in its metrics.jsonl and TensorBoard. fid, kid, is and pr need pip install '.[metrics]'
    (in a clone of progan).

    \b
    progan evaluate runs/faces
    progan evaluate runs/faces@best runs/faces@600      (the best, the one at 600 kimg)
    progan evaluate runs/faces --metrics swd,fid --num 5000
    progan evaluate runs/faces/snapshots/snapshot-* --metrics swd2000
    torchrun --nproc_per_node 8 -m progan evaluate runs/faces --metrics fid50k
    """
    from progan.metrics.of_snapshot import compare_with_data
    from progan.runs.snapshot_file import load_snapshot
    from progan.runs.which_snapshot import find_snapshot
    from progan.runtime import machine
    from progan.runtime.accelerator import make_accelerator
    from progan.runtime.device import take_device

    names = parse_list(metrics, num)
    results_in = check_target(json_file)
    files = [find_snapshot(source) for source in sources]
    accelerator = make_accelerator(Path("."), None, device=take_device(device))
    content: dict[str, Any] = {"versions": machine.versions(), "snapshots": []}
    for file in files:
        snapshot = load_snapshot(file)
        found = compare_with_data(
            snapshot, names, data, inception, accelerator, say if is_main() else None
        )
        if is_main():
            report(snapshot, found)
        content["snapshots"].append(figures(snapshot, found))
        if is_main() and json_file:  # each time, as a later one may fail
            write_json(json_file, content)
    if is_main() and json_file:
        click.echo(f"all results in {results_in}")
    accelerator.wait_for_everyone()
    accelerator.end_training()


def figures(snapshot: "Snapshot", found: "Comparison") -> dict[str, Any]:
    """A snapshot's part of the JSON file."""
    data = {"source": found.source, "images": found.count, "identity": found.identity}
    return {
        "snapshot": str(snapshot.file),
        "nimg": snapshot.nimg,
        "resolution": snapshot.resolution,
        "data": data,
        "metrics": found.results,
    }


def report(snapshot: "Snapshot", found: "Comparison") -> None:
    """Print the results, and record them in the snapshot's run if they are of its own data."""
    from progan.metrics.reference_data import run_of

    show(snapshot, found)
    for line in repeats(found.metrics, found.count, found.results):
        click.echo(line)
    if run := run_of(snapshot.file):
        if snapshot.length is not None:
            click.echo("  (not recorded in the run, whose results are of its own average)")
        elif found.identity == snapshot.data:
            keep(run, snapshot, found.results)
        else:
            click.echo("  (not recorded in the run, which was not trained on these images)")


def show(snapshot: "Snapshot", found: "Comparison") -> None:
    """A line for each metric, with the details that it must be compared with."""
    full, results = snapshot.config.network.resolution, found.results
    size = f"{snapshot.resolution}x{snapshot.resolution}"
    enlarged = "" if snapshot.resolution == full else f", enlarged to {full}x{full}"
    click.echo(
        f"{snapshot.file}: {snapshot.nimg / 1000:,.10g} kimg, {size}{enlarged}, compared with "
        f"{found.count:,} images of {found.source}"
    )
    for name in [metric.name for metric in found.metrics]:
        more = {key[len(name) + 1 :]: v for key, v in results.items() if key.startswith(name + "_")}
        details = ", ".join(f"{detail(key)} {v:.4g}" for key, v in more.items())
        value = f"{results[name]:.4g}" if name in results else ""
        click.echo(f"  {name:<12}{value:<10}{details}")


def detail(key: str) -> str:
    """A part of a metric in words: `at 16x16` for `at_16`."""
    return WORDS.get(key, re.sub(r"at_(\d+)", r"at \1x\1", key).replace("_", " "))


def repeats(metrics: "list[Metric]", count: int, results: dict[str, float]) -> list[str]:
    """Remarks on metrics that want more reals than there are."""
    said = []
    if more := [m.name for m in metrics if m.repeats and (m.reals or 0) > count]:
        said.append(f"each of the {count:,} images counts several times in {', '.join(more)}")
    with_floor = [m for m in metrics if f"{m.name}_floor" in results]
    if floors := [m for m in with_floor if m.floor_size(count) < m.fakes]:
        half = floors[0].floor_size(count)
        said.append(
            f"the floor of {', '.join(m.name for m in floors)} compares {half:,} reals with "
            f"{half:,} others; with as many images as the fakes have, it would be lower"
        )
    return [f"  ({line})" for line in said]


def keep(run: Path, snapshot: "Snapshot", results: dict[str, float]) -> None:
    """Into the run's metrics.jsonl and, as curves of their own, TensorBoard."""
    from progan.runs.board import write_evaluations
    from progan.runs.folder import check_own
    from progan.runs.records import record

    try:
        check_own(run)
        record(run, snapshot.nimg, results)
        if snapshot.config.run.tracker == "tensorboard":
            write_evaluations(run)
    except (UserError, OSError) as error:
        say(f"not recorded in {run}: {error}")
