"""Checkpoints: everything needed to go on, in files that cannot run code when they are loaded."""

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
    """How far a run is: all that a checkpoint needs to know beside weights."""

    nimg: int = 0
    tick: int = 0
    seconds: float = 0.0  # spent on updates, over all starts
    compiled: bool | None = None  # whether its phase's updates are; None: not yet decided

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
        """In words, where there is none."""
        return max(self.files(), default="the beginning")

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
                    f"{name}: {brief(error)}; start anew with another --run-dir"
                ) from None


def checkpoints_of(run_dir: Path) -> list[Path]:
    """Oldest first."""
    return sorted((run_dir / "checkpoints").glob("checkpoint-*.pt"))


def read(path: Path) -> dict[str, Any]:
    """The state in a checkpoint file, if it is whole.

    Raises:
        Exception: of whatever kind damage makes the readers raise.
    """
    with zipfile.ZipFile(path) as archive:
        # What is packed could unfold to more than memory holds; torch packs nothing.
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise ValueError("it is compressed, so it was not written by progan")
        if damaged := archive.testzip():  # torch itself does not compare checksums
            raise ValueError(f"the checksum of {damaged} is wrong")
    return torch.load(path, map_location="cpu", weights_only=True)
