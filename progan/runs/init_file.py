"""Another run's networks, from any of its files, read so that they can do no harm."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from progan.config.load import as_begun, validate
from progan.config.settings import NetworkConfig
from progan.runs.checkpoint import checkpoints_of, read
from progan.runs.origin import Origin
from progan.runs.snapshot_file import load_snapshot
from progan.runs.which_run import other_run
from progan.runs.which_snapshot import find_snapshot, split
from progan.runtime.errors import UserError, brief


class Other(NamedTuple):
    """Another run's networks.

    Args:
        weights: of `G` and `G_ema`, and of `D`, which a snapshot does not have.
        labels: names of its labels, where they are known.
    """

    origin: Origin
    network: NetworkConfig
    weights: dict[str, dict[str, Tensor]]
    c_dim: int
    labels: tuple[str, ...] = ()


def read_other(path: Path) -> Other:
    """The networks of a snapshot or a checkpoint, or of a run's newest file, or of RUN@WHICH.

    They stay in memory until `forget_other`: a start asks for them when it checks its settings, and
    again when it takes them.

    Raises:
        UserError: there are none, or they are damaged.
    """
    file = file_of(path)
    found = os.stat(file)
    return read_once(file, found.st_mtime_ns, found.st_size)


def forget_other() -> None:
    """Gives the memory back that `read_other` has taken."""
    read_once.cache_clear()


def file_of(path: Path) -> Path:
    """The file that has the networks; raises UserError if there is none."""
    run, chosen = split(path)
    if not run.exists():
        raise UserError(f"--init {path}: no such run, checkpoint or snapshot{other_run(run)}")
    if chosen is None and not path.is_dir():
        return path
    kept = checkpoints_of(path) if chosen is None else []
    return kept[-1] if kept else find_snapshot(path)


@lru_cache(1)
def read_once(file: Path, changed: int, size: int) -> Other:
    """`read_other` for a file as it is now, by its time and its bytes."""
    if file.suffix != ".pt":
        return of_snapshot(file)
    try:
        return of_checkpoint(file)
    except Exception as error:  # whatever damage makes the reader raise
        raise UserError(
            f"--init {file} cannot be read as a checkpoint of progan ({brief(error)}); give "
            "another one, or a snapshot"
        ) from None


def of_snapshot(file: Path) -> Other:
    """The averaged generator, for the live one, too."""
    snapshot = load_snapshot(file)
    weights = snapshot.G.state_dict()
    labels = snapshot.labels.names if snapshot.labels else ()
    origin = snapshot.origin
    if origin is None or snapshot.nimg:  # else nobody has trained since: it is still the other's
        origin = origin_of(file, snapshot.nimg, snapshot.resolution, snapshot.licence)
    both = {"G": weights, "G_ema": weights}
    return Other(origin, snapshot.config.network, both, snapshot.G.c_dim, tuple(labels))


def of_checkpoint(file: Path) -> Other:
    """Both networks and the average.

    Raises:
        Exception: of any type, if the file is damaged.
    """
    state = read(file)
    if "settings" not in state:
        raise ValueError("an early version wrote it, without settings")
    config = validate(as_begun(state["settings"]), "its settings")
    nimg = state["progress"]["nimg"]
    resolution, _ = config.make_schedule().reached(nimg)
    weights = {name: state[name] for name in ("G", "D", "G_ema")}
    c_dim = weights["G"]["blocks.4.dense.weight"].shape[1] - config.network.z_dim
    begun = Origin.of(state["origin"]) if "origin" in state else None
    if begun is None or nimg:  # else nobody has trained since: they are still the other's
        licence = begun.licence if begun else state.get("licence")  # older imports had this alone
        begun = origin_of(file, nimg, resolution, licence)
    return Other(begun, config.network, weights, c_dim)


def origin_of(file: Path, nimg: int, resolution: int, licence: str | None = None) -> Origin:
    """Without the path, which is nobody else's business."""
    with open(file, "rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    inner = file.resolve().parent
    of_run = inner.name in ("checkpoints", "snapshots")
    name = f"{inner.parent.name}/{file.name}" if of_run else file.name
    return Origin(name, sha256, nimg, resolution, licence)
