"""Snapshots in files that cannot run code, and which file of a run is meant."""

import hashlib
import json
import math
import re
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from progan import __version__
from progan.config.config import Config
from progan.config.load import as_begun, validate
from progan.config.resolutions import resolutions_to
from progan.config.settings import PATHS
from progan.config.value_types import LIMIT
from progan.config.yaml_io import parse_yaml
from progan.data.labels import Labels
from progan.data.sources.find import NAMED
from progan.model.networks import Generator, check_finite
from progan.runs.best import best_files
from progan.runs.snapshot import Snapshot
from progan.runs.which_run import other_run
from progan.runtime.disk import write_atomically
from progan.runtime.errors import UserError, brief
from progan.runtime.paths import to_path
from progan.runtime.text import stamp

MOST_YAML = 100_000  # characters of a config, which takes about 3,000
MOST_HEADER = 10 * 2**20  # bytes of config, names and shapes; unpacked they take ten times as many
MOST_EXAMPLES = 64  # label rows in a snapshot: as many as a grid has cells


def snapshot_path(run_dir: Path, nimg: int) -> Path:
    return run_dir / "snapshots" / f"snapshot-{stamp(nimg)}.safetensors"


def save_snapshot(snapshot: Snapshot) -> None:
    """Write its `.safetensors` file, with all that sampling needs in the metadata.

    There `classes` are the names of classes or attributes; attributes have `examples`, too: rows
    like "0110".
    """
    labels = snapshot.labels
    metadata = {
        "progan": __version__,
        "config": without_places(snapshot.config).to_yaml(),
        "progress": json.dumps([snapshot.nimg, snapshot.resolution, snapshot.alpha]),
        "classes": json.dumps(labels.names if labels else ()),
    }
    if snapshot.data is not None:
        metadata["data"] = snapshot.data
    if labels and labels.kind == "attributes":
        rows = labels.values.tolist()
        metadata["examples"] = json.dumps(["".join(map(str, row)) for row in rows])
    tensors = {name: t.contiguous() for name, t in snapshot.G.state_dict().items()}
    metadata["sha256"] = digest(tensors, metadata)
    content = serialize(tensors, metadata)
    write_atomically(snapshot.file, lambda temporary: temporary.write_bytes(content))


def without_places(config: Config) -> Config:
    """Without paths and addresses: sampling needs none, and a snapshot may go to anybody.

    The name of a known data set stays. `metrics.reference_data` finds the others in the run.
    """
    source = config.data.source if config.data.source in NAMED else None
    return config.with_places(dict.fromkeys(PATHS) | {"data.source": source})


