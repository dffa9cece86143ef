"""Snapshots in files that cannot run code."""

import hashlib
import json
import re
from collections.abc import Sequence
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
from progan.model.growing import check_finite
from progan.model.networks import Generator
from progan.runs.origin import Origin
from progan.runs.snapshot import Snapshot
from progan.runs.which_snapshot import find_snapshot, to_source
from progan.runtime.disk import write_atomically
from progan.runtime.errors import UserError, brief
from progan.runtime.text import printable, stamp

DAMAGE = SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError
MOST_YAML = 100_000  # characters of a config, which takes about 3,000
MOST_HEADER = 10 * 2**20  # bytes of config, names and shapes; unpacked they take ten times as many
MOST_EXAMPLES = 64  # label rows in a snapshot: as many as a grid has cells


def snapshot_path(run_dir: Path, nimg: int) -> Path:
    return run_dir / "snapshots" / f"snapshot-{stamp(nimg)}.safetensors"


def average_path(run_dir: Path, length: float, nimg: int) -> Path:
    """Where a power average goes that is made after training."""
    return run_dir / "snapshots" / f"average-{length:g}-{stamp(nimg)}.safetensors"


def save_snapshot(snapshot: Snapshot) -> None:
    """Write its `.safetensors` file."""
    write_tensors(snapshot.file, snapshot.G.state_dict(), metadata_of(snapshot))


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file with the checksum of all that is in it."""
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = serialize(tensors, metadata | {"sha256": digest(tensors, metadata)})
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def metadata_of(snapshot: Snapshot) -> dict[str, str]:
    """All that sampling needs besides weights.

    Here `classes` are the names of classes or attributes; attributes have `examples`, too: rows
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
    if snapshot.length is not None:
        metadata["length"] = json.dumps(snapshot.length)
    if snapshot.origin is not None:
        metadata["origin"] = json.dumps(snapshot.origin.state_dict())
    if snapshot.licence is not None:
        metadata["licence"] = snapshot.licence
    if labels and labels.kind == "attributes":
        rows = labels.values.tolist()
        metadata["examples"] = json.dumps(["".join(map(str, row)) for row in rows])
    return metadata


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
    fades = alpha is not None  # then there is a smaller resolution
    right = type(alpha) in (int, float) and 0 <= alpha <= 1 and resolution > known[0]
    if not 0 <= nimg <= 1000 * LIMIT or (fades and not right):
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
        run_or_snapshot: may be RUN@WHICH, too: "runs/demo@best"; "hf://user/model" of the Hugging
            Face Hub; or "demo", which comes with progan.
        which: of a run's snapshots the "newest"; the "best" by the metric in `run.metrics`;
            "best-METRIC"; or a number: the one at so many thousand images (kimg).

    Raises:
        UserError: there is none, or several metrics have a best one; or the file is damaged.
    """
    return load_snapshot(find_snapshot(to_source(run_or_snapshot, "the run or snapshot"), which))


def load_snapshot(path: Path) -> Snapshot:
    """Read a snapshot file. Its weights may be halves, as those of the one that comes with progan.

    Raises:
        UserError: it is not a snapshot of progan, or is damaged.
    """
    try:
        snapshot, tensors = read_tensors(path, ("F32", "F16"))
        snapshot.G.load_state_dict(tensors)
    except DAMAGE as error:
        if version := newer_version(path):
            raise UserError(
                f"{path} was written by progan {version}, and progan {__version__} cannot read it "
                f"({brief(error)}); install the newer version"
            ) from None
        raise UserError(
            f"{path} is not a snapshot of progan ({brief(error)}); give a run, for its newest one, "
            "or one of the .safetensors files in its snapshots/"
        ) from None
    try:
        check_finite(tensors)
    except ValueError as error:
        raise UserError(
            f"{path} is of no use: {error}; take an earlier snapshot, or train again"
        ) from None
    snapshot.G.eval().requires_grad_(False)
    snapshot.G.file, snapshot.G.reached = path, (snapshot.resolution, snapshot.alpha)
    return snapshot


def read_tensors(
    path: Path, dtypes: Sequence[str], copies: Sequence[str] = ("",)
) -> tuple[Snapshot, dict[str, Tensor]]:
    """What a file holds: a snapshot, whose generator has not been given them yet, and its tensors.

    Args:
        dtypes: theirs may be any one of these, as safetensors names them.
        copies: of the generator, by what stands before the names of their weights.

    Raises:
        DAMAGE: the file is damaged, or holds something else.
    """
    check_header(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if len(metadata["config"]) > MOST_YAML:
            raise ValueError(f"its config has {len(metadata['config']):,} characters")
        content = as_begun(parse_yaml(metadata["config"], "its config"))
        config = validate(content, "its config")
        progress = read_progress(metadata, config)
        labels = read_labels(metadata)
        length = json.loads(metadata.get("length", "null"))
        if not (length is None or type(length) is float and 0 < length < 1):
            raise ValueError("its length is none of an average")
        origin = Origin.of(json.loads(metadata["origin"])) if "origin" in metadata else None
        c_dim = len(labels.names) if labels else 0
        settings = config.network.generator_settings() | {"c_dim": c_dim}
        check_shapes(file, settings, dtypes, copies)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata["sha256"] != digest(tensors, metadata):
        raise ValueError("its checksum is wrong: it is damaged")
    G, data = Generator(**settings), metadata.get("data")
    licence = metadata.get("licence")
    return Snapshot(path, G, config, *progress, labels, data, length, origin, licence), tensors


def newer_version(path: Path) -> str | None:
    """The version of progan that wrote a snapshot, if it is newer than this one."""
    try:
        check_header(path)
        with safe_open(path, framework="pt") as file:
            version = (file.metadata() or {})["progan"]
    except DAMAGE:
        return None
    numbers = [[int(n) for n in re.findall(r"\d{1,9}", v)] for v in (version, __version__)]
    return printable(version[:20]) if numbers[0] > numbers[1] else None


def check_header(path: Path) -> None:
    """Raises ValueError if its header is too long to be read, or it is no file at all."""
    if not path.is_file():  # a pipe would be waited for
        raise ValueError("it is no file")
    with open(path, "rb") as file:
        if int.from_bytes(file.read(8), "little") > MOST_HEADER:
            raise ValueError("it does not begin as a .safetensors file does")


def check_shapes(
    file: safe_open, settings: dict[str, Any], dtypes: Sequence[str], copies: Sequence[str]
) -> None:
    """Check that the file holds what its config asks for, before memory is taken for either.

    Raises:
        ValueError: it does not.
    """
    with torch.device("meta"):
        wanted = Generator(**settings).state_dict()
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    found = {name: tuple(part.get_shape()) for name, part in slices.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    right = found == {copy + name: shape for copy in copies for name, shape in shapes.items()}
    if not right or {part.get_dtype() for part in slices.values()} not in [{d} for d in dtypes]:
        raise ValueError("its weights are not those of the network that its config describes")
