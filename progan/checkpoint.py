"""Save and restore training state; export and load the averaged generator.

A *checkpoint* is everything needed to go on; a *snapshot* is the averaged generator and its config,
to use. Neither can run code when it is loaded.
"""

import json
import logging
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from progan import __version__
from progan.config import Config
from progan.disk import write_atomically
from progan.errors import UserError, brief
from progan.networks import Generator
from progan.settings import validate
from progan.yaml_io import parse_yaml

log = logging.getLogger("progan")

MOST_EXAMPLES = 64  # label rows in a snapshot: as many as a grid has cells


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


def stamp(nimg: int) -> str:
    """`nimg` for file names, in kimg, so that names sort by progress: 60160 -> 000060.160."""
    return f"{nimg / 1000:010.3f}"


class Checkpoint:
    """Training state in `run_dir/checkpoints`: `Checkpoint(run_dir, G=G, G_opt=optimizer, …)`.

    Everything given by name has `state_dict()` and `load_state_dict()`.
    """

    def __init__(self, run_dir: Path, **parts: Stateful):
        self.folder = run_dir / "checkpoints"
        self.parts = parts

    def files(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob("checkpoint-*.pt"))

    def save(self, nimg: int, keep: int) -> Path:
        """Write atomically, then remove all but the newest `keep`.

        One of more images that is still there could not be read when this start began; it is put
        aside, so as not to count.
        """
        path = self.folder / f"checkpoint-{stamp(nimg)}.pt"
        state = {name: part.state_dict() for name, part in self.parts.items()}
        write_atomically(path, lambda temporary: torch.save(state, temporary))
        for unread in (file for file in self.files() if file > path):
            unread.rename(unread.with_name(unread.name + ".damaged"))
        for old in self.files()[:-keep]:
            old.unlink(missing_ok=True)
        return path

    def load_newest(self) -> Path | None:
        """Restore from the newest file that can be read; `None` if there is none.

        A damaged file is named in a warning and the one before it used.

        Raises:
            UserError: there are checkpoints and none can be read.
        """
        files = self.files()
        for path in reversed(files):
            try:
                with zipfile.ZipFile(path) as archive:  # torch itself does not compare checksums
                    if damaged := archive.testzip():
                        raise ValueError(f"the checksum of {damaged} is wrong")
                state = torch.load(path, map_location="cpu", weights_only=True)
                missing = self.parts.keys() - state.keys()
                if missing:
                    raise ValueError(f"it lacks {', '.join(sorted(missing))}")
            except Exception as error:  # whatever damage makes the reader raise
                log.warning(
                    "checkpoint %s cannot be read (%s); trying the one before", path, brief(error)
                )
                continue
            self.restore(state, path)
            return path
        if files:
            raise UserError(
                f"none of the {len(files)} checkpoints in {self.folder} can be read; "
                "start again with another --run-dir"
            )
        return None

    def restore(self, state: dict[str, Any], path: Path) -> None:
        for name, part in self.parts.items():
            try:
                part.load_state_dict(state[name])
            except UserError:
                raise
            except (RuntimeError, TypeError, KeyError, ValueError) as error:
                raise UserError(
                    f"{path} does not fit this config or this version of progan: "
                    f"{name}: {brief(error)}; start anew with another --run-dir"
                ) from None


@dataclass(frozen=True)
class Snapshot:
    """The averaged generator as it was at `nimg`."""

    G: Generator
    config: Config
    nimg: int
    resolution: int
    alpha: float | None
    classes: tuple[str, ...]
    examples: np.ndarray | None = None  # of attributes: label rows of the data, uint8 [n, K]


def snapshot_path(run_dir: Path, nimg: int) -> Path:
    return run_dir / "snapshots" / f"snapshot-{stamp(nimg)}.safetensors"


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """One `.safetensors` file with all that sampling needs in its metadata.

    With `examples`, rows like "0110", `classes` are attributes.
    """
    metadata = {
        "progan": __version__,
        "config": snapshot.config.to_yaml(),
        "progress": json.dumps([snapshot.nimg, snapshot.resolution, snapshot.alpha]),
        "classes": json.dumps(snapshot.classes),
    }
    if snapshot.examples is not None:
        rows = snapshot.examples.tolist()
        metadata["examples"] = json.dumps(["".join(map(str, row)) for row in rows])
    tensors = {name: t.contiguous() for name, t in snapshot.G.state_dict().items()}
    write_atomically(path, lambda temporary: temporary.write_bytes(save(tensors, metadata)))


def read_labels(metadata: dict[str, str]) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Names of classes or attributes, and of attributes the example rows.

    Raises:
        ValueError: they are not what `save_snapshot` writes.
    """
    names = json.loads(metadata["classes"])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("its classes are no list of names")
    if "examples" not in metadata:
        return tuple(names), None
    rows = json.loads(metadata["examples"])
    if not (names and isinstance(rows, list) and 0 < len(rows) <= MOST_EXAMPLES):
        raise ValueError(f"its examples are not 1 to {MOST_EXAMPLES} rows of attributes")
    if not all(isinstance(row, str) and re.fullmatch("[01]+", row) for row in rows):
        raise ValueError("its examples hold something else than 0 and 1")
    if {len(row) for row in rows} != {len(names)}:
        raise ValueError(f"its examples are not of {len(names)} attributes")
    return tuple(names), np.array([list(row) for row in rows]).astype(np.uint8)


def find_snapshot(path: Path) -> Path:
    """The file itself, or the newest snapshot of a run."""
    if path.is_dir():
        files = sorted((path / "snapshots").glob("snapshot-*.safetensors"))
        if not files:
            raise UserError(
                f"no snapshots in {path}: give a run that has trained, or a .safetensors file"
            )
        return files[-1]
    if not path.exists():
        raise UserError(f"no such run or snapshot: {path}")
    return path


def load_snapshot(path: Path) -> Snapshot:
    """Read a snapshot file.

    Raises:
        UserError: it is not a snapshot of progan, or is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = validate(parse_yaml(metadata["config"], "its config"), "its config")
        nimg, resolution, alpha = json.loads(metadata["progress"])
        classes, examples = read_labels(metadata)
        G = Generator(**config.network.generator_settings(), c_dim=len(classes))
        G.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise UserError(
            f"{path} is not a snapshot of progan ({brief(error)}); "
            "snapshots are the .safetensors files in a run's snapshots/"
        ) from None
    G.eval().requires_grad_(False)
    return Snapshot(G, config, nimg, resolution, alpha, classes, examples)