def serialize(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """A safetensors file whose bytes depend on the arguments only.

    The library writes metadata in random order: here its header is written again.
    """
    file = save(tensors)
    start = 8 + int.from_bytes(file[:8], "little")
    header = {"__metadata__": metadata, **json.loads(file[8:start])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of 8
    return len(text).to_bytes(8, "little") + text + file[start:]


def digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 of everything in a snapshot except the digest itself."""
    content = {key: value for key, value in metadata.items() if key != "sha256"}
    found = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode())
        found.update(tensor.cpu().numpy().data)
    return found.hexdigest()


def read_progress(metadata: dict[str, str], config: Config) -> tuple[int, int, float | None]:
    """Images shown, resolution and alpha.

    Raises:
        ValueError: they are not what `save_snapshot` writes.
    """
    nimg, resolution, alpha = json.loads(metadata["progress"])
    known = resolutions_to(config.network.resolution)
    if type(nimg) is not int or type(resolution) is not int or resolution not in known:
        raise ValueError(f"its progress is not of a network that grows to {known[-1]}x{known[-1]}")
    if not 0 <= nimg <= 1000 * LIMIT or not (alpha is None or 0 <= alpha <= 1):
        raise ValueError("its progress is beyond any run's")
    return nimg, resolution, alpha


def read_labels(metadata: dict[str, str]) -> Labels | None:
    """Each class once, or the example rows of attributes; None without labels.

    Raises:
        ValueError: they are not what `save_snapshot` writes.
    """
    names = json.loads(metadata["classes"])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("its classes are no list of names")
    if "examples" not in metadata:
        return Labels.each_class(tuple(names)) if names else None
    rows = json.loads(metadata["examples"])
    if not (names and isinstance(rows, list) and 0 < len(rows) <= MOST_EXAMPLES):
        raise ValueError(f"its examples are not 1 to {MOST_EXAMPLES} rows of attributes")
    if not all(isinstance(row, str) and re.fullmatch("[01]+", row) for row in rows):
        raise ValueError("its examples hold something else than 0 and 1")
    if {len(row) for row in rows} != {len(names)}:
        raise ValueError(f"its examples are not of {len(names)} attributes")
    return Labels(tuple(names), np.array([list(row) for row in rows]).astype(np.uint8))


def load(run_or_snapshot: str | Path, which: str | float = "newest") -> Snapshot:
    """Read a snapshot of a run, or a snapshot's file.

    Args:
        which: of a run's snapshots the "newest"; the "best" by the metric in `run.metrics`; or a
            number: the one at so many thousand images (kimg).

    Raises:
        UserError: there is none, or several metrics have a best one; or the file is damaged.
    """
    return load_snapshot(find_snapshot(to_path(run_or_snapshot, "the run or snapshot"), which))


def find_snapshot(path: Path, which: str | float = "newest") -> Path:
    """The file that `load` reads."""
    if not path.exists():
        raise UserError(f"no such run or snapshot: {path}{other_run(path)}")
    if not path.is_dir():
        if which != "newest":
            raise UserError(f"which={which!r} chooses from a run, and {path} is one snapshot")
        return path
    files = snapshots_of(path)
    by_kimg = {kimg_of(file): file for file in (*snapshots_of(path, "best"), *files)}
    if not files and (which == "newest" or not by_kimg):
        raise UserError(
            f"no snapshots in {path}: give a run that has trained, or a .safetensors file"
            f"{other_run(path)}"
        )
    if which == "best":
        return find_best(path)
    if which == "newest":
        return files[-1]
    if not isinstance(which, Real) or which not in by_kimg:
        known = ", ".join(f"{kimg:g}" for kimg in sorted(by_kimg))
        raise UserError(
            f"{path} has no snapshot {which!r}; give 'newest', 'best' or one of these kimg: {known}"
        )
    return by_kimg[float(which)]


def find_best(run_dir: Path) -> Path:
    """The best snapshot by the one metric of the run."""
    files = [paths[-1] for paths in best_files(run_dir).values()]
    if not files:
        raise UserError(f"{run_dir} keeps no best snapshot: it was trained without run.metrics")
    if len(files) > 1:
        raise UserError(
            "several metrics have a best snapshot, so give the file of one: "
            + ", ".join(map(str, files))
        )
    return files[0]


def kimg_of(file: Path) -> float:
    """The thousand images in a snapshot's name; nan for a name that progan does not give."""
    match = re.fullmatch(r".*-(\d+\.\d{3})", file.stem)
    return float(match[1]) if match else math.nan


def snapshots_of(run_dir: Path, kind: str = "snapshot") -> list[Path]:
    """A run's snapshots, oldest first; of the kind "best" those that were best by a metric."""
    return sorted((run_dir / "snapshots").glob(f"{kind}-*.safetensors"))


def load_snapshot(path: Path) -> Snapshot:
    """Read a snapshot file.

    Raises:
        UserError: it is not a snapshot of progan, or is damaged.
    """
    try:
        check_header(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if len(metadata["config"]) > MOST_YAML:
                raise ValueError(f"its config has {len(metadata['config']):,} characters")
            content = as_begun(parse_yaml(metadata["config"], "its config"))
            config = validate(content, "its config")
            nimg, resolution, alpha = read_progress(metadata, config)
            labels = read_labels(metadata)
            c_dim = len(labels.names) if labels else 0
            settings = config.network.generator_settings() | {"c_dim": c_dim}
            check_shapes(file, settings)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata["sha256"] != digest(tensors, metadata):
            raise ValueError("its checksum is wrong: it is damaged")
        G = Generator(**settings)
        G.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise UserError(
            f"{path} is not a snapshot of progan ({brief(error)}); "
            "snapshots are the .safetensors files in a run's snapshots/"
        ) from None
    try:
        check_finite(tensors)
    except ValueError as error:
        raise UserError(
            f"{path} is of no use: {error}; take an earlier snapshot, or train again"
        ) from None
    G.eval().requires_grad_(False)
    data = metadata.get("data")
    return Snapshot(path, G, config, nimg, resolution, alpha, labels, data)


def check_header(path: Path) -> None:
    """Raises ValueError if its header is too long to be read, or it is no file at all."""
    if not path.is_file():  # a pipe would be waited for
        raise ValueError("it is no file")
    with open(path, "rb") as file:
        if int.from_bytes(file.read(8), "little") > MOST_HEADER:
            raise ValueError(f"its header is to have more than {MOST_HEADER:,} bytes")


def check_shapes(file: safe_open, settings: dict[str, Any]) -> None:
    """Check that the file holds what its config asks for, before memory is taken for either.

    Raises:
        ValueError: it does not.
    """
    with torch.device("meta"):
        wanted = Generator(**settings).state_dict()
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    found = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    if found != {name: ("F32", tuple(tensor.shape)) for name, tensor in wanted.items()}:
        raise ValueError("its weights are not those of the network that its config describes")
