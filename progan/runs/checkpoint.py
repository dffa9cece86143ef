"""Checkpoints: everything needed to resume, in files that cannot run code when they are loaded."""

import logging
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from progan.runtime.disk import write_atomically
from progan.runtime.errors import UserError, brief
from progan.runtime.text import stamp

log = logging.getLogger("progan")


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


@dataclass
class Progress:
    """How far a run is: all that a checkpoint needs besides weights."""

    nimg: int = 0
    tick: int = 0
    seconds: float = 0.0  # spent on updates, over all starts
    compiled: bool | None = None  # whether the phase's updates are; None: not decided yet

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(vars(Progress(**state)))


class Checkpoint:
    """Training state in `run_dir/checkpoints`: `Checkpoint(run_dir, G=G, G_opt=optimizer, …)`.

    Everything given by name has `state_dict()` and `load_state_dict()`.
    """

    def __init__(self, run_dir: Path, **parts: Stateful):
        self.run_dir = run_dir
        self.folder = run_dir / "checkpoints"
        self.parts = parts

    def files(self) -> list[Path]:
        """Oldest first."""
        return checkpoints_of(self.run_dir)

    def newest(self) -> Path | str:
        """The newest file; "the beginning" if there is none."""
        return max(self.files(), default="the beginning")

    def save(self, nimg: int, keep: int) -> Path:
        """Write atomically, then remove all but the newest `keep`.

        Files of more images could not be read when this start began; they are renamed so that
        they do not count.
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
        """Restore from the newest file that can be read; returns it, or None if there is none.

        A damaged file gets a warning, and the one before it is used.

        Raises:
            UserError: there are checkpoints and none can be read.
        """
        files = self.files()
        for path in reversed(files):
            try:
                state = read(path)
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
            except (RuntimeError, TypeError, LookupError, AttributeError, ValueError) as error:
                raise UserError(
                    f"{path} does not fit this config or this version of progan: "
                    f"{name}: {brief(error)}; start again with another --run-dir"
                ) from None


def checkpoints_of(run_dir: Path) -> list[Path]:
    """Oldest first."""
    return sorted((run_dir / "checkpoints").glob("checkpoint-*.pt"))


def read(path: Path) -> dict[str, Any]:
    """The state in a checkpoint file, if it is whole.

    Raises:
        Exception: of any type, if the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        # Compressed parts could expand beyond memory; torch compresses nothing.
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise ValueError("it is compressed, so it was not written by progan")
        if damaged := archive.testzip():  # torch does not compare checksums
            raise ValueError(f"the checksum of {damaged} is wrong")
    return torch.load(path, map_location="cpu", weights_only=True)
