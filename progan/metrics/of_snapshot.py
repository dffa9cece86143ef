"""Metrics of a snapshot: what `progan evaluate` and Python's `progan.evaluate` share."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from progan.config.metric_names import parse_list
from progan.config.value_types import check_device
from progan.metrics.evaluate import Evaluation, check_resolution
from progan.metrics.inception import loader
from progan.metrics.inputs import Fakes, Reals
from progan.metrics.metric import Metric
from progan.metrics.reference_cache import ReferenceCache
from progan.metrics.reference_data import as_in_run, cache_of, open_reference_data, source_of
from progan.metrics.registry import make
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import load
from progan.runtime.accelerator import make_accelerator
from progan.runtime.device import take_device
from progan.runtime.distributed import check_same_images
from progan.runtime.errors import UserError
from progan.runtime.launch import is_main
from progan.runtime.paths import to_path
from progan.runtime.progress import Say


def evaluate(
    snapshot: Snapshot | str | Path,
    metrics: str | Sequence[str] = ("swd16k", "msssim10k"),
    data: str | Path | None = None,
    *,
    device: str = "auto",
    inception: str | Path | None = None,
) -> dict[str, float]:
    """Compare a snapshot with data; returns each metric's value, and details under longer names.

    Unlike `progan evaluate` it records nothing in the run.

    Args:
        snapshot: one that `load` has returned, a run (its newest snapshot) or a snapshot's file.
        metrics: names such as "swd16k", "fid50k", or of fewer images "swd2000".
        data: a known data set or images to compare with. None: what the run was trained on.
        device: "auto" (a GPU if there is one), "cpu", "cuda", …; the snapshot stays there.
        inception: weights of Inception-v3 for fid, kid, is and pr. None: torch-fidelity downloads
            them, once.

    Raises:
        UserError: something does not fit; the message says what, and what to do.
    """
    listed = [metrics] if isinstance(metrics, str) or not isinstance(metrics, Iterable) else metrics
    names = parse_list(",".join(map(str, listed)), None)
    try:
        taken = take_device(check_device(str(device)))  # a torch.device, too
    except ValueError as error:
        raise UserError(f"device '{device}' {error}") from None
    if not isinstance(snapshot, Snapshot):
        snapshot = load(snapshot)
    accelerator = make_accelerator(Path("."), None, device=taken)
    say = print if is_main() else None
    comparison = compare_with_data(snapshot, names, data, inception, accelerator, say)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return comparison.results


@dataclass(frozen=True)
class Comparison:
    """What metrics have found of a snapshot.

    Args:
        results: each metric's value, and details under longer names.
        source, count, identity: the data it was compared with; the snapshot's own identity if it
            was trained on them.
    """

    metrics: list[Metric]
    results: dict[str, float]
    source: str
    count: int
    identity: str


def compare_with_data(
    snapshot: Snapshot,
    names: Sequence[str],
    data: str | Path | None,
    inception: str | Path | None,
    accelerator: Accelerator,
    say: Say,
) -> Comparison:
    """All metrics of one snapshot, on all processes together."""
    config, device = snapshot.config, accelerator.device
    full, mirror = config.network.resolution, config.data.mirror
    check_resolution(snapshot.file, full)
    if inception is None:
        inception = as_in_run(snapshot).run.inception
    weights = None if inception is None else to_path(inception, "run.inception or --inception")
    metrics = [make(name, loader(weights, device)) for name in names]
    images = open_reference_data(
        snapshot, None if data is None else str(data), say or (lambda line: None)
    )
    with closing(images):
        check_same_images(accelerator, images.identity)
        fakes = Fakes(snapshot.G.to(device), images, snapshot.resolution, snapshot.alpha, full)
        reals = Reals(images, full, mirror, device)
        kept = ReferenceCache(cache_of(snapshot), images, full, mirror)
        results = Evaluation(reals, accelerator, kept, say).measure(metrics, fakes)
        source = source_of(snapshot, data)
        identity = images.identity
        if snapshot.data and images.is_identified_by(snapshot.data):
            identity = snapshot.data
        return Comparison(metrics, results, source, images.count, identity)
