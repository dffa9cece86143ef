"""The data that a snapshot is compared with: its own run's, or other data given by the user."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from progan.config.config import Config
from progan.config.settings import DataConfig
from progan.data.dataset import Dataset
from progan.data.labels import Labels
from progan.data.opening import open_data
from progan.data.pyramid.format import is_pyramid
from progan.data.sources.find import is_local, is_missing
from progan.data.sources.shards import is_shards
from progan.runs.folder import read_config
from progan.runs.snapshot import Snapshot
from progan.runs.snapshot_file import without_places
from progan.runtime.errors import LabelError, UserError
from progan.runtime.paths import to_path
from progan.runtime.secrets import redact
from progan.runtime.text import printable


def run_of(file: Path) -> Path | None:
    """The run in whose snapshots/ the file lies."""
    folder = file.resolve().parent
    run = folder.parent
    return run if folder.name == "snapshots" and (run / "config.yaml").is_file() else None


def as_in_run(snapshot: Snapshot) -> Config:
    """A snapshot's config with the places of its run: data, cache and weights of Inception.

    A file outside a run may come from anybody, so it chooses none but a known data set.
    """
    config, run = snapshot.config, run_of(snapshot.file)
    if run is not None:
        return config.with_places(read_config(run, []).places())
    return without_places(config)


def cache_of(snapshot: Snapshot) -> Path | None:
    """The cache for results about the data."""
    chosen = as_in_run(snapshot).data.cache
    return Path(chosen) if chosen else None


def source_of(snapshot: Snapshot, data: str | Path | None) -> str:
    """What the images compared with are called: those of `data`, or of the snapshot's run."""
    return printable(redact(str(data or as_in_run(snapshot).data.source)))


def open_reference_data(
    snapshot: Snapshot,
    data: str | None,
    say: Callable[[str], None],
    labels: bool = False,
) -> Dataset:
    """The images that a snapshot is compared with, prepared as its run's.

    Args:
        data: the name or path of other data; None: that of its run.
        labels: with labels, even if the run was trained without.

    Raises:
        UserError: they are not there, or have no labels where some are needed.
    """
    labels = labels or bool(snapshot.labels)
    config = with_data(snapshot, data, labels)
    try:
        images = open_data(config, False, say)
    except LabelError as error:
        # Its remedy, to go without labels, is no help here.
        raise UserError(
            f"{str(error).split('; ')[0]}; here labels are compared: lay the images out as "
            "<class>/<image>, put a labels.csv next to them (docs/data.md, Labels), or give the "
            "same images with labels as --data"
        ) from None
    try:
        if snapshot.labels:
            check_labels(snapshot.labels, images)
    except UserError:
        images.close()
        raise
    as_trained = data is None and labels == snapshot.config.data.labels
    if as_trained and not images.is_identified_by(snapshot.data or ""):
        say(
            f"warning: these {images.count:,} images are not those that it was trained on; some "
            "were changed, added or removed since"
        )
    return images


def with_data(snapshot: Snapshot, data: str | None, labels: bool) -> Config:
    """A snapshot's config with the data to compare with, and with or without labels."""
    file, config = snapshot.file, as_in_run(snapshot)
    changes: dict[str, Any] = {"labels": labels}
    if run_of(file) is None:
        changes["workers"] = None
    source = config.data.source if data is None else data
    if source is None and run_of(file) is None:
        raise UserError(
            f"{file} is not in a run's folder, so its data cannot be found: give --data NAME|PATH"
        )
    if source is None:
        raise UserError(f"{file} does not say what data it was trained on; give --data")
    if data is None and is_missing(source):
        raise UserError(
            f"the data of this run, {source}, is not there; if it has moved, give --data PATH"
        )
    if data is not None:
        changes |= {"source": data, "max_images": None}
        made = ["storage", "drop_copies"]
        prepared = is_local(data) and is_pyramid(to_path(data, "--data"))
        kept = ["fit", "allow_upscale", *made] if prepared else []
        kept += ["device_cache", *made] if is_shards(data) else []
        changes |= {key: getattr(DataConfig(), key) for key in kept}  # it is made already
    return config.model_copy(update={"data": config.data.model_copy(update=changes)})


def check_labels(known: Labels, images: Dataset) -> None:
    """Raises UserError unless the data has the labels that the generator knows."""
    found = images.labels
    if found is None or (found.names, found.kind) != (known.names, known.kind):
        names = found.names if found else ()
        raise UserError(
            f"the labels of {images.title} ({', '.join(names)}) are not those that the "
            f"generator knows ({', '.join(known.names)}); leave --data away, or give images "
            "with its labels"
        )
